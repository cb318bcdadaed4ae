"""Where shards are worked on.  Called by `coordinator.py`, which knows only `Executor`."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from vpp.allocation.sequential.shards import Shard


class Executor(Protocol):
    """Holds shards and runs one of their methods on all of them at once."""

    def hold(self, shards: Sequence[Shard]) -> None:
        """Take the shards over."""

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Run a method of every shard with these arguments; returns the answers in the shards' order."""

    def close(self) -> None:
        """Give back threads, memory and connections."""


class Threads:
    """Threads of this process: the kernels release the interpreter lock."""

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, "allocation") if workers > 1 else None
        self._shards: Sequence[Shard] = ()

    def hold(self, shards: Sequence[Shard]) -> None:
        """Take the shards over."""
        self._shards = shards

    def call(self, method: str, *arguments: Any) -> list[Any]:
        """Run a method of every shard; a single one runs in the caller's thread."""
        if self._pool is None or len(self._shards) == 1:
            return [getattr(shard, method)(*arguments) for shard in self._shards]
        return list(self._pool.map(lambda shard: getattr(shard, method)(*arguments), self._shards))

    def close(self) -> None:
        """End the threads."""
        if self._pool is not None:
            self._pool.shutdown()
