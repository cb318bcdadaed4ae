"""How each message is refused: by the answer the profile names for it, with a response code. Called by `desk`."""

from vpp.domain.openadr2 import (
    Acknowledge,
    CanceledOpt,
    CanceledRegistration,
    CanceledReports,
    CancelOpt,
    CancelRegistration,
    CancelReports,
    CreatedOpt,
    CreatedRegistration,
    CreatedReports,
    CreateOpt,
    CreateRegistration,
    CreateReports,
    Openadr2Message,
    QueryRegistration,
    RegisteredReports,
    RegisterReports,
    Response,
    UpdatedReports,
    UpdateReports,
)


def refusal(message: Openadr2Message, code: int, description: str, *, vtn_id: str) -> Openadr2Message:
    """Return the answer that refuses a message."""
    ven_id = getattr(message, "ven_id", None)
    response = Response(code, description, _request_id(message))
    match message:
        case QueryRegistration() | CreateRegistration():
            return CreatedRegistration(response=response, vtn_id=vtn_id)
        case CancelRegistration():
            return CanceledRegistration(response=response, registration_id=message.registration_id, ven_id=ven_id)
        case RegisterReports():
            return RegisteredReports(response=response, ven_id=ven_id)
        case CreateReports():
            return CreatedReports(response=response, ven_id=ven_id)
        case UpdateReports():
            return UpdatedReports(response=response, ven_id=ven_id)
        case CancelReports():
            return CanceledReports(response=response, ven_id=ven_id)
        case CreateOpt():
            return CreatedOpt(response=response, opt_id=message.opt_id)
        case CancelOpt():
            return CanceledOpt(response=response, opt_id=message.opt_id)
    return Acknowledge(response=response, ven_id=ven_id)


def _request_id(message: Openadr2Message) -> str:
    own = getattr(message, "request_id", None)
    if own is not None:
        return str(own)
    answered = getattr(message, "response", None)
    return "" if answered is None else str(answered.request_id)
