"""A memory with a bound: what was used longest ago goes first. Called by `authority` and `peer_cache`."""

from collections import OrderedDict
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Bounded(Generic[K, V]):
    """At most `limit` values by key."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._held: OrderedDict[K, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: K) -> V | None:
        """The value, which is now the last to go, or None."""
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, forgetting the oldest where there are too many."""
        self._held[key] = value
        self._held.move_to_end(key)
        while len(self._held) > self._limit:
            self._held.popitem(last=False)

    def pop(self, key: K) -> V | None:
        """Forget a value and return it."""
        return self._held.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._held.clear()
