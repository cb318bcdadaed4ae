"""How fast the allocator is at every size, against the fastest linear solvers on the same problems.

Run by `vpp bench allocation`; both sides of each ratio are measured in this run. P2b is a shaped event that
binds in every step, P3 a day ahead with two capacity bids; every answer's gap is proven and its coupling
prices are not zero, so that coordination is measured and not size. VPP_BENCH_QUICK=1 stops at 10,000 sites
and leaves out the solvers of 1,000.
"""

import os
import resource
import subprocess
import sys
import time
from typing import Any

import numpy as np

from tests.bench import bench_peers, bench_split
from tests.builders_instances import instance
from vpp.allocation import Options, solve

SIZES = (1_000, 10_000, 100_000)
LARGEST, LARGEST_GAP = 1_000_000, 1e-3
GAP = 1e-4
ROUNDS = 3
PEERS_LIMIT_S = "60"
FRESH = """
import time
begun = time.perf_counter()
from vpp.allocation import Options, solve
from vpp.allocation.sequential import prepared
prepared().result()
print(time.perf_counter() - begun)
"""


def run() -> dict[str, Any]:
    """Return seconds, gaps and ratios; JSON-able."""
    quick = os.environ.get("VPP_BENCH_QUICK") == "1"
    os.environ.setdefault("VPP_BENCH_LIMIT_S", PEERS_LIMIT_S)
    solve(instance("p2b", 1_000, 1), Options(gap=GAP))  # compiled kernels are on disk after this
    found: dict[str, Any] = {"fresh_process_ready_s": _fresh_s(), "cpus": os.cpu_count()}
    for kind in ("p2b", "p3"):
        sizes = SIZES[:2] if quick else SIZES
        seconds = [found.setdefault(f"{kind}_{sites}", _measured(kind, sites, GAP))["seconds"] for sites in sizes]
        found[f"{kind}_growth_exponent"] = float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])
        if not quick:
            found[f"{kind}_{LARGEST}"] = _measured(kind, LARGEST, LARGEST_GAP, rounds=1)
    found["split"] = bench_split.run()
    found["peers"] = bench_peers.run((100,) if quick else (100, 1_000))
    return found


def _measured(kind: str, sites: int, gap: float, rounds: int = ROUNDS) -> dict[str, Any]:
    """The best of some rounds; the gap must be proven and power must have had a price."""
    problem = instance(kind, sites, 0)
    best_s = np.inf
    for _ in range(rounds):
        begun = time.perf_counter()
        answer = solve(problem, Options(gap=gap, time_limit_s=600.0))
        best_s = min(best_s, time.perf_counter() - begun)
    assert answer.gap <= gap, (kind, sites, answer.gap)
    priced = int((np.abs(answer.marginal_price_per_kwh) > 1e-9).sum())
    assert priced, "no coupled step has a price: this would measure size, not coordination"
    return {
        "seconds": best_s, "gap": answer.gap, "method": answer.method, "said": answer.attempts,
        "coupled_steps_with_a_price": priced,
        "most_memory_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    }  # fmt: skip


def _fresh_s() -> float:
    """Seconds from an empty interpreter until the kernels are loaded from disk."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, timeout=120, check=True)
    return float(done.stdout)
