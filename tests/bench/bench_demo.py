"""The demo's day as a whole, against the limit it has to keep: 90 s on two cores for 300 sites."""

import asyncio
import tempfile
from pathlib import Path
from typing import Any

from vpp.demo import Demo, DemoScript, play
from vpp.demo.watch import Moment

LIMIT_S = 90.0


def run(*, sites: int = 300, seed: int = 1) -> dict[str, Any]:
    """Play one day and return its figures: `of_limit` below 1 is fast enough."""
    return asyncio.run(_run(sites, seed))


async def _run(sites: int, seed: int) -> dict[str, Any]:
    async def watch(now: Moment) -> None:
        del now

    with tempfile.TemporaryDirectory(prefix="vpp-bench-") as folder:
        async with Demo(DemoScript(seed=seed, sites=sites), Path(folder), say=lambda text: None) as day:
            outcome = await play(day, watch)
    return {
        "sites": outcome.sites,
        "seed": outcome.seed,
        "wall_s": outcome.wall_s,
        "limit_s": LIMIT_S,
        "of_limit": round(outcome.wall_s / LIMIT_S, 3),
        "wall_s_by_loop": outcome.wall_s_by_loop,
        "delivered_fraction": outcome.delivered_fraction,
        "failures": list(outcome.failures),
    }
