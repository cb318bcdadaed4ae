"""Room openadr2: the messages of EiRegisterParty, EiOpt, OadrPoll and the plain response, from XML.

Called by `codec.decode`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any

from market.openadr2.read_events import read_response
from market.openadr2.targets import read_targets
from market.openadr2.values import read_instant
from market.openadr2.xml_in import child, children, content, duration, each, flag, instant, maybe, needed, text, whole
from vpp.domain.errors import InvalidRequest
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

FOREVER_AT = datetime(9999, 12, 31, tzinfo=UTC)
"""End of an opt's window that states no length, as zero means no end elsewhere in 2.0b."""


def query_registration(message: Any) -> QueryRegistration:
    """Read an oadrQueryRegistration."""
    return QueryRegistration(request_id=text(message, "pyld:requestID"))


def create_registration(message: Any) -> CreateRegistration:
    """Read an oadrCreatePartyRegistration; a VEN that does not say polls."""
    pull = maybe(message, "oadr:oadrHttpPullModel")
    return CreateRegistration(
        request_id=text(message, "pyld:requestID"),
        profile=text(message, "oadr:oadrProfileName"),
        transport=text(message, "oadr:oadrTransportName"),
        transport_address=maybe(message, "oadr:oadrTransportAddress") or None,
        report_only=flag(message, "oadr:oadrReportOnly"),
        xml_signature=flag(message, "oadr:oadrXmlSignature"),
        ven_name=text(message, "oadr:oadrVenName"),
        http_pull=pull is None or flag(message, "oadr:oadrHttpPullModel"),
        ven_id=maybe(message, "ei:venID") or None,
        registration_id=maybe(message, "ei:registrationID") or None,
    )


def created_registration(message: Any) -> CreatedRegistration:
    """Read an oadrCreatedPartyRegistration."""
    profiles = list(children(message, "oadr:oadrProfiles/oadr:oadrProfile"))
    transports = (
        each(profile, "oadr:oadrTransports/oadr:oadrTransport/oadr:oadrTransportName") for profile in profiles
    )
    return CreatedRegistration(
        response=read_response(needed(message, "ei:eiResponse")),
        vtn_id=text(message, "ei:vtnID"),
        profiles=tuple(dict.fromkeys(text(profile, "oadr:oadrProfileName") for profile in profiles)),
        transports=tuple(dict.fromkeys(name for names in transports for name in names)),
        ven_id=maybe(message, "ei:venID") or None,
        registration_id=maybe(message, "ei:registrationID") or None,
        poll=duration(message, "oadr:oadrRequestedOadrPollFreq/xcal:duration"),
        service_info=tuple(
            (text(service, "oadr:oadrServiceName"), text(info, "oadr:oadrKey"), text(info, "oadr:oadrValue"))
            for service in children(message, "oadr:oadrServiceSpecificInfo/oadr:oadrService")
            for info in children(service, "oadr:oadrInfo")
        ),
        extensions=tuple(
            (text(extension, "oadr:oadrExtensionName"), text(info, "oadr:oadrKey"), text(info, "oadr:oadrValue"))
            for extension in children(message, "oadr:oadrExtensions/oadr:oadrExtension")
            for info in children(extension, "oadr:oadrInfo")
        ),
    )


def request_reregistration(message: Any) -> RequestReregistration:
    """Read an oadrRequestReregistration."""
    return RequestReregistration(ven_id=text(message, "ei:venID"))


def cancel_registration(message: Any) -> CancelRegistration:
    """Read an oadrCancelPartyRegistration."""
    return CancelRegistration(
        request_id=text(message, "pyld:requestID"),
        registration_id=text(message, "ei:registrationID"),
        ven_id=maybe(message, "ei:venID"),
    )


def canceled_registration(message: Any) -> CanceledRegistration:
    """Read an oadrCanceledPartyRegistration."""
    return CanceledRegistration(
        response=read_response(needed(message, "ei:eiResponse")),
        registration_id=text(message, "ei:registrationID"),
        ven_id=maybe(message, "ei:venID"),
    )


def poll(message: Any) -> Poll:
    """Read an oadrPoll."""
    return Poll(ven_id=text(message, "ei:venID"))


def acknowledge(message: Any) -> Acknowledge:
    """Read an oadrResponse."""
    return Acknowledge(response=read_response(needed(message, "ei:eiResponse")), ven_id=maybe(message, "ei:venID"))


def create_opt(message: Any) -> CreateOpt:
    """Read an oadrCreateOpt: windows of time, or an event, or both."""
    qualified = child(message, "ei:qualifiedEventID")
    return CreateOpt(
        request_id=text(message, "pyld:requestID"),
        opt_id=text(message, "ei:optID"),
        ven_id=text(message, "ei:venID"),
        opt_in=text(message, "ei:optType") == "optIn",
        reason=text(message, "ei:optReason"),
        created_at=read_instant(content(needed(message, "ei:createdDateTime")), "createdDateTime"),
        market_context=maybe(message, "emix:marketContext"),
        windows=tuple(
            _window(found)
            for found in children(message, "xcal:vavailability/xcal:components/xcal:available/xcal:properties")
        ),
        event_id=None if qualified is None else text(qualified, "ei:eventID"),
        modification_number=None if qualified is None else whole(qualified, "ei:modificationNumber"),
        targets=read_targets(child(message, "ei:eiTarget")),
        device_class=read_targets(child(message, "oadr:oadrDeviceClass")),
    )


def _window(properties: Any) -> Interval:
    start_at = instant(properties, "xcal:dtstart/xcal:date-time")
    length = duration(properties, "xcal:duration/xcal:duration") or timedelta(0)
    if start_at is None:
        raise InvalidRequest("vavailability", "", "a dtstart")
    if not length:
        return Interval(start_at, FOREVER_AT)
    try:
        return Interval(start_at, start_at + length)
    except OverflowError as error:
        raise InvalidRequest("vavailability", str(length), "an end within the calendar") from error


def created_opt(message: Any) -> CreatedOpt:
    """Read an oadrCreatedOpt."""
    return CreatedOpt(response=read_response(needed(message, "ei:eiResponse")), opt_id=text(message, "ei:optID"))


def cancel_opt(message: Any) -> CancelOpt:
    """Read an oadrCancelOpt."""
    return CancelOpt(
        request_id=text(message, "pyld:requestID"), opt_id=text(message, "ei:optID"), ven_id=text(message, "ei:venID")
    )


def canceled_opt(message: Any) -> CanceledOpt:
    """Read an oadrCanceledOpt."""
    return CanceledOpt(response=read_response(needed(message, "ei:eiResponse")), opt_id=text(message, "ei:optID"))
