"""Reports, opts and registrations of OpenADR 2.0b as other vendors write them: what is missing stays missing."""

from datetime import UTC, datetime, timedelta

import pytest

from market.openadr2.codec import Refused, decode, encode
from market.openadr2.read_party import FOREVER_AT
from tests.builders_openadr2 import HOUR, START_AT
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Target, TargetKind
from vpp.domain.time import Interval

_HEAD = """<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"
 xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110" xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"
 xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
 xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream" xmlns:emix="http://docs.oasis-open.org/ns/emix/2011/06"
 xmlns:power="http://docs.oasis-open.org/ns/emix/2011/06/power" xmlns:atom="http://www.w3.org/2005/Atom"
 xmlns:scale="http://docs.oasis-open.org/ns/emix/2011/06/siscale"><oadr:oadrSignedObject>"""
_TAIL = "</oadr:oadrSignedObject></oadr:oadrPayload>"
MINUTE = timedelta(minutes=1)


def _message(inner: str) -> m.Openadr2Message:
    return decode(f"{_HEAD}{inner}{_TAIL}".encode(), lenient=False).message


def _float(value: str, r_id: str = "p1", rest: str = "", before: str = "") -> str:
    payload = f"{before}<ei:payloadFloat><ei:value>{value}</ei:value></ei:payloadFloat>{rest}"
    return f"<oadr:oadrReportPayload><ei:rID>{r_id}</ei:rID>{payload}</oadr:oadrReportPayload>"


def _start(text: str) -> str:
    return f"<xcal:dtstart><xcal:date-time>{text}</xcal:date-time></xcal:dtstart>"


def _length(text: str) -> str:
    return f"<xcal:duration><xcal:duration>{text}</xcal:duration></xcal:duration>"


def _update(*intervals: str, head: str = "", name: str = "TELEMETRY_USAGE") -> m.ReportUpdate:
    inside = "".join(f"<ei:interval>{interval}</ei:interval>" for interval in intervals)
    intervals_ = f"<strm:intervals>{inside}</strm:intervals>" if inside else ""
    message = _message(
        f"<oadr:oadrUpdateReport><pyld:requestID>u1</pyld:requestID><oadr:oadrReport>{head}{intervals_}"
        f"<ei:reportRequestID>rr1</ei:reportRequestID><ei:reportSpecifierID>s1</ei:reportSpecifierID>"
        f"<ei:reportName>{name}</ei:reportName><ei:createdDateTime>2026-08-19T23:30:00Z</ei:createdDateTime>"
        "</oadr:oadrReport></oadr:oadrUpdateReport>"
    )
    assert isinstance(message, m.UpdateReports)
    return message.updates[0]


def test_values_have_the_time_quality_and_point_they_are_of() -> None:
    quality = "<oadr:oadrDataQuality>Quality Good - Non Specific</oadr:oadrDataQuality>"
    sure = "<ei:confidence>90</ei:confidence><ei:accuracy>0.5</ei:accuracy>"
    first = (
        _start("2026-08-19T23:00:00Z") + _length("PT15M") + _float("4.5", rest=quality, before=sure) + _float("7", "p2")
    )
    update = _update(first, _length("PT5M") + _float("-1E3"))
    assert update.values == (
        m.ReportedValue(
            r_id="p1",
            start_at=START_AT,
            duration=15 * MINUTE,
            value=4.5,
            confidence=90,
            accuracy=0.5,
            quality="Quality Good - Non Specific",
        ),
        m.ReportedValue(r_id="p2", start_at=START_AT, duration=15 * MINUTE, value=7.0),
        m.ReportedValue(r_id="p1", start_at=START_AT + 15 * MINUTE, duration=5 * MINUTE, value=-1000.0),
    )


def test_an_interval_without_a_start_begins_with_the_report_or_when_it_was_made() -> None:
    with_start = _update(_float("1"), head=_start("2026-08-19T22:00:00Z") + _length("PT1H"))
    assert (with_start.start_at, with_start.duration) == (START_AT - HOUR, HOUR)
    assert (with_start.values[0].start_at, with_start.values[0].duration) == (START_AT - HOUR, None)
    assert _update(_float("1")).values[0].start_at == START_AT + 30 * MINUTE


def test_a_value_that_is_none_is_missing_and_an_endless_one_is_refused() -> None:
    update = _update(_float("NaN") + _float("2", "p2"))
    assert [value.r_id for value in update.values] == ["p2"]
    with pytest.raises(Refused) as refused:
        _update(_float("INF"))
    assert (refused.value.code, refused.value.request_id) == (m.INVALID_DATA, "u1")


def test_a_status_names_its_levels() -> None:
    state = (
        "<oadr:oadrLoadControlState><oadr:oadrCapacity><oadr:oadrMin>0</oadr:oadrMin><oadr:oadrMax>1</oadr:oadrMax>"
        "<oadr:oadrCurrent>0.5</oadr:oadrCurrent><oadr:oadrNormal>1</oadr:oadrNormal></oadr:oadrCapacity>"
        "<oadr:oadrSetPoint><oadr:oadrCurrent>21</oadr:oadrCurrent></oadr:oadrSetPoint></oadr:oadrLoadControlState>"
    )
    status = (
        "<oadr:oadrReportPayload><ei:rID>st</ei:rID><oadr:oadrPayloadResourceStatus><oadr:oadrOnline>1</oadr:oadrOnline>"
        f"<oadr:oadrManualOverride>false</oadr:oadrManualOverride>{state}</oadr:oadrPayloadResourceStatus>"
        "</oadr:oadrReportPayload>"
    )
    (value,) = _update(_start("2026-08-19T23:00:00Z") + status, name="TELEMETRY_STATUS").values
    assert value.value == m.ResourceStatus(
        online=True,
        overridden=False,
        levels=(
            ("capacity.min", 0.0),
            ("capacity.max", 1.0),
            ("capacity", 0.5),
            ("capacity.normal", 1.0),
            ("setpoint", 21.0),
        ),
    )


def test_a_private_report_name_and_a_report_without_values_are_kept() -> None:
    update = _update(head=_start("2026-08-19T23:00:00Z"), name="x-ourReport")
    assert (update.name, update.values) == ("x-ourReport", ())


def _offered(description: str) -> m.PointOffer:
    message = _message(
        "<oadr:oadrRegisterReport><pyld:requestID>g1</pyld:requestID><oadr:oadrReport><oadr:oadrReportDescription>"
        f"<ei:rID>p1</ei:rID>{description}</oadr:oadrReportDescription><ei:reportRequestID>0</ei:reportRequestID>"
        "<ei:reportSpecifierID>s1</ei:reportSpecifierID><ei:createdDateTime>2026-08-19T23:00:00Z</ei:createdDateTime>"
        "</oadr:oadrReport></oadr:oadrRegisterReport>"
    )
    assert isinstance(message, m.RegisterReports)
    return message.offers[0].points[0]


def test_an_offered_point_says_of_what_and_from_where() -> None:
    point = _offered(
        "<ei:reportSubject><power:endDeviceAsset><power:mrid>EVSE</power:mrid></power:endDeviceAsset></ei:reportSubject>"
        "<ei:reportDataSource><ei:groupID>g1</ei:groupID><ei:resourceID>r1</ei:resourceID><ei:resourceID>r2</ei:resourceID>"
        "</ei:reportDataSource><ei:reportType>x-own</ei:reportType><oadr:pulseCount><oadr:itemDescription>pulse count"
        "</oadr:itemDescription><oadr:itemUnits>count</oadr:itemUnits><oadr:pulseFactor>2.5</oadr:pulseFactor>"
        "</oadr:pulseCount><ei:readingType>x-RMS</ei:readingType>"
    )
    assert point.subjects == (Target(TargetKind.OTHER, "EVSE", "endDeviceAsset"),)
    assert (point.resources, point.sources) == (("r1", "r2"), (Target(TargetKind.GROUP, "g1"),))
    assert (point.report_type, point.reading_type) == ("x-own", "x-RMS")
    assert (point.item, point.unit, point.pulse_factor, point.min_sampling) == ("pulseCount", "count", 2.5, None)


def test_a_custom_unit_is_kept_with_its_description() -> None:
    point = _offered(
        "<ei:reportType>usage</ei:reportType><oadr:customUnit><oadr:itemDescription>steam</oadr:itemDescription>"
        "<oadr:itemUnits>lb</oadr:itemUnits><scale:siScaleCode>k</scale:siScaleCode></oadr:customUnit>"
        "<ei:readingType>Net</ei:readingType>"
    )
    assert (point.item, point.unit, point.item_description) == ("customUnit", "klb", "steam")


@pytest.mark.parametrize(
    ("unit", "written"),
    [
        ("kW", b"<power:powerReal><power:itemDescription>RealPower</power:itemDescription><power:itemUnits>W<"),
        ("Wh", b"<power:energyReal><power:itemDescription>RealEnergy</power:itemDescription><power:itemUnits>Wh<"),
        ("V", b"<power:voltage><power:itemDescription>Voltage</power:itemDescription><power:itemUnits>V<"),
        ("USD", b"<oadr:currency><oadr:itemDescription>currency</oadr:itemDescription><oadr:itemUnits>USD<"),
        ("furlong", b"<oadr:customUnit><oadr:itemDescription>furlong</oadr:itemDescription><oadr:itemUnits>furlong<"),
    ],
)
def test_a_unit_alone_tells_which_item_is_offered(unit: str, written: bytes) -> None:
    point = m.PointOffer(r_id="p1", report_type="usage", reading_type="Direct Read", unit=unit)
    offer = m.ReportOffer(specifier_id="s1", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=START_AT)
    body = encode(m.RegisterReports(request_id="r1", offers=(offer,)))
    assert written in body
    read = decode(body, lenient=False).message
    assert isinstance(read, m.RegisterReports)
    assert read.offers[0].points[0].unit == unit


@pytest.mark.parametrize(
    "point",
    [
        {"unit": "kW", "item": "energyReal"},
        {"unit": "W", "scale": "kilo"},
        {"unit": "doubloon", "item": "currency"},
        {"unit": "kelvin", "item": "temperature"},
        {"unit": "W", "item": "powerUnreal"},
    ],
)
def test_a_unit_that_does_not_fit_its_item_is_refused_before_it_is_sent(point: dict[str, str]) -> None:
    offered = m.PointOffer(r_id="p1", report_type="usage", reading_type="Net", **point)  # type: ignore[arg-type]
    offer = m.ReportOffer(specifier_id="s1", name="x-own", points=(offered,), created_at=START_AT)
    with pytest.raises(InvalidRequest):
        encode(m.RegisterReports(request_id="r1", offers=(offer,)))


def test_a_green_button_report_is_taken_without_its_feed() -> None:
    feed = (
        "<atom:feed><atom:id>f1</atom:id><atom:title>t</atom:title><atom:updated>2026-08-19T23:00:00Z</atom:updated>"
        "</atom:feed>"
    )
    interval = f"{_start('2026-08-19T23:00:00Z')}<oadr:oadrGBPayload>{feed}</oadr:oadrGBPayload>"
    update = _update(interval, name="HISTORY_GREENBUTTON")
    assert (update.name, update.values) == ("HISTORY_GREENBUTTON", ())
    point = _offered(
        f"<ei:reportType>usage</ei:reportType><oadr:oadrGBDataDescription>{feed}</oadr:oadrGBDataDescription>"
        "<ei:readingType>Net</ei:readingType>"
    )
    assert (point.item, point.unit) == (None, None)


def test_a_report_may_be_asked_for_once_and_without_bounds() -> None:
    message = _message(
        "<oadr:oadrCreateReport><pyld:requestID>c1</pyld:requestID><oadr:oadrReportRequest><ei:reportRequestID>rr1"
        "</ei:reportRequestID><ei:reportSpecifier><ei:reportSpecifierID>s1</ei:reportSpecifierID><xcal:granularity>"
        "<xcal:duration>PT0S</xcal:duration></xcal:granularity><ei:reportBackDuration><xcal:duration>P</xcal:duration>"
        "</ei:reportBackDuration><ei:specifierPayload><ei:rID>p1</ei:rID><ei:readingType>Net</ei:readingType>"
        "</ei:specifierPayload><ei:specifierPayload><ei:rID>p2</ei:rID><ei:readingType>Net</ei:readingType>"
        "</ei:specifierPayload></ei:reportSpecifier></oadr:oadrReportRequest></oadr:oadrCreateReport>"
    )
    assert isinstance(message, m.CreateReports)
    (demand,) = message.demands
    assert (demand.granularity, demand.back) == (timedelta(0), timedelta(0))
    assert (demand.start_at, demand.duration, len(demand.points)) == (None, None, 2)


def _opt(inside: str = "", after: str = "", target: str = "") -> m.CreateOpt:
    message = _message(
        "<oadr:oadrCreateOpt><ei:optID>o1</ei:optID><ei:optType>optOut</ei:optType><ei:optReason>x-ours</ei:optReason>"
        f"<ei:venID>ven1</ei:venID>{inside}<ei:createdDateTime>2026-08-19T23:00:00Z</ei:createdDateTime>"
        f"<pyld:requestID>r1</pyld:requestID>{after}<ei:eiTarget>{target}</ei:eiTarget></oadr:oadrCreateOpt>"
    )
    assert isinstance(message, m.CreateOpt)
    return message


def _window(start: str, length: str) -> str:
    return f"<xcal:available><xcal:properties>{_start(start)}{_length(length)}</xcal:properties></xcal:available>"


def test_an_opt_has_windows_or_an_event_and_may_have_no_end() -> None:
    windows = _window("2026-08-19T23:00:00Z", "PT1H") + _window("2026-08-20T23:00:00Z", "PT0S")
    opt = _opt(f"<xcal:vavailability><xcal:components>{windows}</xcal:components></xcal:vavailability>")
    day = timedelta(days=1)
    assert opt.windows == (Interval(START_AT, START_AT + HOUR), Interval(START_AT + day, FOREVER_AT))
    assert (opt.opt_in, opt.reason, opt.event_id, opt.modification_number) == (False, "x-ours", None, None)
    assert b"<xcal:duration>PT0S</xcal:duration>" in encode(opt)
    qualified = "<ei:qualifiedEventID><ei:eventID>007</ei:eventID><ei:modificationNumber>2</ei:modificationNumber>"
    of_event = _opt(after=f"{qualified}</ei:qualifiedEventID>", target="<ei:resourceID>r1</ei:resourceID>")
    assert (of_event.event_id, of_event.modification_number, of_event.windows) == ("007", 2, ())
    assert of_event.targets == (Target(TargetKind.RESOURCE, "r1"),)
    assert _opt("<xcal:vavailability><xcal:components/></xcal:vavailability>").windows == ()


def test_a_window_beyond_the_calendar_is_refused_and_named() -> None:
    late = _window("9999-12-31T23:00:00Z", "P1D")
    with pytest.raises(Refused) as refused:
        _opt(f"<xcal:vavailability><xcal:components>{late}</xcal:components></xcal:vavailability>")
    assert (refused.value.code, refused.value.request_id) == (m.INVALID_DATA, "r1")


def test_a_ven_that_is_pushed_to_says_where() -> None:
    message = _message(
        "<oadr:oadrCreatePartyRegistration><pyld:requestID>r1</pyld:requestID><ei:registrationID>g1</ei:registrationID>"
        "<ei:venID>ven1</ei:venID><oadr:oadrProfileName>2.0b</oadr:oadrProfileName><oadr:oadrTransportName>simpleHttp"
        "</oadr:oadrTransportName><oadr:oadrTransportAddress>https://ven.example:8443/x</oadr:oadrTransportAddress>"
        "<oadr:oadrReportOnly>1</oadr:oadrReportOnly><oadr:oadrXmlSignature>true</oadr:oadrXmlSignature>"
        "<oadr:oadrHttpPullModel>0</oadr:oadrHttpPullModel></oadr:oadrCreatePartyRegistration>"
    )
    assert message == m.CreateRegistration(
        request_id="r1",
        transport_address="https://ven.example:8443/x",
        report_only=True,
        xml_signature=True,
        http_pull=False,
        ven_id="ven1",
        registration_id="g1",
    )


def test_empty_ids_of_a_query_are_no_ids() -> None:
    """openleadr writes them empty where it has none."""
    message = _message(
        "<oadr:oadrCreatedPartyRegistration><ei:eiResponse><ei:responseCode>200</ei:responseCode><pyld:requestID/>"
        "</ei:eiResponse><ei:registrationID/><ei:venID/><ei:vtnID>VTN1</ei:vtnID><oadr:oadrProfiles><oadr:oadrProfile>"
        "<oadr:oadrProfileName>2.0b</oadr:oadrProfileName><oadr:oadrTransports><oadr:oadrTransport>"
        "<oadr:oadrTransportName>simpleHttp</oadr:oadrTransportName></oadr:oadrTransport></oadr:oadrTransports>"
        "</oadr:oadrProfile></oadr:oadrProfiles></oadr:oadrCreatedPartyRegistration>"
    )
    assert isinstance(message, m.CreatedRegistration)
    assert (message.ven_id, message.registration_id, message.poll) == (None, None, None)


@pytest.mark.parametrize(
    "message",
    [
        m.CreateReports(request_id="r1", demands=()),
        m.CancelReports(request_id="r1", report_request_ids=(), to_follow=False),
    ],
)
def test_what_would_not_be_valid_is_not_written(message: m.Openadr2Message) -> None:
    with pytest.raises(InvalidRequest, match="at least one"):
        encode(message)


def test_instants_of_reports_are_utc_whatever_zone_we_hold_them_in() -> None:
    pacific = datetime.fromisoformat("2026-08-19T16:00:00-07:00")
    value = m.ReportedValue(r_id="p1", start_at=pacific, duration=None, value=1.0)
    update = m.ReportUpdate(
        report_request_id="rr1", specifier_id="s1", name="TELEMETRY_USAGE", created_at=pacific, values=(value,)
    )
    body = encode(m.UpdateReports(request_id="r1", updates=(update,)))
    assert b"2026-08-19T23:00:00Z" in body
    assert b"-07:00" not in body
    naive = datetime(2026, 8, 19, 23)  # noqa: DTZ001
    opt = m.CreateOpt(request_id="r", opt_id="o", ven_id="v", opt_in=True, reason="economic", created_at=naive)
    with pytest.raises(InvalidRequest, match="zone"):
        encode(opt)
    assert pacific.astimezone(UTC) == START_AT
