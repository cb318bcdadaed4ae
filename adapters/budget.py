"""A count of calls that a vendor limits by the day; kept in memory by default, elsewhere by injection."""

from datetime import date
from typing import Protocol


class CallBudget(Protocol):
    """Calls made for a key on a day. Shared by all workers where it is kept in Valkey or SQL."""

    async def take(self, key: str, day: date, count: int, limit: int | None) -> bool:
        """Add `count` in one step unless that would exceed `limit`; None counts without a limit.

        Returns whether they were added.
        """
        ...


class InMemoryCallBudget:
    """For one process; a restart forgets it, so the vendor's own answer is then the limit."""

    def __init__(self) -> None:
        self._day: date | None = None
        self._taken: dict[str, int] = {}

    async def take(self, key: str, day: date, count: int, limit: int | None) -> bool:
        if day != self._day:
            self._day, self._taken = day, {}
        taken = self._taken.get(key, 0) + count
        if limit is not None and taken > limit:
            return False
        self._taken[key] = taken
        return True
