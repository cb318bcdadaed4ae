"""Our OpenADR 2.0b VTN against stock openleadr's OpenADRServer, at 50, 500 and 5,000 VENs, in one run.

Run by `vpp bench openadr2` or `python -m tests.bench.bench_openadr2`. Ours is the process of `vpp vtn` on real
PostgreSQL and Valkey, each answer committed before it is given; stock keeps all in memory. Both get the same
requests from the same load client (`openadr/load.py`), turn and turn about. What is measured:

* polls: VENs with nothing to hear poll as fast as they are answered, on a connection each.
* distribution: from before one event of 96 intervals is published until every VEN has polled it and its
  oadrCreatedEvent was taken. With few VENs the median of several such events, each for as many other VENs.
* signed: both ways with RSA-2048 and ReplayProtect, and the certificate bound to the venID, as behind a TLS proxy.

Everybody of the fleet takes part, but for one thing: of stock's signed fleet `SIGNED_SAMPLE` VENs, for it parses its
key twice for every message. Their event is added for all VENs, and the rate is the time for that and what the sample
took, scaled to all. Each figure says how many VENs it is of.

CPU is that of the server's process from /proc, in ms a request; ours beside it with PostgreSQL and Valkey.
"""

import asyncio
import json
import os
import resource
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from tests.bench.openadr.messages import write_certificates
from tests.bench.openadr.ours import (
    QUEUED,
    OurVtn,
    add_vens,
    answers_counted,
    group_of,
    our_vtn,
    publish_event,
    queue_messages,
    server_pids,
)
from tests.bench.openadr.processes import Spoken, cpu_s, family, rss_mib, settle
from tests.builders_processes import free_port
from vpp.config import Settings
from vpp.store.embedded import ServerUrls, running_servers
from vpp.store.migrate import migrate

FLEETS = (50, 500, 5000)
ROUNDS = 3
SLICE_S = 1.5
IN_FLIGHT = 128
FEW = 100
"""So few VENs are told an event in less than a tenth of a second, which is measured several times."""
SIGNED_SAMPLE = 50
SIGNED_POLLS = 1500
SIGNED_AT_ONCE = 4
"""Signed requests under way at stock: it refuses what is five seconds old."""
Json = dict[str, Any]
Progress = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """What a run needs."""

    urls: ServerUrls
    folder: Path
    load: Spoken
    tell: Progress
    rounds: int = ROUNDS
    slice_s: float = SLICE_S
    signed_sample: int = SIGNED_SAMPLE
    signed_polls: int = SIGNED_POLLS
    look_s: float = 0.4
    settle_s: float = 8.0

    def settle(self, side: "Side") -> None:
        """Wait until a server has finished what it was at."""
        settle([side.pid, *side.beside], every_s=self.look_s, within_s=self.settle_s)


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two servers while it runs."""

    name: str
    pid: int
    beside: Sequence[int] = ()

    def cpu(self) -> tuple[float, float]:
        """CPU of the server, and of the servers it works with [s]."""
        return cpu_s([self.pid]), cpu_s([each for pid in self.beside for each in family(pid)])


def run(
    *,
    vens: int | None = None,
    quick: bool = False,
    progress: Progress = lambda _: None,
    urls: ServerUrls | None = None,
) -> Json:
    """Measure; some four minutes, or seconds with `quick` (50 VENs).

    Args:
        vens: measures one size of fleet only.
        urls: servers with a migrated database to use; None starts some.
    """
    _let_files_be_open()
    fleets = (50,) if quick and vens is None else FLEETS if vens is None else (vens,)
    folder = Path(tempfile.mkdtemp(prefix="vpp-bench-"))
    load_before = os.getloadavg()[0]
    try:
        with _servers(folder, urls) as there, Spoken("tests.bench.openadr.load") as load:
            bench = Bench(there, folder, load, progress)
            if quick:
                bench = replace(
                    bench, rounds=1, slice_s=0.3, signed_sample=4, signed_polls=100, look_s=0.1, settle_s=0.3
                )
            measured: Json = {str(fleet): _fleet(bench, fleet) for fleet in fleets}
            memory = {} if quick else _memory(bench, fleets[-1])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return {
        "name": "openadr2",
        "peer": f"openleadr {version('openleadr')} OpenADRServer, aiohttp {version('aiohttp')}",
        "vens": measured,
        "memory": memory,
        "load_average_before": round(load_before, 1),
        "load_average_after": round(os.getloadavg()[0], 1),
        "cpus": os.cpu_count(),
    }


def _let_files_be_open() -> None:
    """Every VEN has a connection, at each end; the processes started from here inherit this limit."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextmanager
def _servers(folder: Path, urls: ServerUrls | None) -> Iterator[ServerUrls]:
    if urls is not None:
        yield urls
        return
    with running_servers(Settings(var_dir=folder, database_url=None, redis_url=None)) as started:
        migrate(started.database_url)
        yield started


def _fleet(bench: Bench, vens: int) -> Json:
    return {name: figures for signed in (False, True) for name, figures in _both(bench, vens, signed=signed).items()}


def _both(bench: Bench, vens: int, *, signed: bool) -> Json:
    """Polls and distribution at both servers; of stock's only a sample of the VENs where messages are signed."""
    tenant, port, folder = f"{'signed' if signed else 'plain'}{vens}", free_port(), None
    sample = min(vens, bench.signed_sample) if signed else vens
    rounds = bench.rounds if vens <= FEW and not signed else 1
    everybody = rounds * vens + 1  # each round's event is for a group of its own; the last VEN's warms up
    if signed:
        folder = bench.folder / tenant
        folder.mkdir()
        write_certificates(folder, everybody)
    add_vens(bench.urls, tenant, everybody, folder, group=vens)
    given = [] if folder is None else [str(folder)]
    with (
        Spoken("tests.bench.openadr.stock", str(port), str(everybody), *given) as stock,
        our_vtn(bench.urls, bench.folder, tenant, folder) as vtn,
    ):
        stock.answer()
        sides = Side("ours", vtn.pid, server_pids(bench.urls)), Side("stock", stock.process.pid)
        for side, at, many in zip(sides, (vtn.port, port), (vens, sample), strict=True):
            bench.load.ask(do="connect", name=side.name, port=at, folder=given[0] if given else None, vens=many)
        polls = _signed_polls(bench, sides, vens, sample) if signed else _polls(bench, sides, vens)
        bench.tell(f"{vens} VENs, {'signed ' * signed}polls: {polls}")
        measured = []
        for first in (rounds * vens, *range(0, rounds * vens, vens)):
            told, heard = (1, 1) if first == rounds * vens else (vens, sample)
            ours = _ours_takes(bench, sides[0], vtn, first, told, group_of(first, vens))
            measured.append(_compared(ours, _stock_takes(bench, sides[1], stock, first, told, heard, signed=signed)))
        distribution = sorted(measured[1:], key=lambda each: each["ratio"])[rounds // 2] | {"rounds": rounds}
        bench.tell(f"{vens} VENs, {'signed ' * signed}distribution: {distribution}")
    suffix = "_signed" if signed else ""
    return {f"polls{suffix}": polls, f"distribution{suffix}": distribution}


def _polls(bench: Bench, sides: Sequence[Side], vens: int) -> Json:
    """Both in turn; the median of the rounds, and its ratio."""
    rates: dict[str, list[float]] = {side.name: [] for side in sides}
    cpu_ms: dict[str, list[float]] = {side.name: [] for side in sides}
    for round_ in range(bench.rounds + 1):
        for side in sides:
            before_s, _ = side.cpu()
            asked: Json = {"name": side.name, "vens": vens, "seconds": bench.slice_s, "in_flight": IN_FLIGHT}
            if not round_:  # warms up: every VEN has polled before it counts
                asked |= {"seconds": bench.slice_s / 2, "at_least": vens}
            told = bench.load.ask(do="poll", **asked)
            if told["wrong"]:
                raise AssertionError(f"{side.name}: {told['wrong']} polls were not answered with oadrResponse")
            bench.settle(side)
            if round_:
                rates[side.name].append(told["polls"] / told["seconds"])
                cpu_ms[side.name].append(1000 * (side.cpu()[0] - before_s) / told["polls"])
    rate, spent = ({name: statistics.median(each) for name, each in of.items()} for of in (rates, cpu_ms))
    return _polled(rate, spent) | {"vens": vens}


def _signed_polls(bench: Bench, sides: Sequence[Side], vens: int, sample: int) -> Json:
    """Each VEN of ours at least once, with messages signed before; stock's sample once, with fresh ones."""
    rate, spent, counts = {}, {}, (max(vens, bench.signed_polls), sample)
    for side, many, count in zip(sides, (vens, sample), counts, strict=True):
        ours = side.name == "ours"
        asked = {"name": side.name, "vens": many, "in_flight": IN_FLIGHT if ours else SIGNED_AT_ONCE, "seconds": 0.0}
        bench.load.ask(do="poll", **asked, at_least=2)  # warms up
        if ours:
            bench.load.ask(do="sign_polls", name=side.name, vens=many, count=count)
        bench.settle(side)
        before_s, _ = side.cpu()
        told = bench.load.ask(do="poll", **asked, at_least=count)
        if told["wrong"]:
            raise AssertionError(f"{side.name}: {told['wrong']} signed polls were not answered with oadrResponse")
        bench.settle(side)
        rate[side.name] = told["polls"] / told["seconds"]
        spent[side.name] = 1000 * (side.cpu()[0] - before_s) / told["polls"]
    return _polled(rate, spent) | {"vens": vens, "stock_vens": sample}


def _polled(rate: dict[str, float], cpu_ms: dict[str, float]) -> Json:
    return {
        "ours_per_s": _rounded(rate["ours"]),
        "stock_per_s": _rounded(rate["stock"]),
        "ratio": round(rate["ours"] / rate["stock"], 2),
        "ours_cpu_ms": round(cpu_ms["ours"], 3),
        "stock_cpu_ms": round(cpu_ms["stock"], 3),
        "cpu_ratio": round(cpu_ms["stock"] / cpu_ms["ours"], 2),
    }


def _rounded(rate: float) -> float:
    return round(rate) if rate >= 100 else round(rate, 1)


def _ours_takes(bench: Bench, side: Side, vtn: OurVtn, first: int, vens: int, group: str) -> Json:
    """An event for a group of VENs, from the `first` on."""
    event_id = f"event-{vtn.tenant}-{first}"
    ids = [event_id] * vens
    bench.load.ask(do="prepare", name=side.name, event_ids=ids, first=first, ahead=True)
    bench.settle(side)
    before_s, beside_s = side.cpu()
    started_s, published_s = asyncio.run(publish_event(vtn, event_id, group))
    told = bench.load.ask(do="take", name=side.name, event_ids=ids, first=first, in_flight=IN_FLIGHT, within_s=300)
    bench.settle(side)
    after_s, beside_after_s = side.cpu()
    counted = answers_counted(vtn, event_id)
    if counted != vens:
        raise AssertionError(f"{counted} of {vens} answers are committed")
    return {
        "vens": vens,
        "published_s": round(published_s, 3),
        "seconds": round(told["finished_s"] - started_s, 3),
        "per_s": round(vens / (told["finished_s"] - started_s), 1),
        "cpu_ms_per_ven": round(1000 * (after_s - before_s) / vens, 2),
        "database_cpu_ms_per_ven": round(1000 * (beside_after_s - beside_s) / vens, 2),
        "kb_per_event": round(told["bytes"] / vens / 1000, 1),
        "polls": told["polls"],
    }


def _stock_takes(bench: Bench, side: Side, stock: Spoken, first: int, vens: int, sample: int, *, signed: bool) -> Json:
    """An event is added for each VEN from the `first` on; `sample` of them take it."""
    ids = [f"event-{first + number}" for number in range(vens)]
    these = {"name": side.name, "event_ids": ids[:sample], "first": first}
    bench.load.ask(do="prepare", **these, ahead=not signed)  # it refuses what is 5 s old
    bench.settle(side)
    before_s, _ = side.cpu()
    started_s = time.monotonic()
    stock.ask(event_ids=ids, first=first)
    published_s, published_cpu_s = time.monotonic() - started_s, side.cpu()[0] - before_s
    at_once = SIGNED_AT_ONCE if signed else IN_FLIGHT
    told = bench.load.ask(do="take", **these, in_flight=at_once, within_s=300)
    took_s = told["finished_s"] - started_s - published_s
    bench.settle(side)
    spent_s = side.cpu()[0] - before_s - published_cpu_s
    whole_s = published_s + took_s * vens / sample
    return {
        "vens": vens,
        "sample": sample,
        "published_s": round(published_s, 3),
        "seconds": round(whole_s, 3),
        "per_s": round(vens / whole_s, 1),
        "cpu_ms_per_ven": round(1000 * (spent_s / sample + published_cpu_s / vens), 2),
        "kb_per_event": round(told["bytes"] / sample / 1000, 1),
        "polls": told["polls"],
    }


def _compared(ours: Json, theirs: Json) -> Json:
    return {
        "ours": ours,
        "stock": theirs,
        "ratio": round(ours["per_s"] / theirs["per_s"], 2),
        "cpu_ratio": round(theirs["cpu_ms_per_ven"] / ours["cpu_ms_per_ven"], 2),
    }


def _memory(bench: Bench, vens: int) -> Json:
    """What the VTN's process holds with every VEN registered, and with messages waiting for each of them."""
    tenant = f"queues{vens}"
    add_vens(bench.urls, tenant, vens, None)
    held = {}
    for name in ("idle", "queued"):
        with our_vtn(bench.urls, bench.folder, tenant, None) as vtn:
            settle([vtn.pid])
            held[f"rss_{name}_mib"] = round(rss_mib(vtn.pid), 1)
        queue_messages(bench.urls, tenant)
    found = {"vens": vens, "queued_each": QUEUED, **held}
    bench.tell(f"memory: {found}")
    return found


if __name__ == "__main__":
    told = run(quick="--quick" in sys.argv, progress=lambda line: print(line, file=sys.stderr, flush=True))  # noqa: T201
    sys.stdout.write(json.dumps(told, indent=2) + "\n")
