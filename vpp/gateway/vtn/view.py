"""What the VTN keeps in memory of its VENs and events, so that a poll with nothing to tell costs no SQL.

Only `keeper` changes it, and the desk after a commit; the database is the truth. Everything here can be
thrown away and read again.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from vpp.domain.grid_event import EventStatus, GridEvent, Target, TargetKind
from vpp.domain.openadr2 import (
    CancelRegistration,
    DistributedEvent,
    Openadr2Message,
    Openadr2Party,
    RequestReregistration,
)
from vpp.domain.peer import Peer
from vpp.gateway.vtn.current import Currents, currents_at, with_currents
from vpp.gateway.vtn.delivery import Delivery, next_change_at, to_tell
from vpp.gateway.vtn.matching import ANYBODY, Addressee, Key, addressee, keys_of

log = structlog.get_logger(__name__)

FOR_EVER = datetime.max.replace(tzinfo=UTC)
LONG_AGO = datetime.min.replace(tzinfo=UTC)
MAX_SENDS = 10
"""A queued message the VEN has been sent so often without an answer is given up."""
_STATUS_ORDER = {
    EventStatus.ACTIVE: 0,
    EventStatus.NEAR: 1,
    EventStatus.FAR: 1,
    EventStatus.CANCELLED: 2,
    EventStatus.COMPLETED: 3,
}
_NO_PRIORITY = 2**31


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrationRow:
    """A registration as it is kept."""

    ven_id: str
    registration_id: str
    http_pull: bool
    transport_address: str | None
    report_only: bool
    xml_signature: bool
    cancelled: bool


@dataclass(slots=True)
class Queued:
    """A message that waits for its VEN, or for its answer."""

    id: int
    request_id: str
    message: Openadr2Message
    sent_count: int
    sent_at: datetime | None = None

    @property
    def is_first(self) -> bool:
        """Whether it goes before events: without a registration there are none."""
        return isinstance(self.message, CancelRegistration | RequestReregistration)


@dataclass(slots=True)
class Ven:
    """One peer that may be a VEN of ours, and what is known of it."""

    peer: Peer
    registration: RegistrationRow | None = None
    deliveries: dict[str, Delivery] = field(default_factory=dict)
    queue: list[Queued] = field(default_factory=list)
    addressee: Addressee | None = None
    party: Openadr2Party | None = None
    relevant: list[tuple[GridEvent, tuple[Target, ...] | None]] = field(default_factory=list)
    relevant_in: int = -1
    quiet_in: int = -1
    quiet_until: datetime = FOR_EVER
    told_events_last: bool = False
    seen_at: datetime | None = None
    undecided_until: datetime = LONG_AGO

    @property
    def ven_id(self) -> str | None:
        """Its id, if it was ever registered."""
        return None if self.registration is None else self.registration.ven_id

    @property
    def is_registered(self) -> bool:
        return self.registration is not None and not self.registration.cancelled

    def set_up(self) -> None:
        """Derive what follows from peer and registration, and look at everything anew."""
        ven_id = self.ven_id
        self.addressee = None if ven_id is None else addressee(self.peer, ven_id)
        signs = self.registration is not None and self.registration.xml_signature
        self.party = Openadr2Party(self.peer.id, signs or self.peer.config.get("sign") is True, self.peer.fingerprint)
        self.relevant_in = self.quiet_in = -1

    def next_queued(self) -> Queued | None:
        """The message to send next: what concerns the registration, then the least sent, then the oldest."""
        waiting = [each for each in self.queue if each.sent_count < MAX_SENDS]
        return min(waiting, key=lambda each: (not each.is_first, each.sent_count, each.id), default=None)


@dataclass(frozen=True, slots=True)
class Listing:
    """A VEN's whole list of events at an instant, whether it must be told, and until when that holds."""

    events: tuple[DistributedEvent, ...]
    is_due: bool
    until: datetime


class View:
    """All VENs and events of one tenant.

    Args:
        can_say: whether 2.0b has words for an event; one it has none for is told to nobody.
    """

    def __init__(self, can_say: Callable[[GridEvent], bool] = lambda _: True) -> None:
        self._can_say = can_say
        self._mute: set[str] = set()
        self.vens: dict[str, Ven] = {}
        self.events: dict[str, GridEvent] = {}
        self.generation = 0
        self._by_ven_id: dict[str, Ven] = {}
        self._by_fingerprint: dict[str, Ven] = {}
        self._by_party_id: dict[str, Ven] = {}
        self._index: dict[Key, set[str]] = {}
        self._told: dict[str, tuple[GridEvent, Currents, GridEvent]] = {}

    def set_vens(self, vens: Iterable[Ven]) -> None:
        """Replace all VENs."""
        for peer_id in list(self.vens):
            self.set_ven(peer_id, None)
        for ven in vens:
            self.set_ven(ven.peer.id, ven)

    def set_ven(self, peer_id: str, ven: Ven | None) -> None:
        """Replace, add or (None) drop one VEN."""
        old = self.vens.pop(peer_id, None)
        if old is not None:
            for index, key in self._entries(old):
                if key is not None and index.get(key) is old:
                    del index[key]
        if ven is not None:
            self.vens[peer_id] = ven
            for index, key in self._entries(ven):
                if key is not None:
                    index[key] = ven
            ven.set_up()

    def _entries(self, ven: Ven) -> tuple[tuple[dict[str, Ven], str | None], ...]:
        return (
            (self._by_ven_id, ven.ven_id),
            (self._by_fingerprint, ven.peer.fingerprint),
            (self._by_party_id, ven.peer.party_id),
        )

    def set_events(self, events: Iterable[GridEvent]) -> None:
        """Replace all events."""
        new = {event.event_id: event for event in events}
        if new == self.events:
            return
        self.events, self._index, self._mute = new, {}, set()
        self._told = {event_id: told for event_id, told in self._told.items() if event_id in new}
        for event in new.values():
            self._enter(event)
        self.generation += 1

    def set_event(self, event: GridEvent) -> None:
        """Replace or add one event."""
        old = self.events.get(event.event_id)
        if old == event:
            return
        if old is not None:
            for key in keys_of(old):
                self._index.get(key, set()).discard(old.event_id)
        self.events[event.event_id] = event
        self._enter(event)
        self.generation += 1

    def by_ven_id(self, ven_id: str | None) -> Ven | None:
        """Return the VEN with this id."""
        return None if ven_id is None else self._by_ven_id.get(ven_id)

    def by_fingerprint(self, fingerprint: str | None) -> Ven | None:
        """Return the VEN whose certificate this is."""
        return None if fingerprint is None else self._by_fingerprint.get(fingerprint)

    def by_party_id(self, party_id: str) -> Ven | None:
        """Return the VEN that will have this id once it registers."""
        return self._by_party_id.get(party_id)

    def listing(self, ven: Ven, now: datetime) -> Listing:
        """Return what the VEN is told if it is told now, in the order of `_rank`."""
        listed: list[DistributedEvent] = []
        is_due, until = False, FOR_EVER
        for event, targets in self._relevant(ven):
            status = EventStatus.CANCELLED if targets is None else event.status_at(now)
            delivery = ven.deliveries.get(event.event_id)
            belongs, due = to_tell(event, status, delivery)
            if due and now < ven.undecided_until and delivery is not None and delivery.knows(event, status):
                due, until = False, min(until, ven.undecided_until)
            if belongs:
                told = targets or (Target(TargetKind.VEN, ven.ven_id or ""),)  # withdrawn: whose it is now is not its
                listed.append(DistributedEvent(event=self._as_told(event, status, now), status=status, targets=told))
                is_due = is_due or due
            change_at = next_change_at(event, now)
            if change_at is not None and change_at < until:
                until = change_at
        if len(listed) > 1:
            listed.sort(key=_rank)
        return Listing(tuple(listed), is_due, until)

    def _as_told(self, event: GridEvent, status: EventStatus, now: datetime) -> GridEvent:
        """The event with its values in force; the same object for all VENs, whose XML is then made once."""
        currents = currents_at(event, status, now)
        if all(current == series.current for current, series in zip(currents, event.series, strict=True)):
            return event
        known = self._told.get(event.event_id)
        if known is None or known[0] is not event or known[1] != currents:
            known = self._told[event.event_id] = (event, currents, with_currents(event, currents))
        return known[2]

    def concerns(self, ven: Ven, event_id: str) -> bool:
        """Whether the event is, or was told as, one of this VEN's."""
        return event_id in ven.deliveries or any(event.event_id == event_id for event, _ in self._relevant(ven))

    def _relevant(self, ven: Ven) -> Sequence[tuple[GridEvent, tuple[Target, ...] | None]]:
        """The VEN's events with its own targets; None as targets where the event was withdrawn from it."""
        if ven.relevant_in == self.generation:
            return ven.relevant
        who, found = ven.addressee, []
        if who is not None and ven.registration is not None and not ven.registration.report_only:
            ids = set(self._index.get(ANYBODY, ()))
            for key in who.keys:
                ids |= self._index.get(key, set())
            ids |= (ven.deliveries.keys() & self.events.keys()) - self._mute
            for event_id in ids:
                event = self.events[event_id]
                targets = who.own(event)
                if targets is not None or event_id in ven.deliveries:
                    found.append((event, targets))
        ven.relevant, ven.relevant_in = found, self.generation
        return found

    def _enter(self, event: GridEvent) -> None:
        if not self._can_say(event):
            log.warning("event cannot be said in OpenADR 2.0b and is told to no VEN of it", event_id=event.event_id)
            self._mute.add(event.event_id)
            return
        self._mute.discard(event.event_id)
        for key in keys_of(event):
            self._index.setdefault(key, set()).add(event.event_id)


def _rank(listed: DistributedEvent) -> tuple[int, int, datetime, int, datetime, str]:
    """Those active by priority, then start; those to come by start, then priority, however near they are."""
    event, order = listed.event, _STATUS_ORDER[listed.status]
    priority = event.priority or _NO_PRIORITY
    return (order, 0 if order else priority, event.start_at, priority, event.created_at, event.event_id)
