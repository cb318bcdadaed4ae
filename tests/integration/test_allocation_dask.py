"""Shards on a real local Dask cluster: the same answer as threads, whatever happens to the workers."""

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster

from tests.bench.bench_scaleout import GAP, SHARDS, Watched, a_cluster, coordinate, kill_a_worker
from tests.builders_instances import instance
from vpp.allocation import Options, solve
from vpp.allocation.sequential.coordinator import Coordinator
from vpp.allocation.sequential.dask_executor import DaskCluster, State, begin, packed, proceed
from vpp.allocation.sequential.executors import Threads
from vpp.allocation.sequential.shards import Shard
from vpp.allocation.sequential.tables import tables_of
from vpp.domain.errors import NotReady
from vpp.domain.fleet import Floats

SITES = 3000


@pytest.fixture(scope="module")
def in_process() -> tuple[Coordinator, Floats]:
    """The answer of threads with as many shards; compiles the kernels, which the workers then find on disk."""
    return coordinate(instance("p3", SITES, 0), Threads(2), SHARDS)


@pytest.fixture(scope="module")
def a_pair(in_process: Any) -> Iterator[LocalCluster]:
    with a_cluster(2) as cluster:
        yield cluster


@pytest.fixture
def two_workers(a_pair: LocalCluster) -> LocalCluster:
    """A cluster of two, also after a test that killed one: its nanny starts it again."""
    until = time.perf_counter() + 60
    while len(a_pair.scheduler.workers) < 2:
        assert time.perf_counter() < until
        time.sleep(0.05)
    return a_pair


@dataclass(frozen=True, slots=True)
class Single:
    """A cluster of one worker, and how many compiled functions that worker joined with."""

    cluster: LocalCluster
    compiled: int


@pytest.fixture(scope="module")
def one_worker(in_process: Any) -> Iterator[Single]:
    with a_cluster(1) as cluster, Client(cluster.scheduler_address, set_as_default=False) as client:
        (compiled,) = client.run(_compiled).values()
        client.close()
        yield Single(cluster, compiled)


@contextmanager
def _connected(cluster: LocalCluster, wait_s: float = 60.0, **options: Any) -> Iterator[DaskCluster]:
    executor = DaskCluster(cluster.scheduler_address, time.perf_counter() + wait_s, **options)
    try:
        yield executor
    finally:
        executor.close()


def _shards(count: int = 2, sites: int = 20) -> list[Shard]:
    tables = tables_of(instance("p3", sites, 0))
    return [Shard.of(tables, k) for k in range(count)]


def _same(run: Coordinator, battery_kw: Floats, in_process: tuple[Coordinator, Floats]) -> None:
    assert run.gap <= GAP
    np.testing.assert_array_equal(battery_kw, in_process[1])
    assert (run.upper, run.lower) == (in_process[0].upper, in_process[0].lower)


def test_one_worker_gives_the_answer_of_threads_to_the_last_bit(
    one_worker: Single, in_process: tuple[Coordinator, Floats]
) -> None:
    with _connected(one_worker.cluster) as executor:
        run, battery_kw = coordinate(instance("p3", SITES, 0), executor, SHARDS)
    _same(run, battery_kw, in_process)


def test_two_workers_give_it_too_and_share_the_shards(
    two_workers: LocalCluster, in_process: tuple[Coordinator, Floats]
) -> None:
    held: list[int] = []

    def look() -> None:
        until = time.perf_counter() + 5  # what is let go of is freed within moments
        while sum(now := [len(worker.has_what) for worker in two_workers.scheduler.workers.values()]) > SHARDS:
            assert time.perf_counter() < until, now
            time.sleep(0.01)
        held.extend(now)

    with _connected(two_workers) as executor:
        run, battery_kw = coordinate(instance("p3", SITES, 0), Watched(executor, 20, look), SHARDS)
    _same(run, battery_kw, in_process)
    assert sum(held) == SHARDS  # the present state of each shard, and none before
    assert len(held) == 2
    assert min(held) >= 1


def test_a_worker_joins_with_the_oracle_compiled_for_what_it_will_be_sent(one_worker: Single) -> None:
    with _connected(one_worker.cluster) as executor:
        coordinate(instance("p3", 100, 0), executor, 2)
    with Client(one_worker.cluster.scheduler_address, set_as_default=False) as client:
        (after,) = client.run(_compiled).values()
    assert one_worker.compiled > 0
    assert after == one_worker.compiled


def _compiled() -> int:
    """Versions of the compiled functions in a worker's memory."""
    from vpp.allocation.sequential import epochs

    return sum(len(function.signatures) for function in vars(epochs).values() if hasattr(function, "signatures"))


def test_arrays_arrive_as_the_kernels_were_compiled_for(two_workers: LocalCluster) -> None:
    shard = _shards(1)[0]
    state = begin(packed(shard))
    one, other = two_workers.scheduler.workers
    with Client(two_workers.scheduler_address, set_as_default=False) as client:
        here = client.submit(begin, packed(shard), workers=[one])
        there = client.submit(_kinds, here, workers=[other])  # the state moves
        assert client.gather([client.submit(_kinds, here), there]) == [_kinds(state)] * 2
    assert _kinds(state) == _kinds(State(shard))


def _kinds(state: State) -> list[tuple[str, int, bool, bool, bool]]:
    """What a compiled kernel asks of an array: its type, dimensions, and whether it is aligned and writable."""
    s = state.shard
    arrays = (*s.tables, s.power_kw, s.cost, s.peaks)
    return [(str(a.dtype), a.ndim, a.flags.c_contiguous, a.flags.aligned, a.flags.writeable) for a in arrays]


def test_the_answer_is_within_the_gap_of_the_one_without_shards(in_process: tuple[Coordinator, Floats]) -> None:
    whole, _ = coordinate(instance("p3", SITES, 0), Threads(1), 1)
    assert abs(in_process[0].upper - whole.upper) <= GAP * max(1.0, abs(whole.upper))


def test_a_worker_killed_half_way_changes_nothing(
    two_workers: LocalCluster, in_process: tuple[Coordinator, Floats]
) -> None:
    before: set[str] = set()
    with _connected(two_workers) as executor:

        def kill() -> None:
            before.update(two_workers.scheduler.workers)
            kill_a_worker(two_workers)

        watched = Watched(executor, 24, kill)
        run, battery_kw = coordinate(instance("p3", SITES, 0), watched, SHARDS)
        after = set(two_workers.scheduler.workers)
    assert watched.turns > 30  # there was a way to go
    assert before - after, "no worker was lost"
    _same(run, battery_kw, in_process)


def test_a_turn_leaves_the_state_it_began_with_untouched_so_that_it_may_be_run_again(
    in_process: tuple[Coordinator, Floats],
) -> None:
    turns: list[Any] = []

    class Recording(Threads):
        def call(self, method: str, *arguments: Any) -> list[Any]:
            turns.extend(arguments if method == "take" else ())
            return super().call(method, *arguments)

    problem = instance("p3", 200, 0)
    coordinate(problem, Recording(1), 2)
    state = begin(packed(Shard.of(tables_of(problem), 0)))
    for turn in turns[:4]:
        frozen = pickle.dumps(state)
        first, again = (proceed(state, packed(("take", (turn,)))) for _ in range(2))
        assert pickle.dumps(state) == frozen
        assert first.shard.power_kw.any()
        np.testing.assert_array_equal(first.shard.power_kw, again.shard.power_kw)
        np.testing.assert_array_equal(first.shard.peaks, again.shard.peaks)
        state = first
    assert len(pickle.dumps(turns[0])) < 20_000  # prices and sums, whatever the number of sites


def test_whoever_names_a_cluster_gets_its_answer_from_there(two_workers: LocalCluster, one_worker: Single) -> None:
    """Through the front door: one more worker or one fewer makes no difference to the last bit."""
    problem = instance("p3", SITES, 0)
    there = solve(problem, Options(gap=GAP, time_limit_s=100.0, dask_url=two_workers.scheduler_address))
    assert there.status == "optimal"
    assert not any(said.startswith("cluster") for said in there.attempts), there.attempts
    address = one_worker.cluster.scheduler_address
    again = solve(problem, Options(gap=GAP, time_limit_s=100.0, dask_url=address))
    np.testing.assert_array_equal(there.battery_kw, again.battery_kw)
    here = solve(problem, Options(gap=GAP, time_limit_s=100.0))
    assert abs(here.objective - there.objective) <= GAP * abs(here.objective)


def test_a_cluster_without_workers_says_so() -> None:
    with a_cluster(0) as cluster, _connected(cluster, alone_s=0.5) as executor, pytest.raises(NotReady, match="no wo"):
        executor.hold(_shards())


def test_a_worker_that_hangs_costs_no_more_than_the_deadline(one_worker: Single) -> None:
    pid = one_worker.cluster.workers[0].process.pid
    with _connected(one_worker.cluster, wait_s=6.0) as executor:
        executor.hold(_shards())
        executor.call("totals")
        os.kill(pid, signal.SIGSTOP)
        try:
            started = time.perf_counter()
            with pytest.raises(NotReady, match="in time"):
                executor.call("totals")
            assert time.perf_counter() - started < 7
        finally:
            os.kill(pid, signal.SIGCONT)


def test_a_cluster_that_loses_its_last_worker_says_so(one_worker: Single) -> None:
    """The last test that uses it."""
    with _connected(one_worker.cluster, alone_s=0.5) as executor:
        executor.hold(_shards())
        assert len(executor.call("totals")) == 2
        one_worker.cluster.scale(0)
        started = time.perf_counter()
        with pytest.raises(NotReady, match="no workers"):
            executor.call("totals")
        assert time.perf_counter() - started < 15


def test_an_address_without_a_scheduler_is_named() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(NotReady, match=address):
            DaskCluster(address, time.perf_counter() + 2)


def test_a_scheduler_that_dies_is_an_error_and_no_wait_for_ever() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    listening = ("scheduler", "--host", "127.0.0.1", "--port", str(port))
    with _dask(*listening) as scheduler, _dask("worker", address, "--nthreads", "1"):
        _wait_for(port)
        executor = DaskCluster(address, time.perf_counter() + 90, alone_s=80)
        executor.hold(_shards())
        assert len(executor.call("totals")) == 2
        scheduler.kill()
        started = time.perf_counter()
        for _ in range(2):
            with pytest.raises(NotReady):
                executor.call("totals")
        assert time.perf_counter() - started < 15
        executor.close()


def _wait_for(port: int) -> None:
    until = time.perf_counter() + 40
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            assert time.perf_counter() < until
            time.sleep(0.1)
        else:
            return


@contextmanager
def _dask(*arguments: str) -> Iterator["subprocess.Popen[bytes]"]:
    """A process of the command that the chart's pods run."""
    command = [sys.executable, "-m", "dask", *arguments, "--no-dashboard"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            yield process
        finally:
            process.kill()
