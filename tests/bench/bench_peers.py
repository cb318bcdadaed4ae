"""Our allocator and named peers on the same binding problems, each answer re-costed from its power alone.

Run by `vpp bench peers`. A peer is a script of `tests/bench/peers` in a throwaway environment and process
of its own (`uv run --with`, so a package index must be reachable): highspy 1.15 and ortools 9.15 cannot
share a process. P2b is a shaped event that binds in every step, P3 a day ahead with two capacity bids.
VPP_BENCH_QUICK=1 leaves out the problems of 1,000 sites, VPP_BENCH_LIMIT_S changes each peer's time limit.
"""

import json
import os
import shutil
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.peers import textbook
from tests.builders_instances import instance
from vpp.allocation import Options, Problem, solve, write_problem
from vpp.domain.errors import NotReady

SCRIPTS = Path(__file__).parent / "peers"
GAP = 1e-4
SEED = 0
ROUNDS = 3
LIMIT_S = 150.0
GRACE_S = 90.0
"""On top of the limit, for starting, importing and a solver that looks at its clock late."""
INSTALL_S = 900.0
USABLE = 1e-3
"""HiGHS's best method is the fastest whose answer keeps every limit to so many kW or kWh."""

NUMBERS = ("numpy==2.4.6", "scipy==1.17.1")
HIGHS = ("highspy[extras]==1.15.1", *NUMBERS)
ORTOOLS = ("ortools==9.15.6755", *NUMBERS)


@dataclass(frozen=True)
class Peer:
    """A peer's name, script, packages and method, and whether it is asked at 1,000 sites, too."""

    name: str
    script: str
    packages: tuple[str, ...]
    method: str = ""
    large: bool = False


PEERS = (
    Peer("HiGHS HiPO", "highs", HIGHS, "hipo", large=True),
    Peer("HiGHS HiPO with crossover", "highs", HIGHS, "hipo_crossover"),
    Peer("HiGHS simplex", "highs", HIGHS, "simplex", large=True),
    Peer("HiGHS IPX", "highs", HIGHS, "ipx", large=True),
    Peer("HiGHS PDLP 1e-4", "highs", HIGHS, "pdlp", large=True),
    Peer("OR-Tools GLOP", "ortools", ORTOOLS, "glop", large=True),
    Peer("OR-Tools PDLP 1e-4", "ortools", ORTOOLS, "pdlp", large=True),
    Peer("linopy, HiGHS", "linopy", ("linopy==0.10.1", *HIGHS)),
    Peer("cvxpy, HiGHS", "cvxpy", ("cvxpy==1.9.3", *HIGHS)),
    Peer("Pyomo, HiGHS", "pyomo", ("pyomo==6.10.1", *HIGHS)),
    Peer("FlexMeasures device_scheduler", "flexmeasures", ("flexmeasures==1.0.1",)),
)


def run(sizes: tuple[int, ...] | None = None) -> dict[str, Any]:
    """Return every row, the table as text, and how much slower HiGHS's best method was; JSON-able.

    Without `sizes`: 100 and 1,000 sites, or what VPP_BENCH_QUICK says.

    Raises:
        NotReady: there is no uv.
    """
    if shutil.which("uv") is None:
        raise NotReady("uv is not on PATH: it makes the environment of each peer")
    limit_s = float(os.environ.get("VPP_BENCH_LIMIT_S", LIMIT_S))
    sizes = sizes or ((100,) if os.environ.get("VPP_BENCH_QUICK") == "1" else (100, 1000))
    missing = {packages: why for packages in {peer.packages for peer in PEERS} if (why := _install(packages))}
    rows: list[dict[str, Any]] = []
    for sites in sizes:
        for kind in ("p2b", "p3"):
            rows += _compare(kind, sites, limit_s, missing)
    return {
        "rows": rows,
        "ratios": {f"{kind}_{sites}": _best_highs(rows, kind, sites) for sites in sizes for kind in ("p2b", "p3")},
        "limit_s": limit_s,
        "cpus": os.cpu_count(),
        "load_average_1min": round(os.getloadavg()[0], 2),
        "table": [*_table(rows, limit_s)],
    }


def _compare(kind: str, sites: int, limit_s: float, missing: dict[tuple[str, ...], str]) -> list[dict[str, Any]]:
    problem = instance(kind, sites, SEED)
    ours = _ours(problem, instance(kind, sites, SEED + 1))
    rows = [ours]
    with tempfile.TemporaryDirectory(prefix="vpp-bench-") as folder:
        path = Path(folder) / "problem.npz"
        write_problem(problem, path)
        for peer in PEERS:
            if peer.large or sites <= 100:
                why = missing.get(peer.packages)
                rows.append({"status": f"not installed: {why}"} if why else _ask(peer, path, limit_s))
                rows[-1]["peer"] = peer.name
    for row in rows:
        row |= {"problem": kind, "sites": sites}
        if "objective" in row:
            row["objective_to_ours"] = row["objective"] / ours["objective"] - 1.0
        if "seconds" in row:
            row["ratio"] = row["seconds"] / ours["seconds"]
            row["out_of_time"] = not row["finished"] and row["seconds"] >= limit_s
    return rows


def _ours(problem: Problem, other: Problem) -> dict[str, Any]:
    """Our own row, by the peers' yardstick; the first solve, of another problem, loads compiled kernels."""
    begun = time.perf_counter()
    solve(other, Options(gap=GAP))
    first_s = time.perf_counter() - begun
    seconds = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        answer = solve(problem, Options(gap=GAP))
        seconds.append(time.perf_counter() - begun)
    priced = int((abs(answer.marginal_price_per_kwh) > 1e-9).sum())
    if not priced:
        raise AssertionError("no coupled step has a price: this would measure size, not coordination")
    judged = textbook.judge(
        textbook.instance(problem.arrays()), (-answer.battery_kw).clip(0), answer.battery_kw.clip(0), answer.capacity_kw
    )
    if abs(judged["objective"] - answer.objective) > 1e-6 * abs(answer.objective):
        raise AssertionError(f"our cost is {answer.objective}, by the textbook {judged['objective']}")
    return {
        "peer": "vpp", "finished": answer.status == "optimal", "status": answer.status, "gap": answer.gap,
        "seconds": statistics.median(seconds), "first_s": first_s, "coupled_steps_with_a_price": priced, **judged,
    }  # fmt: skip


def _command(packages: tuple[str, ...]) -> list[str]:
    return ["uv", "run", "--no-project", "--quiet", *(f"--with={package}" for package in packages), "python"]


def _install(packages: tuple[str, ...]) -> str | None:
    """Make an environment before anything is timed; returns why it cannot be made."""
    return _run([*_command(packages), "-c", "pass"], INSTALL_S)


def _ask(peer: Peer, problem: Path, limit_s: float) -> dict[str, Any]:
    out = problem.with_name("answer.json")
    out.unlink(missing_ok=True)
    script = SCRIPTS / f"with_{peer.script}.py"
    asked = [str(script), str(problem), str(out), f"--time-limit={limit_s}", f"--method={peer.method}"]
    why = _run([*_command(peer.packages), *asked], limit_s + GRACE_S)
    if why is None:
        return dict(json.loads(out.read_text()))
    if why == "out of time":
        return {"finished": False, "status": why, "seconds": limit_s}
    return {"status": f"failed: {why}"}


def _run(command: list[str], timeout_s: float) -> str | None:
    """Run to the end in a process group of its own; returns what went wrong, if anything."""
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, said = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)  # uv's child would outlive uv
        process.communicate()
        return "out of time"
    if process.returncode == 0:
        return None
    return (said.strip().splitlines() or [f"exit {process.returncode}"])[-1]


def _best_highs(rows: list[dict[str, Any]], kind: str, sites: int) -> dict[str, Any]:
    """HiGHS's fastest method that finished with a usable answer, over ours."""
    done = [
        row
        for row in rows
        if (row["problem"], row["sites"]) == (kind, sites)
        and row["peer"].startswith("HiGHS")
        and row.get("finished")
        and max(row["over_kw"], row["over_kwh"]) <= USABLE
    ]
    if not done:
        return {"highs_best": None}
    best = min(done, key=lambda row: float(row["seconds"]))
    return {"highs_best": best["peer"], "highs_best_s": best["seconds"], "over_ours": best["ratio"]}


def _table(rows: list[dict[str, Any]], limit_s: float) -> Iterator[str]:
    """The rows as docs/reference/performance.md shows them."""
    yield "| problem | solver | s | times ours | cost against ours | breaks limits by, kW / kWh |"
    yield "|---|---|---|---|---|---|"
    for row in rows:
        where = f"| {row['problem'].replace('p', 'P')} {row['sites']:,} | {row['peer']}"
        if "seconds" not in row:
            yield f"{where} | {row['status']} | | | |"
        elif row["out_of_time"]:
            yield f"{where} | > {limit_s:.0f} | > {row['ratio'] * limit_s / row['seconds']:.0f} | | |"
        elif "objective" not in row:
            yield f"{where} | {row['seconds']:.2f}, {row['status']} | | | |"
        else:
            said = "" if row["finished"] else f", {row['status']}"
            limits = " / ".join("0" if row[name] < 1e-9 else f"{row[name]:.2g}" for name in ("over_kw", "over_kwh"))
            cost = f"{row['objective']:.3f}" if row["peer"] == "vpp" else _share(row["objective_to_ours"])
            yield f"{where} | {row['seconds']:.2f}{said} | {row['ratio']:.1f} | {cost} | {limits} |"


def _share(of_ours: float) -> str:
    return "equal" if abs(of_ours) < 1e-9 else f"{of_ours:+.1e}"
