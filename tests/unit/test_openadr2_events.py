"""Events of OpenADR 2.0b: every signal, unit, target and time, read from XML as another vendor would write it."""

from datetime import timedelta
from typing import Any

import pytest

from market.openadr2.codec import decode, encode
from market.openadr2.parse import parse, schema_error
from tests.builders_openadr2 import HOUR, START_AT, distribution, grid_event, series
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent, Point, Series, SeriesType, Target, TargetKind

_HEAD = """<oadr:oadrPayload xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07"
 xmlns:ei="http://docs.oasis-open.org/ns/energyinterop/201110" xmlns:xcal="urn:ietf:params:xml:ns:icalendar-2.0"
 xmlns:pyld="http://docs.oasis-open.org/ns/energyinterop/201110/payloads"
 xmlns:strm="urn:ietf:params:xml:ns:icalendar-2.0:stream" xmlns:emix="http://docs.oasis-open.org/ns/emix/2011/06"
 xmlns:power="http://docs.oasis-open.org/ns/emix/2011/06/power" xmlns:gml="http://www.opengis.net/gml/3.2"
 xmlns:scale="http://docs.oasis-open.org/ns/emix/2011/06/siscale"><oadr:oadrSignedObject><oadr:oadrDistributeEvent>
<pyld:requestID>d1</pyld:requestID><ei:vtnID>VTN1</ei:vtnID>"""
_TAIL = "</oadr:oadrDistributeEvent></oadr:oadrSignedObject></oadr:oadrPayload>"


def _interval(value: str, length: str | None = "PT1H", start: str | None = None) -> str:
    begin = f"<xcal:dtstart><xcal:date-time>{start}</xcal:date-time></xcal:dtstart>" if start else ""
    lasting = f"<xcal:duration><xcal:duration>{length}</xcal:duration></xcal:duration>" if length else ""
    payload = f"<ei:payloadFloat><ei:value>{value}</ei:value></ei:payloadFloat>"
    return f"<ei:interval>{begin}{lasting}<ei:signalPayload>{payload}</ei:signalPayload></ei:interval>"


def _signal(name: str = "SIMPLE", kind: str = "level", intervals: str = _interval("1"), **parts: str) -> str:
    return (
        f"<ei:eiEventSignal><strm:intervals>{intervals}</strm:intervals>{parts.get('target', '')}"
        f"<ei:signalName>{name}</ei:signalName><ei:signalType>{kind}</ei:signalType><ei:signalID>s1</ei:signalID>"
        f"{parts.get('item', '')}{parts.get('current', '')}</ei:eiEventSignal>"
    )


def _event(*signals: str, **parts: str) -> str:
    start, length = parts.get("start", "2026-08-19T23:00:00Z"), parts.get("length", "PT2H")
    return f"""<oadr:oadrEvent><ei:eiEvent><ei:eventDescriptor><ei:eventID>{parts.get("event_id", "007")}</ei:eventID>
<ei:modificationNumber>{parts.get("number", "0")}</ei:modificationNumber>{parts.get("modified", "")}
<ei:eiMarketContext><emix:marketContext>http://utility.example/elrp</emix:marketContext></ei:eiMarketContext>
<ei:createdDateTime>2026-08-19T20:00:00Z</ei:createdDateTime>
<ei:eventStatus>{parts.get("status", "far")}</ei:eventStatus>
{parts.get("test", "")}</ei:eventDescriptor><ei:eiActivePeriod><xcal:properties><xcal:dtstart><xcal:date-time>
{start}</xcal:date-time></xcal:dtstart><xcal:duration><xcal:duration>{length}</xcal:duration></xcal:duration>
{parts.get("period", "")}</xcal:properties><xcal:components/></ei:eiActivePeriod><ei:eiEventSignals>
{"".join(signals or (_signal(),))}{parts.get("baseline", "")}</ei:eiEventSignals><ei:eiTarget>{parts.get("target", "")}
</ei:eiTarget></ei:eiEvent><oadr:oadrResponseRequired>{parts.get("wanted", "always")}</oadr:oadrResponseRequired>
</oadr:oadrEvent>"""


def _told(*events: str) -> tuple[m.DistributedEvent, ...]:
    body = f"{_HEAD}{''.join(events)}{_TAIL}".encode()
    message = decode(body, lenient=False).message
    assert isinstance(message, m.DistributeEvents)
    return message.events


def _one(*signals: str, **parts: str) -> GridEvent:
    (told,) = _told(_event(*signals, **parts))
    assert told.defect is None, told.defect
    return told.event


def _item(name: str, units: str, scale: str = "none", description: str = "") -> str:
    prefix = "power" if name.startswith(("power", "energy", "voltage")) else "oadr"
    attributes = (
        "<power:powerAttributes><power:hertz>60</power:hertz><power:voltage>240</power:voltage><power:ac>true</power:ac>"
        "</power:powerAttributes>"
        if name.startswith("power")
        else ""
    )
    return (
        f"<{prefix}:{name}><{prefix}:itemDescription>{description}</{prefix}:itemDescription><{prefix}:itemUnits>{units}"
        f"</{prefix}:itemUnits><scale:siScaleCode>{scale}</scale:siScaleCode>{attributes}</{prefix}:{name}>"
    )


@pytest.mark.conformance("2.0b", "EiEvent", "every signal of the profile")
@pytest.mark.parametrize(
    ("name", "kind", "type_"),
    [
        ("SIMPLE", "level", SeriesType.SIMPLE),
        ("simple", "level", SeriesType.SIMPLE),
        ("ELECTRICITY_PRICE", "price", SeriesType.PRICE),
        ("ELECTRICITY_PRICE", "priceRelative", SeriesType.PRICE_RELATIVE),
        ("ELECTRICITY_PRICE", "priceMultiplier", SeriesType.PRICE_MULTIPLIER),
        ("ENERGY_PRICE", "price", SeriesType.PRICE),
        ("DEMAND_CHARGE", "price", SeriesType.DEMAND_CHARGE),
        ("DEMAND_CHARGE", "priceRelative", SeriesType.OTHER),
        ("LOAD_DISPATCH", "setpoint", SeriesType.DISPATCH_SETPOINT),
        ("LOAD_DISPATCH", "delta", SeriesType.DISPATCH_SETPOINT_RELATIVE),
        ("LOAD_DISPATCH", "multiplier", SeriesType.DISPATCH_MULTIPLIER),
        ("LOAD_DISPATCH", "level", SeriesType.DISPATCH_LEVEL),
        ("LOAD_CONTROL", "x-loadControlCapacity", SeriesType.CONTROL_CAPACITY),
        ("LOAD_CONTROL", "x-loadControlLevelOffset", SeriesType.CONTROL_LEVEL_OFFSET),
        ("LOAD_CONTROL", "x-loadControlPercentOffset", SeriesType.CONTROL_LEVEL_OFFSET_PERCENT),
        ("LOAD_CONTROL", "x-loadControlSetpoint", SeriesType.CONTROL_SETPOINT),
        ("CHARGE_STATE", "setpoint", SeriesType.CHARGE_STATE_SETPOINT),
        ("CHARGE_STATE", "delta", SeriesType.CHARGE_STATE_DELTA),
        ("CHARGE_STATE", "multiplier", SeriesType.CHARGE_STATE_MULTIPLIER),
        ("BID_LOAD", "setpoint", SeriesType.BID_LOAD),
        ("BID_PRICE", "price", SeriesType.BID_PRICE),
        ("BID_ENERGY", "setpoint", SeriesType.BID_ENERGY),
        ("SIMPLE", "delta", SeriesType.OTHER),
        ("x-ourOwn", "setpoint", SeriesType.OTHER),
    ],
)
def test_every_signal_is_known_and_written_as_it_came(name: str, kind: str, type_: SeriesType) -> None:
    event = _one(_signal(name, kind, _interval("2")))
    (read,) = event.series
    assert (read.type, read.name) == (type_, f"{name}/{kind}")
    written = encode(distribution(event))
    assert f"<ei:signalName>{name}</ei:signalName><ei:signalType>{kind}</ei:signalType>".encode() in written
    assert schema_error(parse(written)) is None


@pytest.mark.parametrize(
    ("item", "stated", "unit", "value"),
    [
        (_item("powerReal", "W", "k", "RealPower"), "500", "KW", 500.0),
        (_item("powerReal", "W", "none", "RealPower"), "2.3", "KW", 0.0023),
        (_item("powerReal", "J/s", "M", "RealPower"), "0.5", "KW", 500.0),
        (_item("powerApparent", "VA", "k", "ApparentPower"), "7", "KVA", 7.0),
        (_item("powerReactive", "VAR", "M", "ReactivePower"), "7", "KVAR", 7000.0),
        (_item("energyReal", "Wh", "G", "RealEnergy"), "1", "KWH", 1e6),
        (_item("energyApparent", "VAh", "k", "ApparentEnergy"), "1", "KVAH", 1.0),
        (_item("energyReactive", "VARh", "k", "ReactiveEnergy"), "1", "KVARH", 1.0),
        (_item("voltage", "V", "none", "Voltage"), "240", "VOLTS", 240.0),
        (_item("current", "A", "m", "Current"), "500", "AMPS", 0.5),
        (_item("frequency", "Hz", "none", "Frequency"), "60.01", "HZ", 60.01),
        (_item("temperature", "celsius", "none", "temperature"), "21.5", "CELSIUS", 21.5),
        (_item("Therm", "thm", "none", "Therm"), "3", "THERMS", 3.0),
        (_item("customUnit", "percent", "none", "share"), "12.5", "PERCENT", 0.125),
        (_item("customUnit", "%", "none", "share"), "50", "PERCENT", 0.5),
        (_item("customUnit", "furlong", "k", "way"), "2", "furlong", 2000.0),
    ],
)
def test_a_unit_is_turned_into_ours_without_rounding(item: str, stated: str, unit: str, value: float) -> None:
    (read,) = _one(_signal("LOAD_DISPATCH", "setpoint", _interval(stated), item=item)).series
    assert (read.unit, read.currency, read.intervals[0].values) == (unit, None, (value,))


@pytest.mark.parametrize(
    ("item", "unit"),
    [("currencyPerKWh", "KWH"), ("currencyPerKW", "KW"), ("currencyPerThm", "THERMS"), ("currency", None)],
)
def test_a_price_names_its_currency_and_what_it_is_for(item: str, unit: str | None) -> None:
    base = _item(item, "EUR", "c", "currency")
    (read,) = _one(_signal("ELECTRICITY_PRICE", "price", _interval("15"), item=base)).series
    assert (read.currency, read.unit, read.intervals[0].values) == ("EUR", unit, (0.15,))  # 15 cents


def test_a_percent_offset_is_a_share_of_one_and_a_capacity_already_is() -> None:
    percent = _signal("LOAD_CONTROL", "x-loadControlPercentOffset", _interval("-20"))
    capacity = _signal("LOAD_CONTROL", "x-loadControlCapacity", _interval("0.5"))
    read = _one(percent, capacity).series
    assert [(one.unit, one.intervals[0].values) for one in read] == [("PERCENT", (-0.2,)), (None, (0.5,))]


def test_a_current_value_has_the_unit_of_its_signal() -> None:
    current = "<ei:currentValue><ei:payloadFloat><ei:value>250000</ei:value></ei:payloadFloat></ei:currentValue>"
    item = _item("powerReal", "W", "none", "RealPower")
    (read,) = _one(_signal("LOAD_DISPATCH", "setpoint", item=item, current=current)).series
    assert read.current == 250.0


def test_intervals_follow_each_other_or_start_when_they_say() -> None:
    intervals = _interval("1", "PT30M") + _interval("2", "PT15M", "2026-08-20T00:00:00Z") + _interval("3", "PT5M")
    (read,) = _one(_signal(intervals=intervals)).series
    minutes = timedelta(minutes=1)
    assert [(part.start_at - START_AT, part.duration) for part in read.intervals] == [
        (0 * minutes, 30 * minutes),
        (60 * minutes, 15 * minutes),
        (75 * minutes, 5 * minutes),
    ]


def test_an_interval_without_a_length_lasts_to_the_next_one_or_to_the_end() -> None:
    intervals = _interval("1", None) + _interval("2", None, "2026-08-20T00:00:00Z")
    (read,) = _one(_signal(intervals=intervals)).series
    assert [part.duration for part in read.intervals] == [HOUR, HOUR]
    (endless,) = _one(_signal(intervals=_interval("1", None)), length="PT0S").series
    assert endless.intervals[0].duration is None


@pytest.mark.parametrize("zero", ["PT0S", "P", "PT0M"])
def test_an_event_of_no_length_has_no_end(zero: str) -> None:
    event = _one(_signal(intervals=_interval("1", zero)), length=zero)
    assert (event.duration, event.end_at, event.series[0].intervals[0].duration) == (None, None, None)


@pytest.mark.parametrize(
    ("element", "is_test"),
    [
        ("", False),
        ("<ei:testEvent>false</ei:testEvent>", False),
        ("<ei:testEvent>False</ei:testEvent>", False),
        ("<ei:testEvent>true</ei:testEvent>", True),
        ("<ei:testEvent>certification run</ei:testEvent>", True),
        ("<ei:testEvent/>", True),
    ],
)
def test_everything_but_false_makes_a_test(element: str, is_test: bool) -> None:
    """Rule 006 of the profile."""
    assert _one(test=element).is_test is is_test


@pytest.mark.parametrize("event_id", ["007", "1.2.3", "1e3", "0x10", "true"])
def test_an_event_id_stays_the_text_it_was(event_id: str) -> None:
    assert _one(event_id=event_id).event_id == event_id
    assert f"<ei:eventID>{event_id}<".encode() in encode(distribution(grid_event(event_id=event_id)))


def test_every_kind_of_target_is_kept_for_event_and_signal() -> None:
    area = "<gml:FeatureCollection><gml:location><gml:Polygon><gml:exterior><gml:LinearRing><gml:posList>1 2\n 3 4"
    area += "</gml:posList></gml:LinearRing></gml:exterior></gml:Polygon></gml:location></gml:FeatureCollection>"
    target = (
        "<power:aggregatedPnode><power:node>n1</power:node></power:aggregatedPnode><power:endDeviceAsset><power:mrid>EVSE"
        "</power:mrid></power:endDeviceAsset><power:meterAsset><power:mrid>m1</power:mrid></power:meterAsset>"
        "<power:pnode><power:node>n2</power:node></power:pnode>"
        f"<emix:serviceArea>{area}</emix:serviceArea><power:serviceDeliveryPoint><power:node>n3</power:node>"
        f"</power:serviceDeliveryPoint><power:serviceLocation>{area}</power:serviceLocation><power:transportInterface>"
        "<power:pointOfReceipt>a</power:pointOfReceipt><power:pointOfDelivery>b</power:pointOfDelivery>"
        "</power:transportInterface><ei:groupID>g1</ei:groupID><ei:groupName>West</ei:groupName>"
        "<ei:resourceID>r1</ei:resourceID><ei:venID>ven1</ei:venID><ei:partyID>p1</ei:partyID>"
    )
    event = _one(_signal(target=f"<ei:eiTarget>{target}</ei:eiTarget>"), target=target)
    kinds = TargetKind
    assert event.targets == (
        Target(kinds.OTHER, "n1", "aggregatedPnode"),
        Target(kinds.OTHER, "EVSE", "endDeviceAsset"),
        Target(kinds.OTHER, "m1", "meterAsset"),
        Target(kinds.OTHER, "n2", "pnode"),
        Target(kinds.OTHER, "1 2 3 4", "serviceArea"),
        Target(kinds.OTHER, "n3", "serviceDeliveryPoint"),
        Target(kinds.OTHER, "1 2 3 4", "serviceLocation"),
        Target(kinds.OTHER, "a|b", "transportInterface"),
        Target(kinds.GROUP, "g1"),
        Target(kinds.GROUP, "West", "groupName"),
        Target(kinds.RESOURCE, "r1"),
        Target(kinds.VEN, "ven1"),
        Target(kinds.PARTY, "p1"),
    )
    assert event.series[0].targets == event.targets
    (back,) = decode(encode(distribution(event)), lenient=False).message.events  # type: ignore[union-attr]
    assert back.event.targets == event.targets


@pytest.mark.conformance("2.0b", "EiEvent", "a cancellation counts whatever its signals")
def test_a_cancelled_event_is_one_whatever_its_signals() -> None:
    (told,) = _told(_event(status="cancelled", number="3", wanted="never"))
    assert (told.status, told.event.cancelled, told.event.modification_number) == (EventStatus.CANCELLED, True, 3)
    assert told.event.answer_wanted is False


def test_a_defect_in_one_event_leaves_the_others_standing() -> None:
    bad_value = _event(_signal(intervals=_interval("NaN")), event_id="bad")
    bad_length = _event(event_id="long", length="P99999Y")
    bad_start = _event(event_id="early", start="-2026-08-19T23:00:00Z")
    bad_tolerance = _event(
        event_id="neg",
        period="<xcal:tolerance><xcal:tolerate><xcal:startafter>-PT5M</xcal:startafter></xcal:tolerate></xcal:tolerance>",
    )
    told = _told(bad_value, _event(event_id="good"), bad_length, bad_start, bad_tolerance)
    assert [(one.event.event_id, one.defect.code if one.defect else 200) for one in told] == [
        ("bad", m.INVALID_DATA),
        ("good", 200),
        ("long", m.INVALID_DATA),
        ("early", m.INVALID_DATA),
        ("neg", m.INVALID_DATA),
    ]
    assert told[0].defect is not None
    assert "payloadFloat" in told[0].defect.description


def test_a_baseline_is_kept_for_2_0b() -> None:
    baseline = (
        "<ei:eiEventBaseline><xcal:dtstart><xcal:date-time>2026-08-19T23:00:00Z</xcal:date-time></xcal:dtstart>"
        "<xcal:duration><xcal:duration>PT1H</xcal:duration></xcal:duration><strm:intervals>"
        f"{_interval('5')}</strm:intervals><ei:baselineID>b1</ei:baselineID><ei:resourceID>r1</ei:resourceID>"
        f"<ei:baselineName>day of</ei:baselineName>{_item('powerReal', 'W', 'k', 'RealPower')}</ei:eiEventBaseline>"
    )
    event = _one(baseline=baseline)
    kept: Any = event.extras["eiEventBaseline"]
    assert (kept["name"], kept["unit"], kept["intervals"][0]["values"]) == ("day of", "W", [5000.0])
    (back,) = decode(encode(distribution(event)), lenient=False).message.events  # type: ignore[union-attr]
    assert back.event.extras == event.extras


@pytest.mark.parametrize(
    "one",
    [
        series(1.0, type_=SeriesType.GHG, name="GHG"),
        series(1.0, type_=SeriesType.OTHER, name="MY_OWN"),
        series(1.0, type_=SeriesType.OTHER, name="x-own/nonsense"),
        series("text"),  # type: ignore[arg-type]
        series(Point(1.0, 2.0)),  # type: ignore[arg-type]
        series(True),
    ],
)
def test_what_2_0b_cannot_say_is_left_out(one: Series) -> None:
    event = grid_event(one, series(2.0), targets=(Target(TargetKind.OTHER, "north", "REGION"),))
    (told,) = decode(encode(distribution(event)), lenient=False).message.events  # type: ignore[union-attr]
    assert [read.name for read in told.event.series] == ["SIMPLE/level"]
    assert told.event.targets == ()
    with pytest.raises(InvalidRequest, match="at least one signal"):
        encode(distribution(grid_event(one)))


def test_openadr_3_names_are_written_as_2_0b_signals_in_kilo() -> None:
    power = series(5.0, type_=SeriesType.DISPATCH_SETPOINT, name="DISPATCH_SETPOINT", unit="KW")
    price = series(0.2, type_=SeriesType.PRICE, name="PRICE", unit="KWH", currency="USD")
    written = encode(distribution(grid_event(power, price)))
    assert b"<ei:signalName>LOAD_DISPATCH</ei:signalName><ei:signalType>setpoint</ei:signalType>" in written
    assert b"<power:itemUnits>W</power:itemUnits><scale:siScaleCode>k</scale:siScaleCode>" in written
    assert b"<ei:signalName>ELECTRICITY_PRICE</ei:signalName><ei:signalType>price</ei:signalType>" in written
    assert b"<oadr:itemUnits>USD</oadr:itemUnits>" in written
