"""`kill -9` of our VTNs and VENs at random points of 200 seeded event lives: both ends agree at the end of each.

Our 2.0b VTN, our OpenADR 3 VTN and our VENs are processes as an operator starts them, each end with a database of
its own. Every life sees each process of its ends die at least once. `VPP_LIVES_SEED=7` plays the lives of that seed,
`VPP_LIVES_SEED=7:113` the one life 113 of it, with the same kills.
"""

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from tests.builders_lives import LIVES, PLAY_S, UP_S, Ends, Life, both_ends, lives
from tests.builders_lives_ends import Books, Found, disagreements, periodic_disagree, read_books
from tests.builders_lives_world import FLEET, GRID, World
from tests.builders_processes import eventually, free_port
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment
from vpp.store.tables.openadr2_vtn import vtn2_delivery

log = structlog.get_logger(__name__)
SEED = 20_260
CONNECT_WITHIN_S = 60.0
QUIET_WITHIN_S = 100.0
ANSWERED_WITHIN_S = 60.0
DIES_WITHIN_S = 60.0
OVER_S = PLAY_S + 6.0
"""When long events end that are not cancelled."""


def chosen() -> tuple[int, list[Life]]:
    seed, _, only = os.environ.get("VPP_LIVES_SEED", str(SEED)).partition(":")
    played = lives(int(seed))
    return int(seed), [life for life in played if not only or life.number == int(only)]


@pytest.mark.timeout(300)
async def test_both_ends_agree_at_the_end_of_every_life_whoever_was_killed_in_it(
    store: Store, module_database_url: str, redis_url: str, tmp_path: Path
) -> None:
    seed, played = chosen()
    ven_store = Store(module_database_url, redis_url)
    world = World(store, ven_store, free_port(), free_port())
    works: dict[str, int | str] = {"vtn": world.port, "serve": world.port3, "gateway": "peer served"}
    try:
        with both_ends(Ends(tmp_path, _commands(world, tmp_path), works)) as ends:
            await _start(world, ends)
            await _play(world, ends, seed, played)
    finally:
        await world.http.aclose()
        await ven_store.close()


def _commands(world: World, folder: Path) -> dict[str, tuple[tuple[str, ...], dict[str, Any]]]:
    vtn = {
        "database_url": world.vtn.database_url, "redis_url": world.vtn.redis_url, "tenant": GRID,
        "openadr2_vtn_poll_s": 1, "openadr2_vtn_ven_per_s": 0, "openadr2_vtn_address_per_s": 0,
        "openadr2_vtn_stranger_per_s": 0, "var_dir": folder / "vtn",
    }  # fmt: skip
    ven = {
        "database_url": world.ven.database_url, "redis_url": world.ven.redis_url, "tenant": FLEET,
        "secrets_dir": folder, "openadr2_poll_s": 1, "seed": 1, "var_dir": folder / "ven",
    }  # fmt: skip
    return {
        "vtn": (("vtn", "--port", str(world.port)), vtn),
        "serve": (("serve", "--port", str(world.port3)), vtn),
        "gateway": (("gateway",), ven),
    }


async def _start(world: World, ends: Ends) -> None:
    for name in ("vtn", "serve"):
        ends.start(name)
    await world.set_up(ends.folder)
    for name in ("vtn", "serve"):
        await _until_back(ends, name)
    await world.open_http()
    ends.start("gateway")
    assert await eventually(world.are_connected, CONNECT_WITHIN_S), _logs(ends)


async def _until_back(ends: Ends, name: str) -> None:
    async def is_back() -> bool:
        return await ends.is_back(name)

    assert await eventually(is_back, CONNECT_WITHIN_S), _logs(ends)


async def _play(world: World, ends: Ends, seed: int, played: Sequence[Life]) -> None:
    await world.begin(OVER_S)
    began_s = time.monotonic()
    acts_s = sorted(began_s + act.at_s for life in lives(seed) for act in life.acts)
    killers = [asyncio.create_task(_kill(ends, name, seed, acts_s)) for name in ends.commands]
    try:
        async with asyncio.TaskGroup() as group:
            alive = [group.create_task(_live(world, ends, life, began_s)) for life in played]
        ended_s = {life.number: task.result() for life, task in zip(played, alive, strict=True)}
    finally:
        for killer in killers:
            killer.cancel()
    assert not [
        killer
        for killer in await asyncio.gather(*killers, return_exceptions=True)
        if isinstance(killer, AssertionError)
    ]
    found, agreed_s = await _settle(world, played)
    wrong = "\n\n".join(
        f"seed {seed}: {life}\n  -> " + "\n  -> ".join(found[life.number]) for life in played if found[life.number]
    )
    assert not wrong, f"{wrong}\n\nreplay one of them: VPP_LIVES_SEED={seed}:<number>\n{_logs(ends)}"

    async def values_agree() -> bool:
        return not periodic_disagree(world, await read_books(world))

    assert await eventually(values_agree, QUIET_WITHIN_S), periodic_disagree(world, await read_books(world))
    _show(await read_books(world), ends, [agreed_s[n] - at_s for n, at_s in ended_s.items()])


async def _kill(ends: Ends, name: str, seed: int, acts_s: Sequence[float]) -> None:
    """Kill one process again and again, once it works: half of the times just after something was done."""
    rng = random.Random(f"{seed}\nkill\n{name}")
    while True:
        began_s = time.monotonic()
        await _until_back(ends, name)
        back_s = time.monotonic()
        at_s = 2 * back_s - began_s + rng.uniform(*UP_S)  # it lives for longer than it took to come back
        if rng.random() < 0.5:
            at_s = next((act_s for act_s in acts_s if act_s >= at_s), at_s) + rng.uniform(0.0, 0.4)
        await asyncio.sleep(max(0.0, at_s - time.monotonic()))
        ends.kill(name)


async def _live(world: World, ends: Ends, life: Life, began_s: float) -> float:
    """Play one life, whose last act waits until it has seen both its ends die. Returns when that was."""
    first_s = began_s + life.acts[0].at_s
    mine = {"serve" if life.in_three else "vtn", "gateway"}
    # half of those that come back are cancelled, and come back, only when the VENs have answered what was before
    is_heard = life.number % 2 == 1 and any(act.what == "revive" for act in life.acts)

    for act in life.acts:
        await asyncio.sleep(max(0.0, began_s + act.at_s - time.monotonic()))
        if act is life.acts[-1]:
            async with asyncio.timeout(DIES_WITHIN_S):
                while not mine <= ends.deaths(first_s, time.monotonic()):  # noqa: ASYNC110 - many wait for few
                    await asyncio.sleep(0.25)
        if is_heard and act.what in ("cancel", "revive"):
            await eventually(partial(world.is_answered, life), ANSWERED_WITHIN_S)
        await world.do(life, act)
    return time.monotonic()


async def _settle(world: World, played: Sequence[Life]) -> tuple[Found, dict[int, float]]:
    """Look at both ends until they agree about everything, for so long; return what they do not agree about."""
    deadline_s, agreed_s = time.monotonic() + QUIET_WITHIN_S, dict[int, float]()
    while True:
        books = await read_books(world)
        found = disagreements(world, played, books)
        agreed_s |= {n: agreed_s.get(n, time.monotonic()) for n, wrong in found.items() if not wrong}
        over = world.over_at is not None and books.at > world.over_at + timedelta(seconds=2)
        if (over and not any(found.values())) or time.monotonic() > deadline_s:
            return found, agreed_s
        await asyncio.sleep(0.5)


def _show(books: Books, ends: Ends, waits_s: Sequence[float]) -> None:
    """Say what the play was made of (pytest shows it with -s), and hold that there was enough of all."""
    died = Counter(name for _, name in ends.killed)
    if len(waits_s) < LIVES:
        return
    opts = Counter(row.opt_in for row in books.vtn[vtn2_delivery])
    lives_held = Counter(row.life for row in books.ven[commitment])
    waited = f"agreed after {max(waits_s):.1f} s at most"
    log.info("played", killed=dict(died), answers=dict(opts), lives=dict(lives_held), waited=waited)
    assert opts[True] > 20
    assert opts[False] > 20
    assert lives_held[2] > 3
    assert min(died.values()) > 1


def _logs(ends: Ends) -> str:
    return "\n".join(f"--- {name}\n{ends.log_of(name)[-3000:]}" for name in ends.commands)
