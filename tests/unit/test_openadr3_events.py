"""An event of OpenADR 3 means the same before and after it was one of the domain's."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.openadr3.events import from_openadr3, request_of, to_openadr3
from tests.builders_downstream import HOUR, START_AT, a_series, an_event
from tests.shared_data import shared_vectors
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.grid_event_diff import differences, losses
from vpp.domain.target_text import target_of_text, target_text

TOLD_AT = datetime(2026, 8, 19, 20, tzinfo=UTC)
STAMPS = {"id": "e1", "createdDateTime": "2026-08-19T20:00:00Z", "programID": "44"}
PERIOD = {"start": "2026-08-19T23:00:00Z", "duration": "PT1H"}


def an_object(*values: Any, kind: str = "PRICE", **more: Any) -> dict[str, Any]:
    """An event object with an interval for each value."""
    intervals = [{"id": i, "payloads": [{"type": kind, "values": [value]}]} for i, value in enumerate(values)]
    return {**STAMPS, "intervalPeriod": PERIOD, "intervals": intervals, **more}


def read(body: dict[str, Any], number: int = 0, **more: Any) -> GridEvent:
    event, unsaid = from_openadr3(body, modification_number=number, **more)
    assert not unsaid
    return event


def again(event: GridEvent, version: str = "3.1.0") -> tuple[GridEvent, dict[str, str]]:
    """The event after a trip through JSON, and what was said to be unsaid."""
    body, unsaid = to_openadr3(event, program_id=event.program, version=version)
    back, _ = from_openadr3(
        json.loads(json.dumps(body)), modification_number=event.modification_number, event_id=event.event_id
    )
    return back, {each.field: each.value for each in unsaid}


def times(event: GridEvent, series: int = 0) -> list[tuple[float, float | None]]:
    """Start and length of each interval [h], from the event's start."""
    return [
        ((i.start_at - event.start_at) / HOUR, None if i.duration is None else i.duration / HOUR)
        for i in event.series[series].intervals
    ]


def values(event: GridEvent, series: int = 0) -> list[Any]:
    return [value for interval in event.series[series].intervals for value in interval.values]


def is_event(body: Any) -> bool:
    return isinstance(body, dict) and ("eventName" in body or ("programID" in body and "intervals" in body))


def examples() -> list[tuple[str, dict[str, Any]]]:
    found = []
    for path in sorted(shared_vectors("openadr3", "spec_examples").glob("*.json")):
        body = json.loads(path.read_text(encoding="utf-8"))
        found += [(path.name, each) for each in (body if isinstance(body, list) else [body]) if is_event(each)]
    return found


@pytest.mark.conformance("3.1.0", "events", "every example of the definition round-trips")
def test_every_example_of_the_definition_comes_back_equal_in_meaning() -> None:
    told = examples()
    assert len(told) >= 24
    for name, body in told:
        for version in ("3.1.0", "3.0.1"):
            event, unsaid = from_openadr3(body, modification_number=0, event_id="e", received_at=TOLD_AT)
            assert not unsaid, name
            back, lost = again(event, version)
            assert not lost, (name, version, lost)
            assert not differences(event, back), (name, version)


def test_the_examples_are_written_as_they_were_read() -> None:
    """For the plainest of them the JSON is the same, but for an objectType of descriptors that 3.1 requires."""
    for name, body in examples():
        if name not in ("User_Guide_013.json", "User_Guide_015.json", "User_Guide_032.json", "User_Guide_028.json"):
            continue
        event, _ = from_openadr3(body, modification_number=0, event_id="e", received_at=TOLD_AT)
        written = request_of(to_openadr3(event, program_id=body["programID"])[0])
        for each in written["payloadDescriptors"]:
            assert each.pop("objectType") == "EVENT_PAYLOAD_DESCRIPTOR"
        written["intervalPeriod"]["start"] = written["intervalPeriod"]["start"].replace("Z", ".000Z")
        assert written == body, name


@pytest.mark.conformance("3.x", "events", "default intervals of the event")
def test_intervals_follow_each_other_and_take_the_default_length() -> None:
    body = an_object(1, 2, 3)
    body["intervals"][1]["intervalPeriod"] = {"duration": "PT2H"}
    body["intervals"][2]["intervalPeriod"] = {"start": "2026-08-20T05:00:00Z"}
    event = read(body)
    assert (event.start_at, event.duration) == (START_AT, 7 * HOUR)
    assert times(event) == [(0, 1), (1, 2), (6, 1)]
    assert again(event) == (event, {})


def test_several_numbers_share_their_interval_and_are_put_together_again() -> None:
    body = an_object(1)
    body["intervalPeriod"] = {**PERIOD, "duration": "PT3H"}
    body["intervals"][0]["payloads"] = [
        {"type": "PRICE", "values": [0.17, 0.03, 0.11]},
        {"type": "GHG", "values": [5]},
        {"type": "DISPATCH_INSTRUCTION", "values": ["shed", "standby"]},
        {"type": "CURVE", "values": [{"x": 1, "y": 2}, {"x": 2, "y": 3}]},
    ]
    event = read(body)
    assert times(event) == [(0, 1), (1, 1), (2, 1)]
    assert [times(event, n) for n in (1, 2, 3)] == [[(0, 3)]] * 3
    assert event.series[3].intervals[0].values == (Point(1, 2), Point(2, 3))
    written, _ = to_openadr3(event, program_id="44")
    assert written["intervals"] == body["intervals"]


@pytest.mark.conformance("3.1.0", "events", "event.duration and interval compaction")
@pytest.mark.parametrize(
    ("length", "hours"),
    [("PT2H", 2), ("PT1H30M", 1.5), ("P1D", 24), ("PT7H", 7), ("PT0S", 3)],
)
def test_the_duration_of_an_event_cuts_or_repeats_its_intervals(length: str, hours: float) -> None:
    event = read(an_object(1, 2, 3, duration=length))
    assert event.duration == hours * HOUR
    assert sum(part or 0 for _, part in times(event)) == hours
    assert values(event)[:4] == [1, 2, 3, 1][: len(values(event)[:4])]
    back, unsaid = again(event)
    assert (back, unsaid) == (event, {})
    older, lost = again(event, "3.0.1")
    assert [d.field for d in differences(event, older)] == list(lost)
    assert set(lost) <= {"series[0].intervals.uid"}


def test_intervals_repeated_for_ever_are_kept_once_and_said_so() -> None:
    event = read(an_object(1, 2, duration="P9999Y"))
    assert (event.duration, values(event), event.extras["duration"]) == (None, [1, 2], "P9999Y")
    assert again(event) == (event, {})


def test_repeated_intervals_too_many_to_be_told_again_are_kept_once() -> None:
    payloads = [{"type": "PRICE", "values": [1]}, {"type": "GHG", "values": [1, 2]}]  # each value has an interval
    intervals = [{"id": 0, "payloads": payloads}]
    body = {**STAMPS, "duration": "PT1H", "intervalPeriod": {"start": "2026-08-19T23:00:00Z", "duration": "PT1S"}}
    event = read(body | {"intervals": intervals})
    assert sum(len(series.intervals) for series in event.series) == 3, "and not 10,800"
    assert again(event)[0].duration == timedelta(hours=1)


def test_what_has_no_end_has_no_duration() -> None:
    event = read(an_object(0.5, kind="DISPATCH_SETPOINT", intervalPeriod={**PERIOD, "duration": "P9999Y"}))
    assert (event.duration, event.series[0].intervals[0].duration, event.end_at) == (None, None, None)
    assert again(event) == (event, {})
    with pytest.raises(InvalidRequest, match="no end"):
        read(an_object(1, 2, intervalPeriod={**PERIOD, "duration": "P9999Y"}))


@pytest.mark.parametrize("start", ["0001-01-01", "0001-01-01T00:00:00", "0000-00-00", None])
def test_the_beginning_of_time_is_when_the_event_was_stated(start: str | None) -> None:
    period = {"duration": "PT1H", **({"start": start} if start else {})}
    event = read(an_object(1, intervalPeriod=period))
    assert event.start_at == TOLD_AT
    assert to_openadr3(event, program_id="44")[0]["intervalPeriod"]["start"] == "0001-01-01"
    assert again(event) == (event, {})
    later = read(an_object(1, intervalPeriod=period, modificationDateTime="2026-08-19T21:00:00Z"))
    assert later.start_at == TOLD_AT + HOUR


@pytest.mark.parametrize(
    ("text", "days"), [("P1Y", 365), ("P1M", 31), ("P2W", 14), ("PT36H", 1.5), ("PT0.5S", 0.5 / 86400)]
)
def test_years_and_months_are_those_of_the_calendar(text: str, days: float) -> None:
    assert read(an_object(1, intervalPeriod={**PERIOD, "duration": text})).duration == timedelta(days=days)


@pytest.mark.parametrize(
    "broken",
    [
        {"intervalPeriod": {"start": "soon"}},
        {"intervalPeriod": {**PERIOD, "duration": "1 hour"}},
        {"intervalPeriod": {**PERIOD, "duration": "-PT1H"}},
        {"intervalPeriod": {**PERIOD, "randomizeStart": "P9999Y"}},
        {"intervalPeriod": []},
        {"intervals": {}},
        {"intervals": [1]},
        {"intervals": [{"id": 0, "payloads": [{"type": "", "values": [1]}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [None]}]}]},
        {"intervals": [{"id": 0, "payloads": [{"type": "PRICE", "values": [{"x": 1}]}]}]},
        {"intervals": [{"id": "0", "payloads": []}]},
        {"priority": -1},
        {"priority": True},
        {"targets": "all"},
        {"targets": [1]},
        {"programID": 44},
        {"id": None},
        {"eventName": 1},
        {"duration": "soon"},
        {"payloadDescriptors": [{}]},
        {"reportDescriptors": [{"payloadType": 1}]},
    ],
)
def test_what_is_no_event_is_refused_by_name(broken: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest):
        read({**an_object(1), **broken})


def test_explicit_nulls_say_nothing() -> None:
    names = ("eventName", "duration", "priority", "targets", "reportDescriptors", "payloadDescriptors")
    body = an_object(1, **dict.fromkeys(names), modificationDateTime=None)
    body["intervals"][0]["intervalPeriod"] = None
    assert read(body) == read(an_object(1))


def test_priority_counts_from_the_other_end() -> None:
    assert [read(an_object(1, priority=p)).priority for p in (None, 0, 4)] == [None, 1, 5]
    for priority, written in ((None, None), (0, None), (1, 0), (3, 2)):
        assert to_openadr3(an_event(priority=priority), program_id="p")[0].get("priority") == written


def test_units_come_from_the_event_or_else_from_its_programme() -> None:
    body = an_object(0.2, payloadDescriptors=[{"payloadType": "PRICE", "units": "KWH", "currency": "USD"}])
    defaults = ({"payloadType": "PRICE", "units": "THERMS"}, {"payloadType": "DISPATCH_SETPOINT", "units": "KW"})
    assert read(body, descriptors=defaults).series[0].unit == "KWH"
    assert read(body).series[0].currency == "USD"
    assert read(an_object(2, kind="DISPATCH_SETPOINT"), descriptors=defaults).series[0].unit == "KW"
    percent = read(an_object(0.25, kind="CHARGE_STATE_SETPOINT", payloadDescriptors=[
        {"payloadType": "CHARGE_STATE_SETPOINT", "units": "PERCENT"}]))  # fmt: skip
    assert (percent.series[0].unit, values(percent)) == ("PERCENT", [0.25])


@pytest.mark.conformance("3.x", "events", "custom payload types are kept and shown")
def test_unknown_types_keep_their_name_and_values() -> None:
    event = read(an_object("sesame", True, kind="x-open"))
    assert (event.series[0].type, event.series[0].name, values(event)) == (SeriesType.OTHER, "x-open", ["sesame", True])
    assert again(event) == (event, {})


def test_descriptors_of_reports_are_kept_whole() -> None:
    wanted = [{"payloadType": "USAGE", "readingType": "DIRECT_READ", "frequency": 2}, {"payloadType": "DEMAND"}]
    event = read(an_object(1, reportDescriptors=wanted))
    assert event.reports_wanted == ("USAGE", "DEMAND")
    assert to_openadr3(event, program_id="44")[0]["reportDescriptors"] == wanted
    asked = an_event(reports_wanted=("DEMAND",))
    assert to_openadr3(asked, program_id="44")[0]["reportDescriptors"] == [{"payloadType": "DEMAND"}]


def test_targets_keep_their_kind_in_both_versions() -> None:
    targets = (
        Target(TargetKind.GROUP, "north"),
        Target(TargetKind.VEN, "plant-7"),
        Target(TargetKind.RESOURCE, "pump"),
        Target(TargetKind.PARTY, "acme"),
        Target(TargetKind.OTHER, "A1", "SERVICE_AREA"),
    )
    event = an_event(targets=targets, series=(a_series(1),))
    body, _ = to_openadr3(event, program_id="p")
    assert body["targets"] == ["north", "ven:plant-7", "resource:pump", "party:acme", "other:SERVICE_AREA:A1"]
    older, _ = to_openadr3(event, program_id="p", version="3.0.1")
    assert older["targets"][:2] == [{"type": "GROUP", "values": ["north"]}, {"type": "VEN_NAME", "values": ["plant-7"]}]
    for version in ("3.1.0", "3.0.1"):
        assert again(event, version)[0].targets == targets


NAMES = st.text(max_size=20) | st.sampled_from(["ven:a", "group:", "other:x", "party:b:c", "", ":"])


@given(st.builds(Target, st.sampled_from(TargetKind), NAMES, st.text(alphabet="a:%3A2", max_size=8)))
@settings(max_examples=80, deadline=None)
def test_no_two_targets_have_one_text(target: Target) -> None:
    if target.kind is not TargetKind.OTHER:
        target = replace(target, label="")
    assert target_of_text(target_text(target)) == target


def test_a_cancelled_event_is_told_by_no_time_at_all() -> None:
    event = an_event(cancelled=True, modification_number=3)
    body, _ = to_openadr3(event, program_id="p")
    assert body["intervalPeriod"] == {"start": "0001-01-01", "duration": "PT0S"}
    assert read(body, 3).cancelled
    assert not read(body, 0).cancelled, "an event that began so was never anything else"
    assert not read({**body, "reportDescriptors": [{"payloadType": "USAGE"}]}, 3).cancelled


def test_what_openadr3_cannot_say_is_named_field_by_field() -> None:
    minute = timedelta(minutes=1)
    event = an_event(
        "http://utility/7", is_test=True, answer_wanted=False, notification=minute, ramp_up=minute, recovery=minute,
        modification_reason="because", comment="said", priority=2, start_tolerance=minute, duration=3 * HOUR,
        extras={"vtn": "only"},
        series=(
            a_series(1, 2, series_id="s1", current=1.0, targets=(Target(TargetKind.OTHER, "d", "device"),)),
            a_series(5, kind=SeriesType.PRICE, unit="KWH", currency="USD", series_id="1"),
            a_series(6, kind=SeriesType.PRICE, unit="KWH", currency="EUR", series_id="2"),
        ),
    )  # fmt: skip
    back, unsaid = again(event)
    assert set(unsaid) == {
        "is_test", "answer_wanted", "notification", "ramp_up", "recovery", "modification_reason", "duration",
        "extras.vtn", "series[0].series_id", "series[0].current", "series[0].targets", "series[2].currency",
    }  # fmt: skip
    assert set(unsaid) == {each.field for each in losses(event, back)}
    body, reasons = to_openadr3(event, program_id="p")
    assert "id" not in body
    assert all(each.why for each in reasons)


NUMBERS = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-1000, 1000)
VALUES = NUMBERS | st.booleans() | st.text(max_size=5) | st.builds(Point, NUMBERS, NUMBERS)
LENGTHS = st.timedeltas(timedelta(0), timedelta(days=2)) | st.sampled_from([HOUR, 2 * HOUR])
INSTANTS = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TYPES = st.sampled_from([t for t in SeriesType if t is not SeriesType.OTHER])
TARGETS = st.builds(Target, st.sampled_from(list(TargetKind)[:4]), st.text(max_size=9))


@st.composite
def any_event(draw: st.DrawFn) -> GridEvent:
    start_at = draw(INSTANTS)
    series = []
    for number in range(draw(st.integers(0, 3))):
        at, intervals = start_at, []
        for uid in range(draw(st.integers(1, 4))):
            length = draw(LENGTHS)
            found = tuple(draw(st.lists(VALUES, max_size=2)))
            intervals.append(SeriesInterval(start_at=at, duration=length, values=found, uid=draw(
                st.sampled_from([str(uid), "0", "x"]))))  # fmt: skip
            at += draw(st.sampled_from([length, length, length + HOUR]))
        kind = draw(TYPES | st.just(SeriesType.OTHER))
        name = "x-own" if kind is SeriesType.OTHER else kind.value
        unit, currency = draw(st.sampled_from([None, "KW", "PERCENT"])), draw(st.sampled_from([None, "USD"]))
        series.append(Series(series_id=draw(st.sampled_from([str(number), "s"])), type=kind, name=name,
                             intervals=tuple(intervals), unit=unit, currency=currency))  # fmt: skip
    return an_event(
        start_at=start_at, series=tuple(series), duration=draw(st.none() | LENGTHS),
        priority=draw(st.none() | st.integers(0, 9)), comment=draw(st.text(max_size=9)), is_test=draw(st.booleans()),
        start_tolerance=draw(LENGTHS), ramp_up=draw(st.none() | LENGTHS),
        targets=tuple(draw(st.lists(TARGETS, max_size=3))),
        cancelled=draw(st.booleans()), modification_number=draw(st.integers(0, 2)),
        reports_wanted=tuple(draw(st.lists(st.sampled_from(["USAGE", "DEMAND"]), max_size=2))),
    )  # fmt: skip


@given(any_event(), st.sampled_from(["3.1.0", "3.0.1"]))
@settings(max_examples=100, deadline=None)
def test_exactly_what_differs_after_a_trip_is_named(event: GridEvent, version: str) -> None:
    back, unsaid = again(event, version)
    assert set(unsaid) == {each.field for each in losses(event, back)}
    once_more, lost = again(back, version)
    assert not differences(back, once_more), "what came once comes again"
    assert not lost


JSON_PERIOD = st.fixed_dictionaries(
    {"start": st.sampled_from(["2026-08-19T23:00:00Z", "0001-01-01", "2026-08-20T04:00:00+02:00"])},
    optional={
        "duration": st.sampled_from(["PT1H", "PT15M", "P1D", "PT0S", "P1M", "PT1.5S"]),
        "randomizeStart": st.sampled_from(["PT5M", "PT0S"]),
    },
)
JSON_VALUE = NUMBERS | st.booleans() | st.text(max_size=4) | st.fixed_dictionaries({"x": NUMBERS, "y": NUMBERS})
JSON_PAYLOAD = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["PRICE", "GHG", "CURVE", "x-own"]),
        "values": st.lists(JSON_VALUE, min_size=1, max_size=3),
    }
)


@st.composite
def any_object(draw: st.DrawFn) -> dict[str, Any]:
    ids = range(draw(st.integers(1, 4)))
    payloads = st.lists(JSON_PAYLOAD, min_size=1, max_size=2, unique_by=lambda payload: payload["type"])
    intervals = [{"id": n, "payloads": draw(payloads)} for n in ids]
    for each in intervals[1:]:
        if draw(st.booleans()):
            each["intervalPeriod"] = {"duration": draw(st.sampled_from(["PT2H", "PT7M"]))}
    more = draw(st.fixed_dictionaries({}, optional={
        "eventName": st.text(max_size=9), "priority": st.integers(0, 9),
        "targets": st.lists(st.text(min_size=1, max_size=12), max_size=3),
        "duration": st.sampled_from(["PT3H", "P2D", "P9999Y", "PT0S"]),
        "payloadDescriptors": st.just([{"payloadType": n, "units": "KWH"} for n in ("GHG", "PRICE")]),
        "reportDescriptors": st.just([{"payloadType": "USAGE", "repeat": -1}]),
    }))  # fmt: skip
    return {**STAMPS, "intervalPeriod": draw(JSON_PERIOD), "intervals": intervals, **more}


@given(any_object())
@settings(max_examples=100, deadline=None)
def test_any_event_object_comes_back_with_nothing_lost(body: dict[str, Any]) -> None:
    event = read(body)
    back, unsaid = again(event)
    lost = set(unsaid)
    assert lost == {each.field for each in losses(event, back)}
    assert all(field.endswith(("intervals.uid", "duration", "intervals")) for field in lost), lost
    if "duration" not in body:
        assert not lost, body


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=4,
)


@given(st.dictionaries(st.sampled_from([*an_object(1), "duration", "targets", "priority"]), JSON))
@settings(max_examples=100, deadline=None)
def test_any_json_is_an_event_or_refused(changes: dict[str, Any]) -> None:
    try:
        event, _ = from_openadr3({**an_object(1), **changes}, modification_number=0)
        to_openadr3(event, program_id="p")
    except InvalidRequest:
        return
