"""Room openadr2: whole messages, in and out, as bytes. Called by `ven` only.

Outgoing XML comes from openleadr's templates, which do not escape; so every text is escaped here.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4
from xml.sax.saxutils import escape

from cryptography.exceptions import UnsupportedAlgorithm
from openleadr.errors import FingerprintMismatch
from openleadr.messaging import create_message, etree, validate_xml_signature
from signxml.exceptions import SignXMLException

from market.openadr2.patches import Element, parse_document
from market.openadr2.wire import NAMESPACES, duration_of, instant_of, read_event, text_of
from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval
from vpp.domain.ven import (
    Distribution,
    EventAnswer,
    NotUnderstood,
    Registration,
    RegistrationCancelled,
    ReportedPower,
    ReportRequest,
    ReportsAsked,
    ReportsCancelled,
    ReportsOffered,
    VenMessage,
)

SPECIFIER_ID = "vpp-telemetry-usage"
POINT_ID = "vpp-delivered-power"
MIN_SAMPLING = timedelta(minutes=1)
MAX_SAMPLING = timedelta(hours=1)
READING_TYPE = "Summed"

_SIGNATURE_ERRORS = (
    SignXMLException,
    FingerprintMismatch,
    UnsupportedAlgorithm,
    ValueError,
    AttributeError,  # the library looks into a certificate that is not there
    TypeError,
)


@dataclass(frozen=True, slots=True)
class Signing:
    """Our certificate and key (PEM) for signatures, and the fingerprint the VTN's must have."""

    cert: bytes | None = None
    key: bytes | None = None
    passphrase: str | None = None
    vtn_fingerprint: str | None = None


def new_id() -> str:
    """Return an id for a request."""
    return str(uuid4())


def encode(kind: str, signing: Signing, **payload: Any) -> bytes:
    """Return a message of a kind, signed where we have a key."""
    text = create_message(kind, cert=signing.cert, key=signing.key, passphrase=signing.passphrase, **_escaped(payload))
    return bytes(text, "utf-8")


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return escape(value)
    if isinstance(value, Mapping):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_escaped(item) for item in value]
    return value


def decode(body: bytes, signing: Signing) -> tuple[str, Element]:
    """Return the kind and the element of a message.

    Raises:
        InvalidRequest: harmful, invalid, or not signed by the expected certificate.
    """
    root = parse_document(body)
    if signing.vtn_fingerprint:
        _verify(root, signing.vtn_fingerprint)
    message = root.find("oadr:oadrSignedObject/*", NAMESPACES)
    message = root if message is None else message
    return str(etree.QName(message).localname), message


def empty() -> Element:
    """Return a message that says nothing."""
    return etree.Element("nothing")


def _verify(root: Element, fingerprint: str) -> None:
    try:
        validate_xml_signature(root, fingerprint)
    except (
        SignXMLException,
        FingerprintMismatch,
        UnsupportedAlgorithm,
        ValueError,
        AttributeError,
        TypeError,
    ) as error:
        raise InvalidRequest("signature", str(error)[:200], f"the VTN's own, of {fingerprint}") from error


def response_of(message: Element) -> tuple[int, str]:
    """Return the code and description of a message's eiResponse; 200 where it has none."""
    code = text_of(message, "ei:eiResponse/ei:responseCode")
    return int(code) if code.isdecimal() else 200, text_of(message, "ei:eiResponse/ei:responseDescription")


def read_registration(message: Element) -> Registration | None:
    """Return the registration a VTN granted, or None where it granted none."""
    ven_id, registration_id = text_of(message, "ei:venID"), text_of(message, "ei:registrationID")
    wanted = text_of(message, "oadr:oadrRequestedOadrPollFreq/xcal:duration")
    poll_s = duration_of(wanted).total_seconds() if wanted else None
    return Registration(ven_id, registration_id, poll_s) if ven_id and registration_id else None


def read_message(
    kind: str, message: Element, *, source: str, program_of: Mapping[str, str], ven_id: str
) -> VenMessage | None:
    """Return what a VTN tells us on a poll; None for a plain oadrResponse."""
    request_id = text_of(message, "pyld:requestID")
    if kind == "oadrResponse":
        return None
    if kind == "oadrDistributeEvent":
        events = message.findall("oadr:oadrEvent", NAMESPACES)
        about = {"request_id": request_id, "source": source, "ven_id": ven_id}
        return Distribution(request_id, tuple(read_event(event, program_of=program_of, **about) for event in events))
    if kind == "oadrCreateReport":
        return read_report_requests(message, request_id)
    if kind == "oadrCancelReport":
        return read_report_cancel(message)
    if kind == "oadrRegisterReport":
        return ReportsOffered(request_id)
    if kind == "oadrCancelPartyRegistration":
        return RegistrationCancelled(request_id, text_of(message, "ei:registrationID"))
    return NotUnderstood(kind)


def read_report_requests(message: Element, request_id: str) -> ReportsAsked:
    """Return the reports asked for, told apart by whether we offer them."""
    requests, refused = [], []
    for element in message.findall("oadr:oadrReportRequest", NAMESPACES):
        try:
            requests.append(_report_request(element))
        except InvalidRequest as error:
            refused.append(f"{text_of(element, 'ei:reportRequestID')}: {error}")
    return ReportsAsked(request_id, tuple(requests), tuple(refused))


def _report_request(element: Element) -> ReportRequest:
    specifier = element.find("ei:reportSpecifier", NAMESPACES)
    specifier_id = text_of(specifier, "ei:reportSpecifierID")
    points = [text_of(p, "ei:rID") for p in specifier.findall("ei:specifierPayload", NAMESPACES)]
    if specifier_id != SPECIFIER_ID or points != [POINT_ID]:
        raise InvalidRequest("rID", f"{specifier_id}: {', '.join(points)}", f"{SPECIFIER_ID}: {POINT_ID}")
    granularity_s = _seconds(text_of(specifier, "xcal:granularity/xcal:duration"))
    if granularity_s and not MIN_SAMPLING.total_seconds() <= granularity_s <= MAX_SAMPLING.total_seconds():
        raise InvalidRequest("granularity", f"{granularity_s:g} s", f"{MIN_SAMPLING} to {MAX_SAMPLING}")
    back_s = _seconds(text_of(specifier, "ei:reportBackDuration/xcal:duration"))
    return ReportRequest(
        report_request_id=text_of(element, "ei:reportRequestID"),
        specifier_id=specifier_id,
        point_id=POINT_ID,
        granularity_s=granularity_s,
        report_back_s=max(back_s, granularity_s),
        window=_window(specifier),
    )


def _seconds(text: str) -> float:
    """Return a duration in seconds; "PT0S", and openleadr's "P" for it, are 0."""
    return 0.0 if text in ("", "P", "PT") else max(0.0, duration_of(text).total_seconds())


def _window(specifier: Element) -> Interval | None:
    properties = specifier.find("ei:reportInterval/xcal:properties", NAMESPACES)
    if properties is None:
        return None
    length_s = _seconds(text_of(properties, "xcal:duration/xcal:duration"))
    start_at = instant_of(text_of(properties, "xcal:dtstart/xcal:date-time"))
    return Interval(start_at, start_at + timedelta(seconds=length_s)) if length_s > 0 else None


def read_report_cancel(message: Element) -> ReportsCancelled:
    """Return which reports are no longer wanted."""
    return ReportsCancelled(
        request_id=text_of(message, "pyld:requestID"),
        report_request_ids=tuple((e.text or "").strip() for e in message.findall("ei:reportRequestID", NAMESPACES)),
        to_follow=text_of(message, "pyld:reportToFollow").lower() in ("true", "1"),
    )


def ok(request_id: str, code: int = 200, description: str = "OK") -> dict[str, Any]:
    """Return an eiResponse as openleadr's templates want it."""
    return {"response_code": code, "response_description": description, "request_id": request_id}


def event_answer(answer: EventAnswer) -> dict[str, Any]:
    """Return the payload of oadrCreatedEvent."""
    return {
        "response": ok(""),
        "event_responses": [
            ok(answer.request_id, answer.code, answer.reason)
            | {
                "event_id": answer.external_id,
                "modification_number": answer.modification_number,
                "opt_type": "optIn" if answer.opt_in else "optOut",
            }
        ],
    }


def report_offer(market_contexts: Sequence[str], at: datetime) -> dict[str, Any]:
    """Return the METADATA_TELEMETRY_USAGE report of delivered power [kW], positive toward the grid."""
    description = {
        "r_id": POINT_ID,
        "report_data_source": {"resource_id": "fleet"},
        "report_type": "reading",
        "reading_type": READING_TYPE,
        "market_context": market_contexts[0] if market_contexts else None,
        "measurement": {"name": "powerReal", "description": "RealPower", "unit": "W", "scale": "k"}
        | {"power_attributes": {"hertz": 60, "voltage": 240, "ac": True}},
        "sampling_rate": {"min_period": MIN_SAMPLING, "max_period": MAX_SAMPLING, "on_change": False},
    }
    return {
        "report_specifier_id": SPECIFIER_ID,
        "report_name": "METADATA_TELEMETRY_USAGE",
        "report_request_id": "0",
        "created_date_time": at,
        "duration": MAX_SAMPLING,
        "report_descriptions": [description],
    }


def report_values(request: ReportRequest, powers: Sequence[ReportedPower], at: datetime) -> dict[str, Any]:
    """Return a TELEMETRY_USAGE report of delivered power [kW], positive toward the grid."""
    return {
        "report_id": new_id(),
        "report_request_id": request.report_request_id,
        "report_specifier_id": request.specifier_id,
        "report_name": "TELEMETRY_USAGE",
        "created_date_time": at,
        "dtstart": min(power.interval.start_at for power in powers),
        "intervals": [
            {
                "dtstart": power.interval.start_at,
                "duration": power.interval.duration,
                "report_payload": {"r_id": request.point_id, "value": round(power.power_kw, 3)},
            }
            for power in powers
        ],
    }
