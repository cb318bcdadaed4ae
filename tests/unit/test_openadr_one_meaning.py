"""An event that came in OpenADR 2.0b can be told in 3 and back, and what one of them cannot say is named."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.openadr2.codec import Refused, decode, encode
from market.openadr2.sayable import unsaid_in_openadr2
from market.openadr3.events import from_openadr3, to_openadr3
from tests.builders_downstream import HOUR, a_series, an_event
from tests.shared_data import shared_vectors
from vpp.bootstrap.translator import Translator
from vpp.domain.grid_event import EventStatus, GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.grid_event_diff import differences, losses
from vpp.domain.openadr2 import DistributedEvent, DistributeEvents

MINUTE = timedelta(minutes=1)
BOTH = {
    SeriesType.SIMPLE: None, SeriesType.PRICE: "KWH", SeriesType.DISPATCH_SETPOINT: "KW",
    SeriesType.DISPATCH_SETPOINT_RELATIVE: "KW", SeriesType.CHARGE_STATE_SETPOINT: "PERCENT",
    SeriesType.CONTROL_LEVEL_OFFSET: None, SeriesType.BID_LOAD: "KW", SeriesType.BID_ENERGY: "KWH",
    SeriesType.DISPATCH_MULTIPLIER: None, SeriesType.PRICE_MULTIPLIER: None,
}  # fmt: skip
"""Types both protocols have words for (3 by private types where it has none of its own), with a unit."""


def through_openadr2(event: GridEvent) -> GridEvent:
    status = EventStatus.CANCELLED if event.cancelled else EventStatus.FAR
    told = DistributeEvents(request_id="r", vtn_id="VTN", events=(DistributedEvent(event=event, status=status),))
    back = decode(encode(told), lenient=False).message
    assert isinstance(back, DistributeEvents)
    return back.events[0].event


def through_openadr3(event: GridEvent) -> tuple[GridEvent, set[str]]:
    body, unsaid = to_openadr3(event, program_id="p")
    back, _ = from_openadr3(body, modification_number=event.modification_number, event_id=event.event_id)
    return back, {each.field for each in unsaid}


@st.composite
def sayable_in_both(draw: st.DrawFn) -> GridEvent:
    """An event of whole seconds, numbers and types both protocols have."""
    start_at = draw(st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001
    start_at = start_at.replace(microsecond=0)
    kinds = draw(st.lists(st.sampled_from(list(BOTH)), min_size=1, max_size=3, unique=True))
    lengths = draw(st.lists(st.integers(1, 96), min_size=1, max_size=5))
    series = []
    for number, kind in enumerate(kinds):
        at, intervals = start_at, []
        for uid, length in enumerate(lengths):
            value = float(draw(st.integers(-1000, 1000))) / 8
            intervals.append(SeriesInterval(start_at=at, duration=length * 15 * MINUTE, values=(value,), uid=str(uid)))
            at += length * 15 * MINUTE
        currency = "USD" if kind is SeriesType.PRICE else None
        series.append(
            Series(
                series_id=str(number), type=kind, name=kind.value, intervals=tuple(intervals), unit=BOTH[kind],
                currency=currency,
            )
        )  # fmt: skip
    kinds_of_target = st.sampled_from([TargetKind.VEN, TargetKind.GROUP, TargetKind.RESOURCE, TargetKind.PARTY])
    names = st.text("abcXYZ0-_ ", min_size=1, max_size=8).map(str.strip).filter(bool)
    return an_event(
        start_at=start_at, duration=sum(lengths) * 15 * MINUTE, series=tuple(series),
        comment=draw(names | st.just("")), priority=draw(st.none() | st.integers(1, 9)),
        start_tolerance=draw(st.integers(0, 60)) * MINUTE,
        targets=tuple(draw(st.lists(st.builds(Target, kinds_of_target, names), max_size=3, unique=True))),
    )  # fmt: skip


@pytest.mark.conformance("all", "one meaning", "2.0b and 3 and back without loss of what both can say")
@given(sayable_in_both())
@settings(max_examples=60, deadline=None)
def test_what_both_can_say_survives_every_way_round(event: GridEvent) -> None:
    assert not unsaid_in_openadr2(event)
    once = through_openadr2(event)
    assert not differences(event, once)
    told, unsaid = through_openadr3(once)
    assert not unsaid
    assert not differences(event, told)
    assert not differences(event, through_openadr2(told))


LENGTHS = st.integers(0, 7200).map(lambda seconds: timedelta(seconds=seconds))


@st.composite
def anything(draw: st.DrawFn) -> GridEvent:
    """An event that says things only one of the protocols knows, or neither."""
    event = draw(sayable_in_both())
    kinds = draw(st.lists(st.sampled_from(list(SeriesType)), max_size=2))
    more = tuple(
        a_series(*draw(st.lists(st.floats(-9, 9) | st.booleans() | st.text(max_size=3), min_size=1, max_size=2)),
                 kind=kind, name="x-mine", series_id=draw(st.sampled_from(["0", "7", "s"])),
                 unit=draw(st.sampled_from([None, "KW", "VOLTS"])))
        for kind in kinds
    )  # fmt: skip
    return replace(
        event, series=(*event.series, *more), is_test=draw(st.booleans()), answer_wanted=draw(st.booleans()),
        ramp_up=draw(st.none() | LENGTHS), recovery=draw(st.none() | LENGTHS), notification=draw(st.none() | LENGTHS),
        duration=draw(st.none() | st.just(event.duration)), cancelled=draw(st.booleans()),
        reports_wanted=tuple(draw(st.lists(st.just("USAGE"), max_size=1))),
        targets=(*event.targets, Target(TargetKind.OTHER, "here", "NOWHERE")) if draw(st.booleans()) else event.targets,
        extras={"own": 1} if draw(st.booleans()) else {}, modification_number=draw(st.integers(0, 3)),
    )  # fmt: skip


@given(anything())
@settings(max_examples=60, deadline=None)
def test_whatever_a_trip_changes_is_named_and_nothing_else(event: GridEvent) -> None:
    unsaid = {each.field for each in unsaid_in_openadr2(event)}
    if unsaid != {"event"}:
        assert unsaid == {each.field for each in losses(event, through_openadr2(event))}
    back, unsaid = through_openadr3(event)
    assert unsaid == {each.field for each in losses(event, back)}


def test_what_openadr2_cannot_say_is_named_field_by_field() -> None:
    """The list is written out, so that a word forgotten by the writer is not taken for one that does not exist."""
    event = an_event(
        reports_wanted=("USAGE",), extras={"duration": "P9999Y"}, comment="said", is_test=True, answer_wanted=False,
        priority=3, modification_reason="said", start_tolerance=MINUTE, ramp_up=MINUTE, recovery=MINUTE,
        notification=MINUTE, targets=(Target(TargetKind.OTHER, "A1", "SERVICE_AREA"), Target(TargetKind.VEN, "v")),
        series=(
            a_series(1.0, 2.0, current=1.0, targets=(Target(TargetKind.RESOURCE, "r"),)),
            a_series(1.0, 2.0, kind=SeriesType.EXPORT_PRICE, unit="KWH", currency="USD", series_id="1"),
            a_series("standby", kind=SeriesType.DISPATCH_INSTRUCTION, series_id="2"),
        ),
    )  # fmt: skip
    said = {each.field: each.why for each in unsaid_in_openadr2(event)}
    assert set(said) == {"reports_wanted", "extras.duration", "targets", "series[1]", "series[2]"}
    assert all(said.values())


def test_an_event_2_0b_has_no_signal_for_is_not_told_there_at_all() -> None:
    event = an_event(series=(a_series("boil water", kind=SeriesType.ALERT_OTHER),))
    assert [each.field for each in unsaid_in_openadr2(event)] == ["event"]


@pytest.mark.conformance("all", "one meaning", "every recorded 2.0b event comes back from 3")
def test_every_recorded_event_of_2_0b_comes_back_from_openadr3_as_it_was() -> None:
    seen = 0
    for path in sorted(shared_vectors("openadr2b").rglob("*istribut*.xml")):
        try:
            message = decode(path.read_bytes()).message
        except Refused:  # which are refused is told by the codec's own tests
            continue
        if not isinstance(message, DistributeEvents):
            continue
        for told in message.events:
            back, lost = through_openadr3(told.event)
            assert lost == {each.field for each in differences(told.event, back)}, path.name
            assert not {f for f in lost if f in ("comment", "priority", "targets", "start_tolerance")}, path.name
            seen += 1
    assert seen


def test_the_translator_speaks_both() -> None:
    translator = Translator()
    body, unsaid = translator.to_openadr3(an_event(ramp_up=HOUR), program_id="p")
    assert "createdDateTime" not in body
    assert [each.field for each in unsaid] == ["ramp_up"]
    event, _ = translator.from_openadr3({**body, "id": "e"}, modification_number=2)
    assert (event.event_id, event.modification_number, event.program) == ("e", 2, "p")
    assert translator.unsaid_in_openadr2(event) == ()


def test_what_only_reading_back_adds_is_not_called_unsaid() -> None:
    """A report wanted is written with details in OpenADR 3; an event without such details loses none."""
    assert through_openadr3(an_event(reports_wanted=("USAGE",), targets=()))[1] == set()
