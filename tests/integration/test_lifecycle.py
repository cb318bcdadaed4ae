"""The life of a commitment, step by step and worker by worker, on the real queue."""

import asyncio
import os
import signal
import sys
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import make_url, select, text

from market.elrp import Elrp
from tests.builders import TENANT
from tests.builders_dispatch import CYCLE, Crash, World, a_world, unreachable
from vpp.commitments import Decision, advance, postpone, receive
from vpp.dispatch import run_cycle
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import Conflict
from vpp.domain.signal import EventSignal, SignalKind
from vpp.enrolment import program_terms
from vpp.lifecycle import job_app, take_step
from vpp.lifecycle.queue import wake
from vpp.lifecycle.reconciler import reconcile
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment_step
from vpp.store.tables.settlement import delivery

PROGRAMS = {"elrp": Elrp()}
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
JOBS = "select status::text from procrastinate_jobs order by id"


async def _step(world: World) -> CommitmentState:
    await take_step(world.tools, PROGRAMS, world.commitment.id)
    return (await world.reload()).state


async def _live(world: World, *, until: CommitmentState, rounds: int = 400) -> None:
    """Take every step as it falls due, the batteries doing as they are told meanwhile."""
    for _ in range(rounds):
        due_at = (await world.reload()).next_due_at
        if world.commitment.state is until or due_at is None:
            return
        while world.clock.now() < due_at:
            world.pass_time(min(CYCLE, due_at - world.clock.now()))
            await world.report()
        await take_step(world.tools, PROGRAMS, world.commitment.id)
    pytest.fail(f"still {world.commitment.state} after {rounds} steps")


async def _steps(world: World) -> list[Any]:
    query = select(commitment_step).where(commitment_step.c.commitment_id == world.commitment.id)
    async with world.store.begin() as connection:
        return list(await connection.execute(query.order_by(commitment_step.c.id)))


async def _jobs(store: Store) -> list[str]:
    async with store.begin() as connection:
        return list((await connection.execute(text(JOBS))).scalars())


async def _work(world: World, programs: Any = PROGRAMS) -> None:
    """One worker that takes what is on the queue and leaves."""
    app = job_app(world.tools, programs)
    async with app.open_async():
        await app.run_worker_async(wait=False, install_signal_handlers=False, delete_jobs="successful")


async def _reconcile(world: World, times: int = 1) -> None:
    app = job_app(world.tools, PROGRAMS)
    async with app.open_async():
        await asyncio.gather(*(reconcile(world.tools, app, stalled_after_s=1) for _ in range(times)))


async def _cancel(world: World) -> None:
    signal_ = EventSignal(
        source=world.commitment.source,
        external_id=world.commitment.external_id,
        modification_number=1,
        program=world.commitment.program,
        kind=SignalKind.POWER_KW,
        intervals=(),
        cancelled=True,
    )

    async def decide(*_: object) -> Decision:
        return Decision(True)

    async with world.store.begin() as connection:
        world.commitment = await receive(
            connection,
            signal_,
            tenant_id=TENANT,
            program=Elrp(),
            terms=await program_terms(connection, tenant_id=TENANT, program="elrp"),
            draw_offset_s=lambda _: 0.0,
            decide=decide,
            clock=world.clock,
        )


@pytest.fixture
async def world(store: Store) -> World:
    """Six sites and an accepted event of an hour that begins now."""
    world = await a_world(store, 15, setpoint=4, mode=2, state=CommitmentState.ACCEPTED)
    await world.report()
    return world


async def test_an_event_goes_through_all_its_states_and_ends_settled(world: World) -> None:
    await _live(world, until=CommitmentState.SETTLED)
    steps = await _steps(world)
    assert list(dict.fromkeys(step.state for step in steps)) == ["active", "releasing", "measuring", "settled"]
    assert [step.what for step in steps].count("cycle") == 12
    assert all(row.verified_at for row in (await world.handbacks()).values())
    assert world.commitment.next_due_at is None
    assert 15 <= steps[-1].detail["delivered_kwh"] <= 15 * 1.06
    assert steps[-1].detail["gross_cents"] > 0


async def test_a_step_before_its_time_is_not_taken(world: World) -> None:
    assert await _step(world) is CommitmentState.ACTIVE
    assert await _step(world) is CommitmentState.ACTIVE
    steps = len(await _steps(world))
    await _step(world)
    assert len(await _steps(world)) == steps


async def test_an_event_slept_through_owes_nothing_to_any_site_and_is_still_measured(world: World) -> None:
    world.clock.advance(timedelta(hours=2))
    await _live(world, until=CommitmentState.SETTLED)
    assert await world.commands() == []
    assert await world.handbacks() == {}


async def test_a_site_that_cannot_be_handed_back_holds_up_the_money_for_half_an_hour_only(world: World) -> None:
    await _live(world, until=CommitmentState.RELEASING)
    world.kw.failures["release", "site-001"] = unreachable()
    await _live(world, until=CommitmentState.SETTLED)
    whats = [step.what for step in await _steps(world)]
    assert whats.count("some sites not handed back yet") == 6
    assert "sites still to hand back, measuring meanwhile" in whats
    assert (await world.handbacks())["site-001"].verified_at is None


async def test_a_cycle_begun_by_a_worker_that_died_is_finished_as_the_same_cycle(world: World) -> None:
    """Under real time the next worker comes seconds later, in the middle of the cycle."""
    await _step(world)

    async def die(_: object) -> None:
        raise Crash

    world.kw.before = world.modes.before = die
    with pytest.raises(ExceptionGroup):
        await _step(world)
    world.kw.before = world.modes.before = None
    world.clock.advance(17 * SECOND)
    await _step(world)
    begun = [row.start_at for row in await world.cycles()]
    assert begun == [world.commitment.window.start_at]
    assert {row.cycle_start_at for row in await world.commands()} == set(begun)
    assert world.commitment.next_due_at == begun[0] + CYCLE


async def test_a_step_that_fails_is_put_off_and_noted_and_taken_later(world: World) -> None:
    await _live(world, until=CommitmentState.MEASURING)
    world.clock.move_to(max(world.clock.now(), world.commitment.next_due_at or world.clock.now()))
    await _reconcile(world)
    await _work(world, programs={})
    failed = (await _steps(world))[-1]
    assert (failed.what, failed.detail["why"]) == ("step failed", "KeyError: 'elrp'")
    assert (await world.reload()).next_due_at == world.clock.now() + MINUTE
    assert world.commitment.state is CommitmentState.MEASURING
    await _reconcile(world)
    assert "todo" not in await _jobs(world.store)
    world.clock.advance(MINUTE)
    await _reconcile(world)
    await _work(world)
    assert (await world.reload()).state is CommitmentState.SETTLED


async def test_putting_off_leaves_alone_what_has_moved_on(world: World) -> None:
    await _live(world, until=CommitmentState.SETTLED)
    now = world.clock.now()
    async with world.store.begin() as connection:
        await postpone(connection, world.commitment.id, until=now + MINUTE, at=now, why="too late")
    assert (await world.reload()).next_due_at is None


async def _take(world: World) -> None:
    await take_step(world.tools, PROGRAMS, world.commitment.id)


async def test_of_many_workers_at_the_same_step_one_takes_it(world: World) -> None:
    results = await asyncio.gather(*(_take(world) for _ in range(4)), return_exceptions=True)
    assert {type(result) for result in results} <= {Conflict, type(None)}
    whats = [step.what for step in await _steps(world)]
    assert (whats.count("event begins"), whats.count("cycle") <= 1) == (1, True)


async def test_of_two_workers_at_the_same_cycle_one_plans_and_each_site_hears_one_command(world: World) -> None:
    await _step(world)
    outcomes = await asyncio.gather(*(run_cycle(world.tools, world.commitment, world.interval()) for _ in range(2)))
    rows = await world.commands()
    assert len(await world.cycles()) == 1
    assert {command.id for command in (*world.kw.applied(), *world.modes.applied())} == {row.id for row in rows}
    assert {row.state for row in rows} == {"readback_ok"}
    assert {outcome.sent for outcome in outcomes} == {len(rows)}


async def _advance_and_wake(world: World, before: Commitment, after: Commitment, *, power_cut: bool = False) -> None:
    async with world.store.begin() as connection:
        await advance(connection, before, after, at=world.clock.now(), what="event begins")
        await wake(connection, after, world.clock)
        if power_cut:
            raise Crash


async def test_state_and_wake_up_are_stored_together_or_not_at_all(world: World) -> None:
    moved = replace(world.commitment, state=CommitmentState.ACTIVE, revision=world.commitment.revision + 1)
    with pytest.raises(Crash):
        await _advance_and_wake(world, world.commitment, moved, power_cut=True)
    assert (await world.reload()).state is CommitmentState.ACCEPTED
    assert await _jobs(world.store) == []
    assert await _step(world) is CommitmentState.ACTIVE
    assert await _jobs(world.store) == ["todo"]


async def test_a_worker_that_comes_second_leaves_no_wake_up(world: World) -> None:
    stale = world.commitment
    await _step(world)
    jobs = await _jobs(world.store)
    with pytest.raises(Conflict):
        await _advance_and_wake(world, stale, replace(stale, revision=99))
    assert await _jobs(world.store) == jobs


async def test_the_reconciler_wakes_what_nobody_woke_and_only_once(world: World) -> None:
    await _reconcile(world)
    await _reconcile(world, times=3)
    assert await _jobs(world.store) == ["todo"]
    await _work(world)
    assert (await world.reload()).state is CommitmentState.ACTIVE


HANGS = """
import asyncio, sys
from procrastinate import App, PsycopgConnector
app = App(connector=PsycopgConnector(conninfo=sys.argv[1]))
@app.task(name="take_step", queue="commitments")
async def take_step(commitment_id):
    print("began", flush=True)
    await asyncio.sleep(600)
async def main():
    async with app.open_async():
        await app.run_worker_async(update_heartbeat_interval=0.2, stalled_worker_timeout=1)
asyncio.run(main())
"""


async def test_the_job_of_a_worker_killed_at_work_is_taken_over(world: World) -> None:
    await _reconcile(world)
    address = make_url(world.store.database_url).set(drivername="postgresql")
    doomed = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HANGS, address.render_as_string(hide_password=False), stdout=asyncio.subprocess.PIPE
    )
    assert doomed.stdout is not None
    async with asyncio.timeout(30):
        assert await doomed.stdout.readline() == b"began\n"
    await _reconcile(world, times=2)
    assert await _jobs(world.store) == ["doing"]
    os.kill(doomed.pid, signal.SIGKILL)
    await doomed.wait()
    await asyncio.sleep(1.5)
    await _reconcile(world, times=3)
    assert await _jobs(world.store) == ["todo"]
    await _work(world)
    assert (await world.reload()).state is CommitmentState.ACTIVE


async def test_a_cancellation_on_the_way_releases_and_pays_what_was_delivered_until_then(world: World) -> None:
    while world.clock.now() < world.commitment.window.start_at + timedelta(minutes=20):
        await _step(world)
        await _step(world)
        world.pass_time()
        await world.report()
    cancelled_at = world.clock.now()
    await _cancel(world)
    assert await _step(world) is CommitmentState.RELEASING
    assert await _step(world) is CommitmentState.MEASURING
    assert world.delivered_kw() == 0
    assert all(row.verified_at == cancelled_at for row in (await world.handbacks()).values())
    await _live(world, until=CommitmentState.SETTLED)
    async with world.store.begin() as connection:
        rows = list(await connection.execute(select(delivery).where(delivery.c.method == "submeter")))
    assert (rows[0].end_at, float(rows[0].committed_kwh)) == (cancelled_at, 5.0)
    assert 5.0 <= float(rows[0].delivered_kwh) <= 5.3


async def test_a_cancellation_in_the_instant_of_the_start_commands_nobody(world: World) -> None:
    await _step(world)
    await _cancel(world)
    await _live(world, until=CommitmentState.SETTLED)
    assert await world.commands() == []
