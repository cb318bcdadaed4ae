"""Wakes the loops of this folder when PostgreSQL says that there is something to do.

Only a wake-up call: what there is to do is in tables, and every loop looks there by itself now and then, so
nothing depends on one being heard.
"""

import asyncio
from contextlib import suppress
from datetime import timedelta


class Wake:
    """An event that whoever waited for it has used up."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        """Wake whoever waits, or who waits next."""
        self._event.set()

    async def wait(self, at_most: timedelta) -> None:
        """Return when woken, or after `at_most` of real time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(at_most.total_seconds()):
                await self._event.wait()
        self._event.clear()
