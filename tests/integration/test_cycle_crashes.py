"""A worker dies in a control cycle, at every point; the next one finishes the same cycle to the same rows."""

from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import pytest
from sqlalchemy import delete, insert

from tests.builders_dispatch import Call, Crash, World, a_world, unreachable
from vpp.dispatch import run_cycle
from vpp.store.engine import Store
from vpp.store.tables.dispatch import command as commands
from vpp.store.tables.dispatch import cycle as cycles
from vpp.store.tables.dispatch import handback as handbacks

TABLES = (cycles, commands, handbacks)


@dataclass(slots=True)
class Fuse:
    """Blows at the nth thing that passes a port: before the device acts, after it has acted, or at a look at
    the clock. In the product those lie between any transaction and the next."""

    kind: str
    at: int
    count: int = 0

    async def burn(self, _: Call) -> None:
        self.blow()

    def blow(self) -> None:
        self.count += 1
        if self.count == self.at:
            raise Crash

    def arm(self, world: World) -> None:
        for adapter in (world.kw, world.modes):
            adapter.before = self.burn if self.kind == "before" else None
            adapter.after = self.burn if self.kind == "after" else None
        if self.kind == "clock":
            world.tools = replace(world.tools, clock=FusedClock(world, self))

    def disarm(self, world: World) -> None:
        for adapter in (world.kw, world.modes):
            adapter.before = adapter.after = None
        world.tools = replace(world.tools, clock=world.clock)


@dataclass(slots=True)
class FusedClock:
    world: World
    fuse: Fuse

    def now(self) -> datetime:
        self.fuse.blow()
        return self.world.clock.now()

    async def sleep_until(self, at: datetime) -> None:
        await self.world.clock.sleep_until(at)

    def wall_time(self, at: datetime) -> datetime | None:
        return at


@dataclass(slots=True)
class Saved:
    """Everything a cycle changes, to begin the same cycle again and again."""

    world: World
    rows: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    batteries: dict[str, Any] = field(default_factory=dict)

    async def keep(self) -> None:
        for table in TABLES:
            self.rows[table.name] = [dict(row._mapping) for row in await self.world.rows(table)]
        self.batteries = {site.id: deepcopy(self.world.battery(site.id)) for site in self.world.sites}

    async def restore(self) -> None:
        async with self.world.store.begin() as connection:
            for table in reversed(TABLES):
                await connection.execute(delete(table))
            for table in TABLES:
                if self.rows[table.name]:
                    await connection.execute(insert(table), self.rows[table.name])
        for site_id, battery in self.batteries.items():
            self.world.batteries(self.world.site(site_id)).batteries[site_id] = deepcopy(battery)
        self.world.forget_calls()


async def _third_cycle(store: Store) -> World:
    """Every kind of work in one cycle: renewals, a new site, one that fails, one to be stopped, one given up."""
    world = await a_world(store, 18, setpoint=6, mode=3)
    world.silent = {"site-004"}
    await world.play(2)
    world.silent.clear()
    world.kw.failures["apply", "site-002"] = unreachable()
    world.battery("site-003").obeys = False
    running = [command.site_id for command in world.modes.applied()]
    world.battery(running[0]).islanded = True
    world.battery(running[-1]).obeys = False
    await world.report()
    world.tools = replace(world.tools, concurrency=1)
    return world


async def _books(world: World) -> dict[str, Any]:
    return {
        "cycles": [tuple(row)[:7] for row in await world.cycles()],
        "commands": [dict(row._mapping) for row in await world.commands()],
        "handbacks": [tuple(row) for row in (await world.handbacks()).values()],
        "devices": {site.id: (b.command, b.settings) for site in world.sites for b in (world.battery(site.id),)},
    }


def _sent(world: World) -> set[Any]:
    return {command.id for command in (*world.kw.applied(), *world.modes.applied())}


@pytest.mark.parametrize("kind", ["before", "after", "clock"])
async def test_a_cycle_broken_off_anywhere_ends_as_if_nothing_had_happened(store: Store, kind: str) -> None:
    world = await _third_cycle(store)
    interval = world.interval()
    saved = Saved(world)
    await saved.keep()
    await saved.restore()
    await run_cycle(world.tools, world.commitment, interval)
    undisturbed, sent = await _books(world), _sent(world)
    assert {"readback_ok", "effective", "failed"} <= {row["state"] for row in undisturbed["commands"]}
    assert {call.what for call in (*world.kw.calls, *world.modes.calls)} == {"save_native", "apply", "release"}

    for point in range(1, 100):
        await saved.restore()
        fuse = Fuse(kind, point)
        fuse.arm(world)
        try:
            outcome = await run_cycle(world.tools, world.commitment, interval)
        except (Crash, ExceptionGroup):
            fuse.disarm(world)
            outcome = await run_cycle(world.tools, world.commitment, interval)
            assert await _books(world) == undisturbed, f"{kind} {point}"
            assert _sent(world) == sent, f"{kind} {point}"
            assert outcome.sent == sum(row["cycle_start_at"] == interval.start_at for row in undisturbed["commands"])
        else:
            assert point > 4, "the fuse hardly ever blew"
            return
    pytest.fail("the cycle never ended")


async def test_a_cycle_run_again_after_it_ended_says_nothing_more(store: Store) -> None:
    world = await _third_cycle(store)
    first = await run_cycle(world.tools, world.commitment, world.interval())
    said = len(world.kw.calls) + len(world.modes.calls)
    assert await run_cycle(world.tools, world.commitment, world.interval()) == first
    assert len(world.kw.calls) + len(world.modes.calls) == said


@pytest.mark.parametrize("at", [1, 3], ids=["planned", "marked as sent"])
async def test_an_order_that_nobody_heard_does_not_count_as_running(store: Store, at: int) -> None:
    """A worker that stays dead for longer than a cycle leaves orders behind."""
    world = await a_world(store, 10, setpoint=0, mode=2)
    world.tools = replace(world.tools, concurrency=1)
    Fuse("before", at).arm(world)
    with pytest.raises(ExceptionGroup):
        await world.cycle()
    world.modes.before = None
    world.pass_time()
    outcome = await world.cycle()
    assert outcome.planned_kw >= 9.9
    assert {command.site_id for command in world.modes.applied()} == {"site-001", "site-002"}
    assert world.delivered_kw() >= 9.9


async def test_an_order_whose_answer_died_with_a_worker_is_proven_by_the_meter(store: Store) -> None:
    world = await a_world(store, 12)
    Fuse("after", 6).arm(world)
    world.tools = replace(world.tools, concurrency=1)
    with pytest.raises(ExceptionGroup):
        await world.cycle()
    world.kw.after = None
    assert {row.state for row in await world.commands()} == {"sent"}
    world.pass_time()
    assert (await world.cycle()).planned_kw >= 12
    first = [row for row in await world.commands() if row.cycle_start_at == world.commitment.window.start_at]
    assert {row.state for row in first} == {"effective"}
