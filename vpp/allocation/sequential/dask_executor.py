"""Shards on the workers of a Dask cluster.  Called by `solve.py` where `VPP_DASK_URL` is set.

A shard's states are a chain of tasks: each takes the state before and what is asked, and makes the next
state. Tasks never change what they are given, so the scheduler can run the chain again for a shard whose
worker is gone, and arrives where it was. Prices go out and sums come back; the states stay where they are.
"""

import pickle
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from vpp.allocation.sequential.shards import Shard
from vpp.domain.errors import NotReady

if TYPE_CHECKING:
    from distributed import Future

CONNECT_S = 5.0
"""So long a scheduler may take to answer."""
ALONE_S = 8.0
"""So long a cluster may be without workers: one that is started again is back sooner."""
LOOK_S = 1.0
"""How often a wait looks whether there are workers at all."""


CHANGING = frozenset({"take"})
"""Methods that change a shard."""


def packed(thing: object) -> bytes:
    """A thing as bytes, arrays and all.

    Left to itself the cluster hands arrays over as views of what it received, which need not be aligned;
    the oracle would be compiled anew for such arrays, and be slower.
    """
    return pickle.dumps(thing, protocol=5)


def unpacked(parcel: bytes) -> Any:
    """What was packed, in memory of its own."""
    return pickle.loads(parcel)  # noqa: S301 - from our own client or worker; who reaches the cluster may run anything


@dataclass(frozen=True, slots=True)
class State:
    """A shard after a number of turns, and what the last one answered. Never changed once made."""

    shard: Shard
    reply: object = None

    def __reduce__(self) -> tuple[Callable[..., "State"], tuple[bytes]]:
        return moved, (packed((self.shard, self.reply)),)

    def __sizeof__(self) -> int:
        """Bytes, by which the scheduler judges whether moving a state is worth it."""
        s = self.shard
        return sum(array.nbytes for array in (*s.tables, s.power_kw, s.cost, s.peaks))


def moved(parcel: bytes) -> State:
    """A state that came from another worker."""
    return State(*unpacked(parcel))


def begin(parcel: bytes) -> State:
    """The first state of a packed shard."""
    return State(unpacked(parcel))


def proceed(state: State, parcel: bytes) -> State:
    """The state after a method that changes the shard; `parcel` has its name and arguments."""
    method, arguments = unpacked(parcel)
    s = state.shard
    shard = replace(s, power_kw=s.power_kw.copy(), cost=s.cost.copy(), peaks=s.peaks.copy())
    reply = getattr(shard, method)(*arguments)
    return State(shard, reply)


def replied(state: State) -> object:
    """What the last turn answered."""
    return state.reply


def answer(state: State, parcel: bytes) -> object:
    """The answer of a method that leaves the shard as it is; `parcel` has its name and arguments."""
    method, arguments = unpacked(parcel)
    return getattr(replace(state.shard), method)(*arguments)


def dask_setup(worker: object) -> None:
    """Have the oracle compiled before the worker joins: `dask worker --preload` of this module calls it."""
    from vpp.allocation.sequential.solve import prepared  # which imports this module in its turn

    prepared().result()


class DaskCluster:
    """Shards on a cluster; its answers are those of `Threads` with as many shards.

    Raises:
        NotReady: from any method, when the cluster cannot be reached, has lost all its workers, gives a
            shard up or does not answer before the deadline. The shards are lost then; start again elsewhere.
    """

    def __init__(self, address: str, deadline: float, alone_s: float = ALONE_S) -> None:
        """Connect to a scheduler.

        Args:
            address: as `tcp://host:8786`.
            deadline: no wait lasts longer, of `time.perf_counter` [s].
            alone_s: so long it may be without workers [s].
        """
        self._address, self._deadline, self._alone_s = address, deadline, alone_s
        self._run, self._turns = uuid4().hex, 0
        self._states: list[Future] = []
        try:
            from distributed import Client  # an extra, and a second's import where it is there
        except ImportError as error:
            raise NotReady("VPP_DASK_URL needs Dask: install vpp-aggregator[dask]") from error
        try:
            self._client: Client = Client(address, timeout=self._left(CONNECT_S), set_as_default=False)
        except (OSError, TimeoutError, ValueError) as error:
            raise NotReady(f"VPP_DASK_URL {address}: no Dask scheduler answers there ({error})") from error

    def hold(self, shards: Sequence[Shard]) -> None:
        """Send the shards to the workers, as many to each."""
        import dask

        workers = self._workers(self._alone_s)
        if not workers:
            raise NotReady(f"{self._address} has no workers")
        no_warning = dask.config.set({"distributed.admin.large-graph-warning-threshold": "1TB"})  # data goes out once
        with self._explained(), no_warning:
            self._states = [
                self._client.submit(
                    begin, packed(shard), key=f"vpp-begin-{self._run}-{i}", workers=[workers[i % len(workers)]],
                    allow_other_workers=True,
                )
                for i, shard in enumerate(shards)
            ]  # fmt: skip

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Run a method of every shard; returns the answers in the shards' order."""
        self._turns += 1
        asked = packed((method, arguments))
        keys = [f"{self._run}-{self._turns}-{i}" for i in range(len(self._states))]
        answers = [f"vpp-answer-{key}" for key in keys]
        if method not in CHANGING:
            return self._gathered(
                self._started({a: (answer, state, asked) for a, state in zip(answers, self._states, strict=True)})
            )
        states = [f"vpp-state-{key}" for key in keys]
        tasks: dict[str, tuple[Any, ...]] = {
            s: (proceed, before, asked) for s, before in zip(states, self._states, strict=True)
        }
        tasks |= {a: (replied, s) for a, s in zip(answers, states, strict=True)}  # one message: it saves 10 ms
        futures = self._started(tasks)
        replies = self._gathered(futures[len(states) :])
        self._states = futures[: len(states)]  # lets go of the states before: the workers free them
        return replies

    def close(self) -> None:
        """Let go of the shards and the connection."""
        self._states = []
        with suppress(OSError, RuntimeError):  # a scheduler that is gone cannot be told
            self._client.close(timeout=CONNECT_S)

    def _started(self, tasks: dict[str, tuple[Any, ...]]) -> "list[Future]":
        """Hand tasks to the scheduler, by key; returns their futures in that order."""
        if self._client.status != "running":
            raise NotReady(f"{self._address} is not connected any more")
        with self._explained():
            futures: list[Future] = self._client.get(tasks, list(tasks), sync=False)
        return futures

    def _gathered(self, futures: "list[Future]") -> list[Any]:
        """Wait for answers and fetch them, looking now and then whether anybody works on them."""
        from distributed import wait

        while True:
            with self._explained():
                try:
                    with self._client.as_current():
                        wait(futures, timeout=self._left(LOOK_S))
                    answers: list[Any] = self._client.sync(self._client.gather, futures, callback_timeout=self._left())
                except TimeoutError:
                    if not self._workers(self._alone_s):
                        raise NotReady(f"{self._address} has no workers left") from None
                else:
                    return answers

    def _workers(self, wait_s: float) -> list[str]:
        """Addresses of the workers the scheduler knows; waits so long for the first."""
        until = time.perf_counter() + wait_s
        while True:
            with self._explained():
                found = self._client.sync(self._client.nthreads, callback_timeout=self._left(CONNECT_S))
            if found or time.perf_counter() > until:
                return sorted(found)
            time.sleep(self._left(0.1))

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the library raises into `NotReady`; what our own tasks raise stays as it is."""
        from distributed.scheduler import KilledWorker, NoWorkerError

        try:
            yield
        except (OSError, CancelledError, KilledWorker, NoWorkerError) as error:
            raise NotReady(f"{self._address} gave up: {error or type(error).__name__}") from error

    def _left(self, most_s: float = float("inf")) -> float:
        """Seconds that may still be waited.

        Raises:
            NotReady: none.
        """
        left_s = min(most_s, self._deadline - time.perf_counter())
        if left_s <= 0:
            raise NotReady(f"{self._address} has not answered in time")
        return left_s
