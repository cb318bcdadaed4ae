"""What peers send against the OpenADR 2.0b schema is tolerated by name, never guessed at, and only then."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from lxml import etree

from market.openadr2.codec import MemoryReplayGuard, Refused, Signer, Verifier, decode, encode
from market.openadr2.deviations import DEVIATIONS, NAMES
from tests.builders_openadr2 import START_AT, StandingClock, distribution, grid_event, key_pair
from vpp.domain import openadr2 as m

_OADR = 'xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"'
_EI = 'xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110"'
_PYLD = 'xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"'
_XCAL = 'xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"'
_STRM = 'xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream"'
_POWER = 'xmlns:power="http://docs.oasis-open.org/ns/emix/2011/06/power"'


def _payload(inner: str) -> bytes:
    """A document as pyoadr-ven 0.6.0 sends it: no Id, nothing signed."""
    head = f"<oadr:oadrPayload {_OADR} {_EI} {_PYLD} {_XCAL} {_STRM} {_POWER}><oadr:oadrSignedObject>"
    return f"{head}{inner}</oadr:oadrSignedObject></oadr:oadrPayload>".encode()


# what pyoadr-ven 0.6.0 was seen to send, cut to what matters
QUERY = _payload(
    '<oadr:oadrQueryRegistration schemaVersion="2.0b"><pyld:requestID>q1</pyld:requestID></oadr:oadrQueryRegistration>'
)
CREATED = """<oadr:oadrCreatedEvent><pyld:eiCreatedEvent><ei:eiResponse><ei:responseCode>200</ei:responseCode>
</ei:eiResponse><ei:eventResponses><ei:eventResponse><ei:responseCode>200</ei:responseCode><pyld:requestID>d1
</pyld:requestID><ei:qualifiedEventID><ei:eventID>007</ei:eventID><ei:modificationNumber>0</ei:modificationNumber>
</ei:qualifiedEventID><ei:optType>{opt}</ei:optType></ei:eventResponse></ei:eventResponses><ei:venID>ven1</ei:venID>
</pyld:eiCreatedEvent></oadr:oadrCreatedEvent>"""
OFFER = _payload(
    """<oadr:oadrRegisterReport schemaVersion="2.0b"><pyld:requestID>g1</pyld:requestID><oadr:oadrReport><xcal:duration>
<xcal:duration>PT30S</xcal:duration></xcal:duration><oadr:oadrReportDescription><ei:rID>power</ei:rID><ei:reportType>
reading</ei:reportType><oadr:PowerRealType><power:itemDescription>RealPower</power:itemDescription><power:itemUnits>W
</power:itemUnits></oadr:PowerRealType><ei:readingType>Direct Read</ei:readingType><oadr:oadrSamplingRate>
<oadr:oadrMinPeriod>PT30S</oadr:oadrMinPeriod><oadr:oadrMaxPeriod>PT1M</oadr:oadrMaxPeriod><oadr:oadrOnChange>false
</oadr:oadrOnChange></oadr:oadrSamplingRate></oadr:oadrReportDescription><ei:reportSpecifierID>telemetry
</ei:reportSpecifierID><ei:createdDateTime>2026-08-19T23:00:00.5Z</ei:createdDateTime></oadr:oadrReport>
<ei:venID>ven1</ei:venID></oadr:oadrRegisterReport>"""
)
UPDATE = """<oadr:oadrUpdateReport schemaVersion="2.0b"><pyld:requestID>u1</pyld:requestID><oadr:oadrReport>
<xcal:dtstart><xcal:date-time>2026-08-19T23:00:00</xcal:date-time></xcal:dtstart><xcal:duration><xcal:duration>PT0S</xcal:duration>
</xcal:duration><strm:intervals><ei:interval><xcal:dtstart><xcal:date-time>2026-08-19T23:00:00.25
</xcal:date-time></xcal:dtstart><xcal:duration><xcal:duration>{length}</xcal:duration></xcal:duration>
{payload}</ei:interval></strm:intervals><ei:reportRequestID>rr1</ei:reportRequestID><ei:reportSpecifierID>telemetry
</ei:reportSpecifierID><ei:createdDateTime>2026-08-19T23:00:00Z</ei:createdDateTime></oadr:oadrReport>
<ei:venID>ven1</ei:venID></oadr:oadrUpdateReport>"""
USAGE = (
    "<ei:oadrReportPayload><ei:rID>power</ei:rID><oadr:payloadFloat><ei:value>1.5</ei:value></oadr:payloadFloat>"
    "</ei:oadrReportPayload>"
)
STATUS = (
    "<ei:oadrReportPayloadType><ei:rID>Status</ei:rID><oadr:oadrPayloadResourceStatus><oadr:oadrOnline>true"
    "</oadr:oadrOnline><oadr:oadrManualOverride>false</oadr:oadrManualOverride></oadr:oadrPayloadResourceStatus>"
    "</ei:oadrReportPayloadType>"
)


def _refused_when_strict(body: bytes) -> None:
    with pytest.raises(Refused):
        decode(body, lenient=False)


def test_an_attribute_without_its_namespace_is_tolerated() -> None:
    _refused_when_strict(QUERY)
    decoded = decode(QUERY)
    assert (decoded.message, decoded.deviations) == (
        m.QueryRegistration(request_id="q1"),
        ("attribute-without-namespace",),
    )


def test_an_answer_that_has_not_been_decided_answers_nothing() -> None:
    undecided, decided = (_payload(CREATED.format(opt=opt)) for opt in ("none", "optOut"))
    _refused_when_strict(decided)
    first, second = decode(undecided), decode(decided)
    assert first.deviations == ("response-without-request-id", "opt-none")
    assert second.deviations == ("response-without-request-id",)
    assert isinstance(first.message, m.CreatedEvents)
    assert isinstance(second.message, m.CreatedEvents)
    assert first.message.opts == ()
    assert [(opt.event_id, opt.request_id, opt.opt_in) for opt in second.message.opts] == [("007", "d1", False)]


def test_an_offer_in_generated_names_is_understood_and_its_missing_scale_is_none() -> None:
    _refused_when_strict(OFFER)
    decoded = decode(OFFER)
    assert decoded.deviations == (
        "offer-without-request-id",
        "attribute-without-namespace",
        "type-name-as-element",
    )
    assert isinstance(decoded.message, m.RegisterReports)
    (offer,) = decoded.message.offers
    (point,) = offer.points
    assert (offer.request_id, offer.name, offer.specifier_id) == ("0", "", "telemetry")
    assert (point.item, point.unit, point.scale) == ("powerReal", "W", "none")
    assert point.max_sampling == timedelta(minutes=1)


def test_that_an_offer_lacks_its_request_id_is_tolerated_in_that_dialect_only() -> None:
    """Whoever writes valid attributes and leaves the id out is told so."""
    body = OFFER.replace(b'schemaVersion="2.0b"', b'ei:schemaVersion="2.0b"')
    with pytest.raises(Refused) as refused:
        decode(body)
    assert (refused.value.code, refused.value.request_id) == (m.COMPLIANCE_ERROR, "g1")


@pytest.mark.parametrize(
    ("payload", "length", "expected_s", "named"),
    [
        (USAGE, "P%P", None, ("element-in-wrong-namespace", "length-unknown")),
        (USAGE, "PT59.9S", 60.0, ("element-in-wrong-namespace", "duration-with-fraction")),
        (USAGE, "PT1H59.0S", 3659.0, ("element-in-wrong-namespace", "duration-with-fraction")),
        (USAGE, "P1W", 604800.0, ("element-in-wrong-namespace", "duration-in-weeks")),
        (STATUS, "PT1M", 60.0, ("type-name-as-element",)),
    ],
)
def test_a_report_in_generated_names_is_understood(
    payload: str, length: str, expected_s: float | None, named: tuple[str, ...]
) -> None:
    body = _payload(UPDATE.format(payload=payload, length=length))
    _refused_when_strict(body)
    decoded = decode(body)
    assert decoded.deviations == ("attribute-without-namespace", *named)
    assert isinstance(decoded.message, m.UpdateReports)
    (value,) = decoded.message.updates[0].values
    assert value.start_at == datetime(2026, 8, 19, 23, 0, 0, 250_000, tzinfo=UTC)
    assert value.duration == (None if expected_s is None else timedelta(seconds=expected_s))
    assert value.value == (1.5 if payload is USAGE else m.ResourceStatus(online=True, overridden=False))


@pytest.mark.parametrize(
    ("stated", "at"),
    [
        ("2026-08-19T16:00:00-07:00", datetime(2026, 8, 19, 23, tzinfo=UTC)),
        ("2026-08-19T23:00:00.5+00:00", datetime(2026, 8, 19, 23, 0, 0, 500_000, tzinfo=UTC)),
    ],
)
def test_an_instant_with_an_offset_is_turned_into_utc(stated: str, at: datetime) -> None:
    body = encode(distribution(grid_event())).replace(b"2026-08-19T22:00:00Z", stated.encode())
    decoded = decode(body)
    assert decoded.deviations == ("instant-with-offset",)
    assert isinstance(decoded.message, m.DistributeEvents)
    assert decoded.message.events[0].event.created_at == at


def test_flags_in_capitals_are_read() -> None:
    body = encode(m.CreateRegistration(request_id="r1", http_pull=False)).replace(b">false<", b">False<")
    assert decode(body).deviations == ("flag-in-capitals",)
    assert decode(body).message == m.CreateRegistration(request_id="r1", http_pull=False)


def test_blanks_a_pretty_printer_put_around_a_value_are_left_out() -> None:
    body = encode(m.Acknowledge(response=m.Response())).replace(b">200<", b">\n  200\n<")
    _refused_when_strict(body)
    assert decode(body).deviations == ("blanks-around-value",)
    assert decode(body).message == m.Acknowledge(response=m.Response())


def test_white_space_before_the_declaration_and_a_false_utf_16_are_read_past() -> None:
    plain = encode(m.Poll(ven_id="é"))
    utf_16 = b"\r\n " + plain.replace(b'encoding="utf-8"', b'encoding="utf-16"')
    _refused_when_strict(utf_16)
    decoded = decode(utf_16)
    assert decoded.message == m.Poll(ven_id="é")
    assert decoded.deviations == ("blank-before-declaration", "declared-utf-16")
    assert decode(b"\xef\xbb\xbf" + plain, lenient=False).message == m.Poll(ven_id="é")


def test_a_valid_document_is_never_mended() -> None:
    """The text of a deviation inside a free text stays what it is."""
    comment = "True P%P 2026-08-19T16:00:00-07:00"
    decoded = decode(encode(distribution(grid_event(comment=comment))))
    assert decoded.deviations == ()
    assert isinstance(decoded.message, m.DistributeEvents)
    assert decoded.message.events[0].event.comment == comment


def test_what_no_deviation_names_stays_refused() -> None:
    body = encode(m.Poll(ven_id="ven1"))
    for broken in (
        body.replace(b"ei:venID", b"ei:venId"),
        body.replace(b"<ei:venID>ven1</ei:venID>", b""),
        body.replace(b"oadr:oadrPoll", b"oadr:oadrPool"),
        body.replace(b"ei:venID>", b"vendor:venID>").replace(
            b"<oadr:oadrPoll ", b'<oadr:oadrPoll xmlns:vendor="urn:x" '
        ),
    ):
        with pytest.raises(Refused) as refused:
            decode(broken)
        assert refused.value.code in (m.COMPLIANCE_ERROR, m.NOT_RECOGNIZED)


def test_a_signature_is_checked_over_what_was_sent_not_over_what_it_was_mended_to() -> None:
    """A signer that sets a plain Id and schemaVersion signs them as they stand."""
    cert, key = key_pair("ec", "us")
    text = encode(m.Poll(ven_id="ven1")).decode()
    text = text.replace("oadr:Id=", "Id=").replace("ei:schemaVersion", "schemaVersion")
    signed = re.search(r"<oadr:oadrSignedObject.*</oadr:oadrSignedObject>", text)
    assert signed is not None
    canonical = etree.tostring(etree.fromstring(text.encode())[0], method="c14n")
    signature = Signer(cert, key, clock=StandingClock()).signature(canonical)
    body = text.replace(signed.group(), signature + signed.group()).encode()
    verifier = Verifier(MemoryReplayGuard(), StandingClock(START_AT))
    decoded = decode(body, verify=verifier)
    assert decoded.message == m.Poll(ven_id="ven1")
    assert decoded.deviations == ("attribute-without-namespace",)
    assert decoded.signed_by is not None


def test_every_deviation_says_what_it_is_who_sends_it_and_what_it_becomes() -> None:
    assert len(set(NAMES)) == len(NAMES)
    for deviation in DEVIATIONS:
        assert all((deviation.name, deviation.what, deviation.sent_by, deviation.becomes))
