"""Every check of a 2.0b VTN, in the order they are made: the later ones need what the earlier ones were given.

Requirements are named by the service and the element of the published schema they are about.
"""

from collections.abc import Awaitable, Callable

from market.openadr2.conformance import messages, party, services
from market.openadr2.conformance.session import Session2
from vpp.domain.conformance import Check

_Run = Callable[[Session2], Awaitable[str]]
_CHECKS: tuple[tuple[str, str, str, _Run], ...] = (
    ("tls", "Security", "TLS 1.2 or newer", messages.tls),
    ("query", "EiRegisterParty", "oadrQueryRegistration", party.query),
    ("poll-unregistered", "OadrPoll", "oadrPoll of a VEN that is not registered", party.poll_stranger),
    ("event-bad-ven-id", "EiEvent", "oadrRequestEvent, response code 452 or 463", services.request_stranger),
    ("cancel-unknown-registration", "EiRegisterParty", "oadrCancelPartyRegistration/registrationID",
     party.cancel_unknown),
    ("register", "EiRegisterParty", "oadrCreatePartyRegistration", party.create),
    ("register-again", "EiRegisterParty", "oadrCreatePartyRegistration/registrationID", party.again),
    ("poll", "OadrPoll", "oadrPoll", party.poll),
    ("request-event", "EiEvent", "oadrRequestEvent", services.request),
    ("reply-limit", "EiEvent", "oadrRequestEvent/replyLimit", services.reply_limit),
    ("modification-number", "EiEvent", "eventDescriptor/modificationNumber", services.modification_numbers),
    ("created-event-unknown", "EiEvent", "oadrCreatedEvent/qualifiedEventID", services.created_unknown),
    ("register-report", "EiReport", "oadrRegisterReport", services.register_report),
    ("update-report-unknown", "EiReport", "oadrUpdateReport/reportRequestID", services.update_unknown),
    ("create-opt", "EiOpt", "oadrCreateOpt", services.create_opt),
    ("cancel-opt", "EiOpt", "oadrCancelOpt", services.cancel_opt),
    ("cancel-opt-unknown", "EiOpt", "oadrCancelOpt/optID", services.cancel_unknown_opt),
    ("cancel-registration", "EiRegisterParty", "oadrCancelPartyRegistration", party.cancel),
    ("poll-cancelled", "OadrPoll", "oadrPoll after oadrCancelPartyRegistration", party.poll_cancelled),
    ("signature", "Security", "oadrPayload/Signature", messages.signature),
    ("schema-invalid", "Messages", "oadr_20b.xsd", messages.invalid),
    ("no-xml", "Messages", "oadr_20b.xsd", messages.no_xml),
    ("no-such-service", "Simple HTTP", "one address for each service", messages.wrong_service),
    ("document-type", "Messages", "no document type", messages.dtd),
    ("content-type", "Simple HTTP", "Content-Type application/xml", messages.content_type),
    ("request-id", "Messages", "eiResponse/requestID", messages.request_ids),
    ("schema-version", "Messages", "schemaVersion 2.0b", messages.schema_version),
    ("valid", "Messages", "oadr_20b.xsd", messages.valid),
)  # fmt: skip

CHECKS: tuple[Check[Session2], ...] = tuple(Check(*each) for each in _CHECKS)
