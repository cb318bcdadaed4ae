"""What every part of the VTN's desk works with. Made by `desk`."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from vpp.gateway.vtn.changes import Answered, Change, Sent, Told
from vpp.gateway.vtn.delivery import Delivery
from vpp.gateway.vtn.keeper import Keeper
from vpp.gateway.vtn.view import View
from vpp.gateway.vtn.writer import GroupWriter
from vpp.ports import Clock
from vpp.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One VTN: whose it is, what it keeps, and how it writes.

    Attributes:
        poll: how often VENs are told to poll.
        must_show_certificate: a VEN without a known certificate cannot register.
        due: set when a VEN has asked for a report, which may be due before any other.
    """

    store: Store
    clock: Clock
    tenant_id: str
    vtn_id: str
    poll: timedelta
    must_show_certificate: bool
    view: View
    keeper: Keeper
    writer: GroupWriter
    due: asyncio.Event = field(default_factory=asyncio.Event)

    async def write(self, changes: Sequence[Change]) -> None:
        """Commit changes together with others that come at the same time."""
        if changes:
            await self.writer.write(changes)


def apply_to(view: View, change: Change) -> None:
    """Bring memory to what was just committed."""
    ven = view.vens.get(change.peer_id)
    if ven is None:
        return
    ven.quiet_in = -1
    match change:
        case Told():
            delivery = ven.deliveries.get(change.event_id)
            if delivery is None:
                delivery = ven.deliveries[change.event_id] = Delivery()
            delivery.tell(change.modification_number, change.status)
        case Answered():
            delivery = ven.deliveries.setdefault(change.event_id, Delivery())
            delivery.settle(change.modification_number, change.settled_status)
        case Sent():
            for queued in ven.queue:
                if queued.id == change.id:
                    queued.sent_count, queued.sent_at = queued.sent_count + 1, change.at
