"""Real time. The simulation brings its own clock; tests pass a fixed one."""

import asyncio
from datetime import UTC, datetime


class SystemClock:
    """The machine's clock."""

    def now(self) -> datetime:
        return datetime.now(UTC)

    async def sleep_until(self, at: datetime) -> None:
        await asyncio.sleep(max(0.0, (at - self.now()).total_seconds()))

    def wall_time(self, at: datetime) -> datetime | None:
        return at
