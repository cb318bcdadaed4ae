"""A clock that stands still until the test moves it."""

import asyncio
from datetime import UTC, datetime, timedelta

from vpp.domain.time import as_utc

NOON = datetime(2026, 8, 19, 19, 0, tzinfo=UTC)
"""Noon in California on a Wednesday in summer: the instant tests start at where it does not matter."""


class FixedClock:
    """`vpp.ports.Clock` for tests.

    `sleep_until` returns once the test has moved the clock to that instant. With `sleeps=False` nobody
    moves it: a sleeper moves the clock itself and goes on, as is handy for waits between attempts.
    """

    def __init__(self, at: datetime = NOON, *, sleeps: bool = True) -> None:
        self._now = as_utc(at)
        self._sleeps = sleeps
        self._sleepers: list[tuple[datetime, asyncio.Future[None]]] = []

    def now(self) -> datetime:
        return self._now

    @property
    def sleepers(self) -> int:
        """How many wait for the clock to move."""
        return len(self._sleepers)

    def advance(self, by: timedelta) -> datetime:
        """Move forward and wake whoever was due; returns the new instant."""
        return self.move_to(self._now + by)

    def move_to(self, at: datetime) -> datetime:
        """Move to an instant that has not passed; returns it."""
        if as_utc(at) < self._now:
            raise ValueError(f"{at.isoformat()} has passed: the clock shows {self._now.isoformat()}")
        self._now = as_utc(at)
        due = [future for until, future in self._sleepers if until <= self._now]
        self._sleepers = [(until, future) for until, future in self._sleepers if until > self._now]
        for future in due:
            if not future.done():
                future.set_result(None)
        return self._now

    async def sleep_until(self, at: datetime) -> None:
        if as_utc(at) <= self._now:
            await asyncio.sleep(0)
        elif self._sleeps:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._sleepers.append((as_utc(at), future))
            await future
        else:
            self.move_to(at)
            await asyncio.sleep(0)

    def wall_time(self, at: datetime) -> datetime | None:
        return at
