"""The operator composes, previews and modifies events of several signals on pages."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.builders_downstream import HOUR, a_series, an_event
from tests.builders_grid_events import SendingWorld, a_sending_world, sending_portal, told
from tests.builders_portal import NOW, browser, signed_in
from tests.clock import FixedClock
from tests.page_form import fields_of, sent, with_changes
from vpp.domain.grid_event import GridEvent, Point, SeriesType, Target, TargetKind
from vpp.peering import load_grid_event
from vpp.portal.grid_event_form import MAX_SIGNALS, typed_of
from vpp.store.engine import Store

PAGES = "/operator/grid-events"
ZONE = "America/Los_Angeles"
PRICE = a_series(0.25, 0.4, kind=SeriesType.PRICE, series_id="price", unit="KWH", currency="USD")
LEVEL = a_series(1, 2, series_id="level")
BOTH = an_event(
    series=(LEVEL, PRICE), reports_wanted=("USAGE",), modification_reason="heat", priority=0, ramp_up=timedelta(0),
    targets=(Target(TargetKind.VEN, "ven-1"), Target(TargetKind.GROUP, "north"), Target(TargetKind.PARTY, "p")),
    start_at=LEVEL.intervals[0].start_at, comment="hot", recovery=timedelta(seconds=20),
)  # fmt: skip


@pytest.fixture
async def world(store: Store) -> SendingWorld:
    return await a_sending_world(store)


async def stands(store: Store, world: SendingWorld, event_id: str) -> GridEvent:
    async with store.begin() as connection:
        return await load_grid_event(connection, event_id, tenant_id=world.tenant_id)


async def test_an_event_of_several_signals_is_composed_without_scripts(store: Store, world: SendingWorld) -> None:
    async with browser(sending_portal(store, FixedClock(NOW))) as client:
        await signed_in(client, world.operator)
        blank = fields_of((await client.get(f"{PAGES}/new")).text)
        first = {("program", 0): "peak", ("minutes", 1): "30", ("value", 1): "2", ("comment", 0): "kept as typed"}
        filled = with_changes(blank, first)
        further = await client.post(f"{PAGES}/new", **sent([*filled, ("more_signals", "yes")]))
        assert "kept as typed" in further.text
        second = {("type", 1): "PRICE", ("unit", 1): "KWH", ("currency", 1): "usd", ("value", 4): "0.25"}
        typed = with_changes(fields_of(further.text), second)
        assert [value for name, value in typed if name == "minutes"] == ["60", "30", "", ""] * 2
        preview = await client.post(f"{PAGES}/preview", **sent(typed))
        assert "signal 2, intervals: 1 to 50 values" in preview.text.lower()
        refused = await client.post(f"{PAGES}/new", **sent(typed))
        assert (refused.status_code, refused.text.count("Signal 2, intervals: 1 to 50 values")) == (422, 1)
        assert 'aria-describedby="wrong-rows-1"' in refused.text
        right = with_changes(typed, {("value", 5): "0.4"})
        preview = await client.post(f"{PAGES}/preview", **sent(right))
        assert "Simple level, 0 to 3; Price of energy, USD/kWh, to everybody" in preview.text
        more = await client.post(f"{PAGES}/new", **sent([*right, ("more", "1")]))
        assert [name for name, _ in fields_of(more.text)].count("minutes") == 4 + 8
        done = await client.post(f"{PAGES}/new", **sent(right))
        assert done.status_code == 303
        event = await stands(store, world, dict(blank)["event_id"])
        assert [(each.series_id, each.type, each.unit, each.currency) for each in event.series] == [
            ("0", SeriesType.SIMPLE, None, None), ("1", SeriesType.PRICE, "KWH", "USD")
        ]  # fmt: skip
        assert [part.values for part in event.series[1].intervals] == [(0.25,), (0.4,)]
        assert event.duration == 1.5 * HOUR
        fewer = await client.post(f"{PAGES}/new", **sent([*right, ("drop", "0")]))
        assert [value for name, value in fields_of(fewer.text) if name == "type"] == ["PRICE"]


async def test_an_event_opened_and_saved_unchanged_is_the_same_event(store: Store, world: SendingWorld) -> None:
    address = f"{PAGES}/event/{BOTH.event_id}"
    async with store.begin() as connection:
        await told(connection, world.tenant_id, BOTH)
    before = await stands(store, world, BOTH.event_id)
    async with browser(sending_portal(store, FixedClock(NOW))) as client:
        await signed_in(client, world.operator)
        assert "Modify" in (await client.get(address)).text
        fields = fields_of((await client.get(f"{address}/modify")).text)
        assert (await client.post(f"{address}/modify", **sent(fields))).status_code == 303
        assert await stands(store, world, BOTH.event_id) == before
        dearer = with_changes(fields, {("value", 3): "0.5"})
        assert (await client.post(f"{address}/modify", **sent(dearer))).status_code == 303
        after = await stands(store, world, BOTH.event_id)
        assert after.modification_number == 1
        assert after.series[0] == before.series[0], "what nobody touched is told as it was, ids and words included"
        last = replace(PRICE.intervals[1], values=(0.5,))
        assert after.series[1] == replace(PRICE, intervals=(PRICE.intervals[0], last))
        assert (after.targets, after.reports_wanted) == (before.targets, before.reports_wanted)
        alone = await client.post(f"{address}/modify", **sent([*fields_of((await client.get(f"{address}/modify")).text),
                                                               ("drop", "0")]))  # fmt: skip
        assert (await client.post(f"{address}/modify", **sent(fields_of(alone.text)))).status_code == 303
        assert (await stands(store, world, BOTH.event_id)).series == (after.series[1],)


A_PART = PRICE.intervals[0]
UNSAID_BY_THE_FORM: dict[str, dict[str, Any]] = {
    "targets of one signal": {"series": (replace(PRICE, targets=(Target(TargetKind.VEN, "ven-1"),)), LEVEL)},
    "a current value": {"series": (replace(PRICE, current=1.0), LEVEL)},
    "a gap": {"series": (LEVEL, replace(PRICE, intervals=PRICE.intervals[1:]))},
    "an end of its own": {"duration": 3 * HOUR},
    "a unit not of the list": {"series": (replace(PRICE, unit="MWH"),)},
    "intervals that begin a part of a second later": {"start_at": BOTH.start_at + timedelta(microseconds=1)},
    "a number of too many digits": {"series": (replace(LEVEL, type=SeriesType.DISPATCH_SETPOINT, intervals=tuple(
        replace(each, values=(0.1 + 0.2,)) for each in LEVEL.intervals)),)},
    "a curve of bare numbers": {"series": (replace(PRICE, type=SeriesType.CURVE, unit=None, currency=None),)},
    "a kind of addressee unknown": {"targets": (Target(TargetKind.OTHER, "x", "FEEDER"),)},
    "a comma in a name": {"targets": (Target(TargetKind.RESOURCE, "a,b"),)},
    "a comment of two lines": {"comment": "one\ntwo"},
    "two signals of one id": {"series": (LEVEL, LEVEL)},
    "no signal": {"series": (), "duration": None},
    "too many signals": {"series": tuple(replace(LEVEL, series_id=str(i)) for i in range(MAX_SIGNALS + 1))},
    "too many intervals": {"series": (a_series(*(1,) * 301),), "duration": 301 * HOUR},
}  # fmt: skip


@pytest.mark.parametrize("what", UNSAID_BY_THE_FORM)
def test_what_the_form_would_lose_is_not_opened_in_it(what: str) -> None:
    assert typed_of(replace(BOTH, **UNSAID_BY_THE_FORM[what]), ZONE) is None


def test_a_curve_of_points_and_a_start_within_a_minute_are_opened() -> None:
    points = tuple(replace(part, values=(Point(0.95, 0.3), Point(1.05, -0.3))) for part in PRICE.intervals)
    curve = replace(PRICE, type=SeriesType.CURVE, name="CURVE", unit=None, currency=None, intervals=points)
    assert typed_of(replace(BOTH, series=(LEVEL, curve)), ZONE) is not None
    later = timedelta(seconds=7)
    begins = tuple(replace(part, start_at=part.start_at + later) for part in LEVEL.intervals)
    form = typed_of(
        replace(BOTH, start_at=BOTH.start_at + later, series=(replace(LEVEL, intervals=begins),), cancelled=True), ZONE
    )
    assert form is not None
    assert form["start"].endswith(":07")


async def test_an_event_the_form_cannot_state_is_said_to_be_changed_by_api(store: Store, world: SendingWorld) -> None:
    async with store.begin() as connection:
        await told(connection, world.tenant_id, replace(BOTH, **UNSAID_BY_THE_FORM["targets of one signal"]))
    async with browser(sending_portal(store, FixedClock(NOW))) as client:
        await signed_in(client, world.operator)
        page = (await client.get(f"{PAGES}/event/{BOTH.event_id}")).text
        assert "This event says what the form has no field for, as targets of one signal" in page
        assert "PUT /api/v1/grid-events" in page
        refused = await client.get(f"{PAGES}/event/{BOTH.event_id}/modify")
        assert (refused.status_code, "change it through the API" in refused.text) == (409, True)


MISTAKES: list[tuple[dict[tuple[str, int], str], str]] = [
    ({("value", 0): "4"}, "Signal 1, intervals: A level of 0, 1, 2 or 3 in interval 1"),
    ({("unit", 1): "KW"}, "Signal 2, unit: One of KWH, THERMS or none"),
    ({("currency", 1): "dollars"}, "Signal 2, currency: Three letters"),
    ({("type", 1): "NONSENSE"}, "Signal 2, type: A signal of the list"),
    ({("type", 1): "OTHER", ("unit", 1): "", ("name", 1): ""}, "Signal 2, name of the private type: The private"),
    ({("minutes", 2): "0"}, "Signal 2, intervals: Nothing after interval 1, which has no end"),
    ({("minutes", 3): ""}, "Signal 2, intervals: Interval 2 needs its minutes"),
]


async def test_a_mistake_names_the_signal_and_its_field(store: Store, world: SendingWorld) -> None:
    async with store.begin() as connection:
        await told(connection, world.tenant_id, BOTH)
    address = f"{PAGES}/event/{BOTH.event_id}/modify"
    async with browser(sending_portal(store, FixedClock(NOW))) as client:
        await signed_in(client, world.operator)
        fields = fields_of((await client.get(address)).text)
        for changes, words in MISTAKES:
            answer = await client.post(address, **sent(with_changes(fields, changes)))
            assert (answer.status_code, words in answer.text) == (422, True), words
        crowd = [*fields, *[("type", "SIMPLE"), ("minutes", "60"), ("value", "1")] * MAX_SIGNALS]
        assert "1 to 10 signals" in (await client.post(address, **sent(crowd))).text
        long = [*fields, *[("minutes", "1"), ("value", "1")] * 300]
        assert "Signal 2, intervals: At most 300 intervals" in (await client.post(address, **sent(long))).text
    assert (await stands(store, world, BOTH.event_id)).modification_number == 0
