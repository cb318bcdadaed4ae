"""Every battery is given back as it was found, read back, and tried again until it is so."""

from dataclasses import replace
from datetime import timedelta

import pytest

from tests.builders_dispatch import CYCLE, World, a_world, unreachable
from vpp.commitments.records import save
from vpp.dispatch import expired_leases, hand_back, open_handbacks
from vpp.dispatch.handback import RETRY_AFTER
from vpp.lifecycle import job_app
from vpp.lifecycle.queue import wake
from vpp.lifecycle.reconciler import reconcile
from vpp.store.engine import Store

OWNERS = {"mode": "self_consumption", "reserve": 0.2}
SECOND = timedelta(seconds=1)


def _released(world: World) -> list[str]:
    return [call.site_id for call in (*world.kw.calls, *world.modes.calls) if call.what == "release"]


async def _reap(world: World) -> None:
    app = job_app(world.tools, {})
    async with app.open_async():
        await reconcile(world.tools, app, stalled_after_s=15)


async def _lapsed(world: World) -> set[str]:
    async with world.store.begin() as connection:
        found = await expired_leases(connection, world.clock.now())
    return set().union(*found.values())


async def _due_never(world: World) -> None:
    """As if nobody knew when this commitment's next step is due, so that only leases speak for its sites."""
    async with world.store.begin() as connection:
        await save(connection, world.commitment, replace(world.commitment, next_due_at=None))


@pytest.fixture
async def world(store: Store) -> World:
    world = await a_world(store, 18, setpoint=4, mode=2)
    await world.play(2)
    return world


async def test_every_site_is_put_back_as_it_was_found_and_verified(world: World) -> None:
    told = set(await world.handbacks())
    assert {world.battery(site_id).settings["mode"] for site_id in told} == {"event"}
    outcome = await hand_back(world.tools, world.commitment.id)
    assert (outcome.verified, outcome.owed) == (told, len(told))
    assert all(world.battery(site_id).settings == OWNERS for site_id in told)
    assert {row.verified_at for row in (await world.handbacks()).values()} == {world.clock.now()}


async def test_a_site_verified_is_not_touched_again(world: World) -> None:
    await hand_back(world.tools, world.commitment.id)
    said = len(_released(world))
    assert (await hand_back(world.tools, world.commitment.id)).owed == 0
    assert len(_released(world)) == said


async def test_a_site_that_fails_is_tried_again_alone(world: World) -> None:
    world.kw.failures["release", "site-002"] = unreachable()
    await hand_back(world.tools, world.commitment.id)
    async with world.store.begin() as connection:
        assert await open_handbacks(connection, world.commitment.id) == 1
    row = (await world.handbacks())["site-002"]
    assert (row.verified_at, row.reason) == (None, "Unreachable: nobody does not answer")
    world.kw.failures.clear()
    world.forget_calls()
    assert (await hand_back(world.tools, world.commitment.id)).verified == {"site-002"}
    assert _released(world) == ["site-002"]
    assert world.battery("site-002").settings == OWNERS


async def test_a_site_that_reads_back_otherwise_is_not_verified(world: World) -> None:
    world.kw.loses_settings.add("site-001")
    outcome = await hand_back(world.tools, world.commitment.id)
    assert "site-001" not in outcome.verified
    assert (await world.handbacks())["site-001"].reason == "read back otherwise"
    world.kw.loses_settings.clear()
    assert (await hand_back(world.tools, world.commitment.id)).verified == {"site-001"}
    assert world.battery("site-001").settings == OWNERS


async def test_leases_are_kept_while_cycles_run_and_lapse_when_they_stop(world: World) -> None:
    await world.play(6)
    assert await _lapsed(world) == set()
    world.pass_time(CYCLE + SECOND)
    assert await _lapsed(world) == set(await world.handbacks())


async def test_the_reaper_hands_back_what_a_dead_worker_left(world: World) -> None:
    await _due_never(world)
    world.pass_time(2 * CYCLE + SECOND)
    await _reap(world)
    assert set(_released(world)) == set(await world.handbacks())
    assert all(row.verified_at for row in (await world.handbacks()).values())


async def test_the_reaper_keeps_out_while_a_worker_has_the_job(world: World) -> None:
    await _due_never(world)
    async with world.store.begin() as connection:
        await wake(connection, world.commitment, world.clock)
    world.pass_time(2 * CYCLE + SECOND)
    await _reap(world)
    assert _released(world) == []


async def test_the_reaper_takes_only_the_sites_whose_lease_is_over(world: World) -> None:
    """One site could not be stopped during the event: the others go on."""
    await _due_never(world)
    world.kw.failures["release", "site-001"] = unreachable()
    await hand_back(world.tools, world.commitment.id, only=frozenset({"site-001"}))
    world.battery("site-001").islanded = True
    cycles_until_retry = RETRY_AFTER // CYCLE
    await world.play(cycles_until_retry)
    world.forget_calls()
    await _reap(world)
    assert _released(world) == []
    world.clock.advance(SECOND)
    world.kw.failures.clear()
    await _reap(world)
    assert _released(world) == ["site-001"]
    assert world.delivered_kw() > 0


async def test_the_reaper_comes_again_after_a_pause_for_as_long_as_it_takes(world: World) -> None:
    await _due_never(world)
    world.kw.failures["release", "site-001"] = unreachable()
    await hand_back(world.tools, world.commitment.id)
    for _ in range(3):
        world.forget_calls()
        await _reap(world)
        assert _released(world) == []
        world.pass_time(RETRY_AFTER + SECOND)
        await _reap(world)
        assert _released(world) == ["site-001"]
    world.kw.failures.clear()
    world.pass_time(RETRY_AFTER + SECOND)
    await _reap(world)
    assert (await world.handbacks())["site-001"].verified_at is not None
    assert world.battery("site-001").settings == OWNERS
