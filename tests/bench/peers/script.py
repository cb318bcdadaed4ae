"""What each peer's script does around its own part: read the problem, time the peer, judge, write.

Called by the `with_*.py` scripts here, which `bench_peers.py` runs. Timed are building the peer's model
from arrays in memory, and solving it until its answer is back in arrays; not reading, not importing, and
not what a library does once in a process: each first solves a problem of two sites.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from textbook import Floats, Instance, few, judge, read


@dataclass(frozen=True)
class Solved:
    """A peer's answer: charge and discharge [kW] (N,T), bids [kW] (K,), or None where it has none."""

    finished: bool
    status: str
    power: tuple[Floats, Floats, Floats] | None


Solve = Callable[[], Solved]
Build = Callable[[Instance, str, float], Solve]
"""Makes the peer's model of an instance for a method and a time limit [s]; the result solves it."""


def main(build: Build) -> None:
    """Run a peer on PROBLEM.npz and write OUT.json."""
    parser = argparse.ArgumentParser()
    parser.add_argument("problem", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--time-limit", type=float, default=150.0)
    parser.add_argument("--method", default="")
    asked = parser.parse_args()
    problem = read(asked.problem)
    build(few(problem, 2), asked.method, asked.time_limit)()
    begun = time.perf_counter()
    solve = build(problem, asked.method, asked.time_limit)
    built = time.perf_counter()
    solved = solve()
    ended = time.perf_counter()
    result: dict[str, Any] = {
        "finished": solved.finished, "status": solved.status,
        "build_s": built - begun, "solve_s": ended - built, "seconds": ended - begun,
    }  # fmt: skip
    if solved.power is not None:
        result |= judge(problem, *solved.power)
    asked.out.write_text(json.dumps(result))
