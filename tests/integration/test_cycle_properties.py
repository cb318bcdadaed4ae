"""Whatever fails in whatever fleet: no site beyond its limits or below its reserve, nothing owed delivered twice."""

import asyncio
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders_dispatch import World, a_world, unreachable
from tests.databases import Databases
from vpp.dispatch import hand_back
from vpp.domain.errors import NotApplied, TimedOut
from vpp.store.engine import Store

MORE = 1.06
"""Aimed a little above what is owed, as a margin for what is lost on the way."""
ERRORS = {
    "away": unreachable(),
    "lost": TimedOut("no answer", sent=True),
    "ignored": NotApplied("reads back otherwise"),
}
SITE = st.fixed_dictionaries(
    {
        "soc": st.floats(0.15, 1.0),
        "trouble": st.sampled_from(["none", "none", "none", *ERRORS, "disobeys", "islanded", "silent"]),
        "from_cycle": st.integers(0, 4),
    }
)
FLEETS = st.fixed_dictionaries(
    {
        "sites": st.lists(SITE, min_size=2, max_size=7),
        "mode": st.integers(0, 3),
        "kw": st.lists(st.floats(0.0, 40.0), min_size=1, max_size=2),
    }
)


def _trouble(world: World, site_id: str, what: str) -> None:
    batteries = world.batteries(world.site(site_id))
    if what in ERRORS:
        batteries.failures["apply", site_id] = ERRORS[what]
    elif what == "disobeys":
        batteries.of(site_id).obeys = False
    elif what == "islanded":
        batteries.of(site_id).islanded = True
    elif what == "silent":
        world.silent.add(site_id)


async def _play(store: Store, fleet: dict[str, Any]) -> None:
    mode = min(fleet["mode"], len(fleet["sites"]) - 1)
    world = await a_world(store, *fleet["kw"], setpoint=len(fleet["sites"]) - mode, mode=mode)
    for site, given_ in zip(world.sites, fleet["sites"], strict=True):
        world.battery(site.id).soc = given_["soc"]
    for number in range(7):
        for site, given_ in zip(world.sites, fleet["sites"], strict=True):
            if given_["from_cycle"] == number:
                _trouble(world, site.id, given_["trouble"])
        await world.play(1)
    await _holds(world)


async def _holds(world: World) -> None:
    sites = {site.id: site for site in world.sites}
    for row in await world.cycles():
        assert row.planned_kw <= row.target_kw * MORE + 1e-6
    for row in await world.commands():
        site = sites[row.site_id]
        assert -1e-9 <= row.power_kw <= site.battery.max_discharge_kw + 1e-9
        assert row.reserve_soc >= site.reserve_soc
        assert row.not_before < row.expires_at
    written = {command.site_id for command in (*world.kw.applied(), *world.modes.applied())}
    assert written <= set(await world.handbacks())
    for batteries in (world.kw, world.modes):
        batteries.failures.clear()
    await hand_back(world.tools, world.commitment.id)
    owners = {"mode": "self_consumption", "reserve": 0.2}
    assert all(world.battery(site.id).settings == owners for site in world.sites)


async def _in_a_database_of_its_own(databases: Databases, redis_url: str, fleet: dict[str, Any]) -> None:
    with databases.lend() as database_url:
        store = Store(database_url, redis_url)
        try:
            await store.redis.flushdb()
            await _play(store, fleet)
        finally:
            await store.close()


def test_no_fleet_and_no_failure_breaks_a_limit(databases: Databases, redis_url: str) -> None:
    @settings(max_examples=12, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(FLEETS)
    def every_fleet(fleet: dict[str, Any]) -> None:
        asyncio.run(_in_a_database_of_its_own(databases, redis_url, fleet))

    every_fleet()
