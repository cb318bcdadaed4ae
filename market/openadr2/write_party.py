"""Room openadr2: the messages of EiRegisterParty, EiOpt, OadrPoll and the plain response, to XML.

Called by `codec.encode`.
"""

from datetime import timedelta
from itertools import groupby

from market.openadr2.read_party import FOREVER_AT
from market.openadr2.targets import write_targets
from market.openadr2.write_events import qualified_id, write_response
from market.openadr2.xml_out import element, flag, instant, length, maybe, message, start, text
from vpp.domain.openadr2 import (
    Acknowledge,
    CanceledOpt,
    CanceledRegistration,
    CancelOpt,
    CancelRegistration,
    CreatedOpt,
    CreatedRegistration,
    CreateOpt,
    CreateRegistration,
    Poll,
    QueryRegistration,
    RequestReregistration,
)
from vpp.domain.time import Interval


def query_registration(query: QueryRegistration) -> str:
    """Write an oadrQueryRegistration."""
    return message("oadrQueryRegistration", text("pyld:requestID", query.request_id))


def create_registration(create: CreateRegistration) -> str:
    """Write an oadrCreatePartyRegistration."""
    return message(
        "oadrCreatePartyRegistration",
        text("pyld:requestID", create.request_id),
        maybe("ei:registrationID", create.registration_id),
        maybe("ei:venID", create.ven_id),
        text("oadr:oadrProfileName", create.profile),
        text("oadr:oadrTransportName", create.transport),
        maybe("oadr:oadrTransportAddress", create.transport_address),
        flag("oadr:oadrReportOnly", create.report_only),
        flag("oadr:oadrXmlSignature", create.xml_signature),
        maybe("oadr:oadrVenName", create.ven_name or None),
        flag("oadr:oadrHttpPullModel", create.http_pull),
    )


def created_registration(created: CreatedRegistration) -> str:
    """Write an oadrCreatedPartyRegistration; every profile is offered over every transport."""
    transports = element(
        "oadr:oadrTransports",
        *(element("oadr:oadrTransport", text("oadr:oadrTransportName", name)) for name in created.transports),
    )
    profiles = element(
        "oadr:oadrProfiles",
        *(
            element("oadr:oadrProfile", text("oadr:oadrProfileName", profile), transports)
            for profile in created.profiles
        ),
    )
    return message(
        "oadrCreatedPartyRegistration",
        write_response(created.response),
        maybe("ei:registrationID", created.registration_id),
        maybe("ei:venID", created.ven_id),
        text("ei:vtnID", created.vtn_id),
        profiles,
        length("oadr:oadrRequestedOadrPollFreq", created.poll),
        _grouped("oadrServiceSpecificInfo", "oadrService", "oadrServiceName", created.service_info),
        _grouped("oadrExtensions", "oadrExtension", "oadrExtensionName", created.extensions),
    )


def _grouped(around: str, each_name: str, label: str, facts: tuple[tuple[str, str, str], ...]) -> str:
    if not facts:
        return ""
    groups = (
        element(
            f"oadr:{each_name}",
            text(f"oadr:{label}", name),
            *(
                element("oadr:oadrInfo", text("oadr:oadrKey", key), text("oadr:oadrValue", value))
                for _, key, value in group
            ),
        )
        for name, group in groupby(facts, key=lambda fact: fact[0])
    )
    return element(f"oadr:{around}", *groups)


def request_reregistration(request: RequestReregistration) -> str:
    """Write an oadrRequestReregistration."""
    return message("oadrRequestReregistration", text("ei:venID", request.ven_id))


def cancel_registration(cancel: CancelRegistration) -> str:
    """Write an oadrCancelPartyRegistration."""
    return message(
        "oadrCancelPartyRegistration",
        text("pyld:requestID", cancel.request_id),
        text("ei:registrationID", cancel.registration_id),
        maybe("ei:venID", cancel.ven_id),
    )


def canceled_registration(canceled: CanceledRegistration) -> str:
    """Write an oadrCanceledPartyRegistration."""
    return message(
        "oadrCanceledPartyRegistration",
        write_response(canceled.response),
        maybe("ei:registrationID", canceled.registration_id or None),
        maybe("ei:venID", canceled.ven_id),
    )


def poll(asking: Poll) -> str:
    """Write an oadrPoll."""
    return message("oadrPoll", text("ei:venID", asking.ven_id))


def acknowledge(answer: Acknowledge) -> str:
    """Write an oadrResponse."""
    return message("oadrResponse", write_response(answer.response), maybe("ei:venID", answer.ven_id))


def create_opt(opt: CreateOpt) -> str:
    """Write an oadrCreateOpt."""
    windows = "".join(element("xcal:available", _window(window)) for window in opt.windows)
    event = "" if opt.event_id is None else qualified_id(opt.event_id, opt.modification_number or 0)
    return message(
        "oadrCreateOpt",
        text("ei:optID", opt.opt_id),
        text("ei:optType", "optIn" if opt.opt_in else "optOut"),
        text("ei:optReason", opt.reason),
        maybe("emix:marketContext", opt.market_context),
        text("ei:venID", opt.ven_id),
        element("xcal:vavailability", element("xcal:components", windows)) if windows else "",
        instant("ei:createdDateTime", opt.created_at),
        text("pyld:requestID", opt.request_id),
        event,
        write_targets("ei:eiTarget", opt.targets),
        write_targets("oadr:oadrDeviceClass", opt.device_class) if opt.device_class else "",
    )


def _window(window: Interval) -> str:
    lasting = timedelta(0) if window.end_at >= FOREVER_AT else window.duration
    return element("xcal:properties", start(window.start_at), length("xcal:duration", lasting))


def created_opt(created: CreatedOpt) -> str:
    """Write an oadrCreatedOpt."""
    return message("oadrCreatedOpt", write_response(created.response), text("ei:optID", created.opt_id))


def cancel_opt(cancel: CancelOpt) -> str:
    """Write an oadrCancelOpt."""
    return message(
        "oadrCancelOpt",
        text("pyld:requestID", cancel.request_id),
        text("ei:optID", cancel.opt_id),
        text("ei:venID", cancel.ven_id),
    )


def canceled_opt(canceled: CanceledOpt) -> str:
    """Write an oadrCanceledOpt."""
    return message("oadrCanceledOpt", write_response(canceled.response), maybe("ei:optID", canceled.opt_id or None))
