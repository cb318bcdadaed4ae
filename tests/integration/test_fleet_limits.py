"""Capacity limits a utility sets, from the event to the command.

Goal: while a limit is in force no command and no promise exceeds it, whatever is owed; it ends with its event.
Method: limits heard by the gateway's own keeper on a real store, control cycles over batteries in memory.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import event as sa_event
from sqlalchemy import select
from structlog.testing import capture_logs

from tests.builders import TENANT, a_commitment
from tests.builders_dispatch import CYCLE, LOAD_KW, PLAIN_TARIFF, World, a_world
from tests.builders_enrolment import site_form
from vpp.commitments.records import create
from vpp.dispatch import covers, run_cycle
from vpp.domain.commitment import CommitmentState
from vpp.domain.fleet_signal import Direction
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.enrolment import enrol, load_sites
from vpp.gateway.hearing import Hearing, HearingTerms, Outcome
from vpp.peering import limits_between
from vpp.store.engine import Store
from vpp.store.tables.dispatch import command as commands
from vpp.telemetry import publish

HOUR = timedelta(hours=1)
SITE_1 = Target(TargetKind.RESOURCE, "site-001")
OURS = Outcome(program="csrp")
NOISE_KW = 0.02
"""What the load of a fake house moves by."""


def limit_event(
    start_at: datetime,
    *kw: float,
    direction: Direction = Direction.EXPORT,
    targets: Sequence[Target] = (),
    length: timedelta | None = HOUR,
    number: int = 0,
    event_id: str = "limit-1",
    unit: str | None = "KW",
    **more: Any,
) -> GridEvent:
    """A capacity limit, an hour for each value; the last without end where `length` is None."""
    name = f"{direction.value.upper()}_CAPACITY_LIMIT"
    parts = tuple(
        SeriesInterval(start_at=start_at + n * (length or HOUR), duration=length, values=(value,), uid=str(n))
        for n, value in enumerate(kw)
    )
    series = Series(series_id="0", type=SeriesType(name), name=name, intervals=parts, unit=unit)
    return GridEvent(
        event_id=event_id,
        modification_number=number,
        program="p",
        start_at=start_at,
        duration=None if length is None else len(kw) * length,
        series=(series,),
        created_at=start_at,
        targets=tuple(targets),
        **more,
    )


def keeper(world: World, terms: HearingTerms | None = None) -> Hearing:
    return Hearing(world.store, world.clock, "openadr3:utility", TENANT, terms or HearingTerms())


async def limits(store: Store, at: datetime) -> list[tuple[str | None, str, float]]:
    async with store.begin() as connection:
        found = await limits_between(connection, tenant_id=TENANT, start_at=at, end_at=at + CYCLE)
    return [(limit.site_id, limit.direction.value, limit.limit_kw) for limit in found]


async def last_powers(world: World) -> dict[str, float]:
    rows = await world.commands()
    latest = max(row.cycle_start_at for row in rows)
    return {row.site_id: row.power_kw for row in rows if row.cycle_start_at == latest}


async def test_a_site_under_an_export_limit_gives_no_more_and_the_others_make_up_for_it(store: Store) -> None:
    world = await a_world(store, 18)
    free = await world.cycle()
    before = await last_powers(world)
    busy = max(before, key=lambda site_id: before[site_id])
    assert before[busy] - LOAD_KW > 0.5 + NOISE_KW
    world.pass_time()
    target = Target(TargetKind.RESOURCE, busy)
    await keeper(world).hear(limit_event(world.clock.now(), 0.5, targets=[target]), OURS)
    limited = await world.cycle()
    after = await last_powers(world)
    assert after[busy] <= LOAD_KW + 0.5 + NOISE_KW
    assert after[busy] >= LOAD_KW  # its own load may be served
    assert limited.planned_kw == pytest.approx(free.planned_kw, abs=0.1)


async def test_a_limit_of_the_fleet_holds_for_the_sum_although_more_is_owed(store: Store) -> None:
    world = await a_world(store, 24)
    await keeper(world).hear(limit_event(world.clock.now(), 4.0), OURS)
    outcome = await world.cycle()
    powers = await last_powers(world)
    assert sum(powers.values()) <= 6 * (LOAD_KW + NOISE_KW) + 4.0
    assert sum(powers.values()) > 6 * LOAD_KW + 3.5
    assert outcome.planned_kw == pytest.approx(sum(powers.values()))
    (cycle,) = await world.cycles()
    assert cycle.shortfall_kw == pytest.approx(24 - outcome.planned_kw, abs=0.01)
    assert cycle.solve["limits"] == [
        {"direction": "export", "kw": 4.0, "site": None, "event": "limit-1", "source": "openadr3:utility"}
    ]


async def test_what_sites_outside_the_plan_send_is_taken_off_a_limit_of_the_fleet(store: Store) -> None:
    world = await a_world(store, 24, setpoint=4)
    other = site_form(9, programs=[], tariff=PLAIN_TARIFF, peaks_so_far_kw={})
    async with store.begin() as connection:
        await enrol(connection, TENANT, [other], now=world.clock.now())
        (outside,) = await load_sites(connection, tenant_id=TENANT, site_ids=["site-009"])
    now = world.clock.now()
    reading = replace(await world.kw.read(outside), battery_kw=4.0, grid_kw=3.0)
    await publish(store, [reading])
    await keeper(world).hear(limit_event(now, 4.0), OURS)
    await world.cycle()
    powers = await last_powers(world)
    assert outside.id not in powers
    assert sum(powers.values()) <= 4 * (LOAD_KW + NOISE_KW) + 1.0
    assert sum(powers.values()) > 4 * LOAD_KW + 0.9


async def test_two_events_planned_at_once_keep_a_limit_of_the_fleet_together(store: Store) -> None:
    world = await a_world(store, 12, setpoint=3)
    now = world.clock.now()
    others = [
        site_form(n, programs=[{"program": "csrp", "owner_share": "0.8"}], tariff=PLAIN_TARIFF, peaks_so_far_kw={})
        for n in (7, 8, 9)
    ]
    second = a_commitment(12, external_id="event-2", program="csrp", state=CommitmentState.ACTIVE)
    second = replace(second, next_due_at=second.window.start_at)
    async with store.begin() as connection:
        await enrol(connection, TENANT, others, now=now)
        await create(connection, second, at=now)
        world.sites = await load_sites(connection, tenant_id=TENANT)
    await keeper(world).hear(limit_event(now, 3.0), OURS)
    for _ in range(2):
        await world.report()
        async with asyncio.TaskGroup() as group:
            for commitment in (world.commitment, second):
                group.create_task(run_cycle(world.tools, commitment, world.interval()))
        async with store.begin() as connection:
            sent = (
                await connection.execute(select(commands).where(commands.c.cycle_start_at == world.clock.now()))
            ).all()
        total_kw = sum(row.power_kw for row in sent)
        assert 6 * LOAD_KW + 2.5 < total_kw <= 6 * (LOAD_KW + NOISE_KW) + 3.0
        world.pass_time()


async def test_a_site_nobody_can_read_counts_for_nothing(store: Store) -> None:
    world = await a_world(store, 24, setpoint=4)
    await keeper(world).hear(limit_event(world.clock.now(), 4.0), OURS)
    world.silent.add("site-004")
    await world.cycle()
    powers = await last_powers(world)
    assert "site-004" not in powers
    assert sum(powers.values()) <= 3 * (LOAD_KW + NOISE_KW) + 4.0


async def test_a_limit_ends_with_its_interval_and_with_its_event(store: Store) -> None:
    world = await a_world(store, 29)  # near all that six batteries of 5 kW can give
    hearing = keeper(world)
    event = limit_event(world.clock.now(), 0.0, targets=[SITE_1], length=CYCLE)
    await hearing.hear(event, OURS)
    await world.cycle()
    assert (await last_powers(world)).get("site-001", 0.0) <= LOAD_KW + NOISE_KW
    world.pass_time()
    await world.cycle()
    assert (await last_powers(world))["site-001"] > LOAD_KW + 1  # its five minutes are over
    world.pass_time()
    await hearing.hear(limit_event(world.clock.now(), 0.0, targets=[SITE_1], number=1), OURS)
    await world.cycle()
    assert (await last_powers(world)).get("site-001", 0.0) <= LOAD_KW + NOISE_KW
    assert await hearing.withdraw(await hearing.absent(set())) == 1
    assert await hearing.withdraw({"limit-1"}) == 0
    world.pass_time()
    await world.cycle()
    assert (await last_powers(world))["site-001"] > LOAD_KW + 1


async def test_a_cancelled_limit_no_longer_holds_and_one_told_again_does(store: Store) -> None:
    world = await a_world(store, 18)
    hearing, now = keeper(world), world.clock.now()
    event = limit_event(now, 2.0)
    await hearing.hear(event, OURS)
    await hearing.hear(replace(event, cancelled=True, modification_number=1), OURS)
    assert await limits(store, now) == []
    await hearing.hear(replace(event, modification_number=2), OURS)
    assert await limits(store, now) == [(None, "export", 2.0)]
    await hearing.leave()
    assert await limits(store, now) == []


async def test_a_limit_without_end_holds_until_it_is_withdrawn(store: Store) -> None:
    world = await a_world(store, 18)
    hearing, later = keeper(world), world.clock.now() + timedelta(days=400)
    await hearing.hear(limit_event(world.clock.now(), 2.0, length=None), OURS)
    assert await limits(store, later) == [(None, "export", 2.0)]
    await hearing.withdraw({"limit-1"})
    assert await limits(store, later) == []


async def test_a_fleet_under_a_limit_promises_no_more_than_the_limit_lets_it_give(store: Store) -> None:
    world = await a_world(store, 18)
    await world.report()

    async def answer() -> tuple[bool, str]:
        async with store.begin() as connection:
            decision = await covers(connection, world.commitment, clock=world.clock, mode_adapters=frozenset())
        return decision.opt_in, decision.reason

    assert (await answer())[0]
    await keeper(world).hear(limit_event(world.clock.now(), 3.0), OURS)
    accepted, reason = await answer()
    assert not accepted
    assert "fleet can hold 9 kW" in reason  # six houses of 1 kW, and 3 kW on top


async def test_whether_the_fleet_covers_an_event_is_found_out_by_as_many_queries_however_many_are_owed(
    store: Store,
) -> None:
    world = await a_world(store, 18)
    await world.report()
    asked: list[str] = []
    earlier = tuple(replace(t, interval=t.interval.shifted(-timedelta(minutes=1))) for t in world.commitment.targets)
    sa_event.listen(store.engine.sync_engine, "before_cursor_execute", lambda *said: asked.append(said[2]))

    async def queries(*others: str) -> int:
        async with store.begin() as connection:
            for name in others:
                other = replace(a_commitment(external_id=name), targets=earlier)
                await create(connection, other, at=world.clock.now())
            asked.clear()
            await covers(connection, world.commitment, clock=world.clock, mode_adapters=frozenset())
            return len(asked)

    assert await queries("one") == await queries("two", "three", "four")


async def test_a_mode_only_battery_is_left_alone_where_its_most_is_not_allowed(store: Store) -> None:
    world = await a_world(store, 15, setpoint=2, mode=2)
    most_kw = world.site("site-003").battery.max_discharge_kw
    now = world.clock.now()
    target = [Target(TargetKind.RESOURCE, "site-003")]
    await keeper(world).hear(limit_event(now, most_kw / 2, targets=target), OURS)
    await world.cycle()
    assert {row.site_id for row in await world.commands() if row.power_kw > 0} == {"site-001", "site-002", "site-004"}


async def test_a_command_never_outlives_the_beginning_of_a_tighter_limit(store: Store) -> None:
    world = await a_world(store, 18)
    start_at = world.clock.now() + CYCLE + timedelta(minutes=2)
    await keeper(world).hear(limit_event(start_at, 0.0, targets=[SITE_1]), OURS)
    await world.cycle()
    rows = {row.site_id: row for row in await world.commands()}
    assert rows["site-001"].expires_at == start_at
    assert rows["site-002"].expires_at > start_at


async def test_limits_of_a_peer_that_may_set_none_are_ignored_and_logged(store: Store) -> None:
    world = await a_world(store, 18)
    peer = Peer(
        id="p", tenant_id=TENANT, protocol=Protocol.OPENADR3, role=PeerRole.VTN, name="x", config={"limits": False}
    )
    with capture_logs() as logs:
        heard = await keeper(world, HearingTerms.of(peer)).hear(limit_event(world.clock.now(), 1.0), OURS)
    assert not heard.in_full
    assert "may set no limits" in heard.reason
    assert [entry["event_id"] for entry in logs if entry["event"] == "limit ignored"] == ["limit-1"]
    assert await limits(store, world.clock.now()) == []


async def test_a_limit_is_for_the_site_its_resource_names_and_never_for_a_stranger(store: Store) -> None:
    world = await a_world(store, 18)
    hearing, now = keeper(world, HearingTerms(site_of={"METER-7": "site-002"})), world.clock.now()
    by_name = Target(TargetKind.RESOURCE, world.site("site-003").name)
    grouped = Target(TargetKind.GROUP, "METER-7")  # 3.1's targets bear no kind
    meter = Target(TargetKind.RESOURCE, "METER-7")
    for event_id, targets in (("a", [SITE_1, meter]), ("b", [by_name]), ("c", [grouped]), ("d", [])):
        await hearing.hear(limit_event(now, 1.0, targets=targets, event_id=event_id), OURS)
    found = sorted((site or "fleet", kw) for site, _, kw in await limits(store, now))
    assert found == [("fleet", 1.0), ("site-001", 1.0), ("site-002", 1.0), ("site-002", 1.0), ("site-003", 1.0)]
    stranger = [SITE_1, Target(TargetKind.RESOURCE, "somebody")]
    heard = await hearing.hear(limit_event(now, 1.0, targets=stranger, event_id="e"), OURS)
    assert "somebody is none of our sites" in heard.reason
    assert len(await limits(store, now)) == 5


@pytest.mark.parametrize(
    ("change", "outcome", "why"),
    [
        ({"unit": "AMPS"}, OURS, "it should be in KW"),
        ({"unit": None}, OURS, "in no unit"),
        ({"is_test": True}, OURS, "a test event"),
        ({}, Outcome(program=None, reason="none of our programmes"), "none of our programmes"),
    ],
)
async def test_a_limit_that_cannot_be_taken_as_stated_does_not_hold(
    store: Store, change: dict[str, Any], outcome: Outcome, why: str
) -> None:
    world = await a_world(store, 18)
    heard = await keeper(world).hear(limit_event(world.clock.now(), 1.0, **change), outcome)
    assert await limits(store, world.clock.now()) == []
    assert why in heard.reason or change.get("is_test")


async def test_one_bad_value_refuses_the_whole_series(store: Store) -> None:
    world = await a_world(store, 18)
    heard = await keeper(world).hear(limit_event(world.clock.now(), 1.0, -1.0), OURS)
    assert heard.reason == "EXPORT_CAPACITY_LIMIT -1 KW; it should be one limit of 0 kW or more"
    assert await limits(store, world.clock.now()) == []
