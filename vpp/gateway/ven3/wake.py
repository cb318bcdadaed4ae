"""Room gateway, OpenADR 3 VEN: wakes the loops of VTNs that have something new. Run beside them by bootstrap."""

import asyncio
from contextlib import aclosing

from sqlalchemy import text

from vpp.store.engine import Store
from vpp.store.listen import Heard, listen

CALLBACK_PATH = "/openadr3/callback"
WAKE_CHANNEL = "vpp_openadr3_ven"
"""The PostgreSQL channel on which the source of the VTN is told that has something new."""


def source_of(peer_name: str) -> str:
    """The source of a VTN's events, by the peer's name."""
    return f"openadr3:{peer_name}"


async def wake(store: Store, source: str) -> None:
    """Tell the loop of a VTN, in whatever process it runs, to ask now."""
    async with store.begin() as connection:
        await connection.execute(
            text("select pg_notify(:channel, :source)"), {"channel": WAKE_CHANNEL, "source": source}
        )


class Alarm:
    """One event for each source. Set by a webhook (through `NOTIFY`) or an MQTT message, cleared by the loop."""

    def __init__(self) -> None:
        self._events: dict[str, asyncio.Event] = {}

    def of(self, source: str) -> asyncio.Event:
        """The event of a source, the same for everybody."""
        return self._events.setdefault(source, asyncio.Event())

    def ring(self, source: str) -> None:
        """Wake the loop of a source; a source nobody waits for is ignored."""
        if source in self._events:
            self._events[source].set()

    async def listen(self, store: Store) -> None:
        """Ring for whatever is told until cancelled. After an outage everybody is woken once."""
        async with aclosing(listen(store.database_url, WAKE_CHANNEL)) as notices:
            async for notice in notices:
                if notice.heard is Heard.NOTICE:
                    self.ring(notice.payload)
                elif notice.heard is Heard.CONNECTED:
                    for source in list(self._events):
                        self.ring(source)
