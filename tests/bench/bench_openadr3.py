"""GET /events of our OpenADR 3.1 VTN against 10,000 events, 200 requests a second whatever the answers do.

Run by `vpp bench openadr3` or `python -m tests.bench.bench_openadr3`. One process of `vpp serve`, as deployed, on
real PostgreSQL and Valkey; pages of 50 for business logic and a VEN (`openadr/objects.py` has the mix). Time counts
from the instant a request was due, so that a stall is felt by all that come after it. The limit is a p99 of 50 ms;
beside it, in the same run, a bare FastAPI route that returns the same bytes, in a process of its own. `core_share` is
what of one core these requests take.
"""

import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.bench.openadr.objects import Asked, Credentials, asked, bytes_of, fill, token
from tests.bench.openadr.ours import server_pids
from tests.bench.openadr.processes import Spoken, cpu_s, family, rss_mib, settle
from tests.builders_processes import free_port
from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.store.embedded import ServerUrls, running_servers
from vpp.store.engine import Store
from vpp.store.migrate import migrate

EVENTS, PER_S, SECONDS, ROUNDS, CONNECTIONS = 10_000, 200.0, 10.0, 2, 64
LIMIT_MS = 50.0
Json = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers, and what is asked of it."""

    name: str
    port: int
    pid: int
    paths: Sequence[str]
    tokens: Sequence[str]


def run(*, quick: bool = False, progress: Progress = lambda _: None) -> Json:
    """Measure; about a minute, or seconds with `quick` (1,000 events)."""
    events, seconds, rounds = (1000, 2.0, 1) if quick else (EVENTS, SECONDS, ROUNDS)
    folder = Path(tempfile.mkdtemp(prefix="vpp-bench-"))
    load_before = os.getloadavg()[0]
    try:
        settings = Settings(var_dir=folder, database_url=None, redis_url=None)
        with running_servers(settings) as urls, Spoken("tests.bench.openadr.load") as load:
            migrate(urls.database_url)
            programs, bl, ven = asyncio.run(_fill(urls, events))
            progress(f"{events} events are stored")
            with _serve(urls, folder) as (port, process):
                mix = asked(programs)
                ours = _ours(port, process.pid, mix, bl, ven)
                with _bare(folder, ours) as bare:
                    measured = _measure(load, (ours, bare), mix, urls, seconds, rounds, progress)
                measured["ours_rss_mib"] = round(rss_mib(process.pid), 1)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "name": "openadr3",
        "events": events,
        "requests_per_s": PER_S,
        "limit_p99_ms": LIMIT_MS,
        "peer": "a bare FastAPI route that returns the same bytes",
        **measured,
        "ours_within_limit": measured["ours"]["p99_ms"] < LIMIT_MS,
        "load_average_before": round(load_before, 1),
        "load_average_after": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
    }


async def _fill(urls: ServerUrls, events: int) -> tuple[list[str], Credentials, Credentials]:
    store = Store(urls.database_url, urls.redis_url)
    try:
        return await fill(store, events, SystemClock().now())
    finally:
        await store.close()


@contextmanager
def _serve(urls: ServerUrls, folder: Path) -> Iterator[tuple[int, subprocess.Popen[bytes]]]:
    """`vpp serve`."""
    given = {"VPP_DATABASE_URL": urls.database_url, "VPP_REDIS_URL": urls.redis_url, "VPP_VAR_DIR": str(folder)}
    port = free_port()
    command = [sys.executable, *os.environ.get("VPP_BENCH_RUN", "-m vpp").split(), "serve", "--port", str(port)]
    with _process(command, folder / "serve.log", port, {**os.environ, **given}) as process:
        yield port, process


@contextmanager
def _bare(folder: Path, ours: Side) -> Iterator[Side]:
    """The bare route, with the answers ours gives."""
    answers = {
        path: bytes_of(ours.port, path, each).decode() for path, each in zip(ours.paths, ours.tokens, strict=True)
    }
    (folder / "answers.json").write_text(json.dumps(answers))
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.openadr.bare", str(port), str(folder / "answers.json")]
    with _process(command, folder / "bare.log", port, dict(os.environ)) as process:
        yield Side("bare", port, process.pid, ours.paths, ours.tokens)


@contextmanager
def _process(
    command: list[str], log: Path, port: int, environment: dict[str, str]
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        _wait_until_up(port, process, log)
        yield process
    finally:
        process.terminate()
        process.wait(60)


def _wait_until_up(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(900):
        if process.poll() is not None:
            break
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=5).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"{process.args!r} did not come up: {log.read_text()[-2000:]}")


def _ours(port: int, pid: int, mix: Sequence[Asked], bl: Credentials, ven: Credentials) -> Side:
    of_bl, of_ven = token(port, bl), token(port, ven)
    return Side("ours", port, pid, [each.path for each in mix], [of_ven if each.by_ven else of_bl for each in mix])


def _measure(
    load: Spoken, sides: Sequence[Side], mix: Sequence[Asked], urls: ServerUrls, seconds: float, rounds: int,
    progress: Progress,
) -> Json:  # fmt: skip
    took: dict[str, list[tuple[int, float]]] = {side.name: [] for side in sides}
    cpu: dict[str, float] = dict.fromkeys(took, 0.0)
    sizes: list[int] = []
    database_s = late_ms = 0.0
    beside = server_pids(urls)
    for round_ in range(rounds + 1):
        for side in sides:
            told, spent_s, beside_s = _round(load, side, beside, seconds if round_ else min(2.0, seconds))
            progress(f"{side.name}: {_summary([ms for _, ms in told['took_ms']])}")
            if round_ == 0:  # the first warms up
                continue
            took[side.name] += told["took_ms"]
            cpu[side.name] += spent_s
            late_ms = max(late_ms, told["client_late_ms"])
            if side.name == "ours":
                database_s, sizes = database_s + beside_s, told["sizes"]
    found: Json = {
        name: {
            **_summary([ms for _, ms in each]),
            "cpu_ms": round(1000 * cpu[name] / len(each), 3),
        }
        for name, each in took.items()
    }
    ours = found["ours"]
    ours["database_cpu_ms"] = round(1000 * database_s / len(took["ours"]), 3)
    ours["core_share"] = round(ours["cpu_ms"] * PER_S / 1000, 2)  # of one core, taken by these requests alone
    ours["core_share_with_database"] = round((ours["cpu_ms"] + ours["database_cpu_ms"]) * PER_S / 1000, 2)
    progress(f"ours: {ours['core_share']} of a core, {ours['core_share_with_database']} with PostgreSQL and Valkey")
    found["ratio_p99"] = round(found["ours"]["p99_ms"] / found["bare"]["p99_ms"], 2)
    found["client_late_ms"] = round(late_ms, 1)
    found["by_request"] = {
        each.name: _summary([ms for which, ms in took["ours"] if which == number]) | {"kb": round(sizes[number] / 1e3)}
        for number, each in enumerate(mix)
    }
    return found


def _round(load: Spoken, side: Side, beside: Sequence[int], seconds: float) -> tuple[Json, float, float]:
    settle([side.pid, *beside])
    before_s, database_s = cpu_s([side.pid]), cpu_s([each for pid in beside for each in family(pid)])
    told = load.ask(
        do="open_loop", port=side.port, paths=list(side.paths), tokens=list(side.tokens), per_s=PER_S,
        seconds=seconds, connections=CONNECTIONS,
    )  # fmt: skip
    if told["wrong"]:
        raise AssertionError(f"{side.name}: {told['wrong']}")
    settle([side.pid, *beside])
    spent_s = cpu_s([side.pid]) - before_s
    return told, spent_s, cpu_s([each for pid in beside for each in family(pid)]) - database_s


def _summary(took_ms: Sequence[float]) -> Json:
    ordered = sorted(took_ms)
    return {
        "requests": len(ordered),
        "p50_ms": round(ordered[len(ordered) // 2], 2),
        "p99_ms": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max_ms": round(ordered[-1], 2),
    }


if __name__ == "__main__":
    told = run(quick="--quick" in sys.argv, progress=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
