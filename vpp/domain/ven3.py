"""What our OpenADR 3 VEN and a utility's VTN say to each other, free of version and wire format.

Spoken between `market/openadr3` (which turns it into JSON of 3.1.0 or 3.0.1) and `vpp/gateway/ven3`
(which keeps it in SQL). The two seams between them stand at the end, and are imported from `vpp.ports`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

from vpp.domain.time import Interval

AGGREGATED = "AGGREGATED_REPORT"
"""The resource's name in a report whose values are of the whole fleet together."""


class ReportIntervals(StrEnum):
    """Which stretches of time a report's values may stand for (3.1; 3.0.1 knows INTERVALS only)."""

    INTERVALS = "INTERVALS"
    SUB_INTERVALS = "SUB_INTERVALS"
    OPEN_INTERVALS = "OPEN_INTERVALS"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportWanted:
    """One reportDescriptor of an event, with the defaults the definition gives it.

    Attributes:
        payload_type: what is asked for: `DEMAND`, `STORAGE_CHARGE_LEVEL`, …
        start_interval: before which of the event's intervals the first report is made, from 0; -1 at the
            end of the last one.
        interval_count: how many intervals a report covers; -1 all there are.
        historical: it covers intervals before that point, else those after it.
        frequency: intervals from one report to the next; -1 as many as one covers; 0 leaves it to us.
        repeat: how many reports; -1 until the event ends.
        aggregate: one value for the resources together; else one for each.
        targets: names of the resources it is about; none are those of the event.
    """

    payload_type: str
    reading_type: str | None = None
    units: str | None = None
    aggregate: bool = False
    start_interval: int = -1
    interval_count: int = -1
    historical: bool = True
    frequency: int = -1
    repeat: int = 1
    intervals: ReportIntervals = ReportIntervals.INTERVALS
    targets: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramSeen:
    """A programme as the VTN has it; `payload_descriptors` are the defaults for its events."""

    program_id: str
    name: str
    payload_descriptors: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class VenSeen:
    """Our own VEN object, with the targets the VTN has given it and its resources, and these by name."""

    ven_id: str
    name: str
    targets: tuple[str, ...] = ()
    resources: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class EventSeen:
    """An event as one GET told it.

    Attributes:
        body: the JSON object, its instants made RFC 3339 in UTC where they were readable.
        modified_at: its modificationDateTime, None where the VTN gives none we can read.
        digest: of what the event says, without what the VTN stamps on it.
    """

    event_id: str
    program_id: str
    body: Mapping[str, Any]
    digest: str
    modified_at: datetime | None = None
    reports: tuple[ReportWanted, ...] = ()


@dataclass(frozen=True, slots=True)
class EventList:
    """Events of a full read; not `complete` where the VTN's paging left us in doubt whether these are all."""

    events: tuple[EventSeen, ...]
    complete: bool


@dataclass(frozen=True, slots=True)
class ReportValue:
    """One value of one type: a number in `units`, or a word of OpenADR's (an operating state)."""

    payload_type: str
    value: float | str
    units: str | None = None
    reading_type: str | None = None


@dataclass(frozen=True, slots=True)
class ReportedInterval:
    """What is reported of one stretch of time."""

    interval: Interval
    values: tuple[ReportValue, ...]


@dataclass(frozen=True, slots=True)
class ReportedResource:
    """What is reported of one resource, or of all together (`AGGREGATED`)."""

    name: str
    intervals: tuple[ReportedInterval, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOut:
    """One report we send; `name` is unique for its event, so that a lost answer leads to no second one."""

    event_id: str
    program_id: str
    name: str
    client_name: str
    resources: tuple[ReportedResource, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Callback:
    """Where the VTN shall tell us that something changed, and the word it shows that it is the VTN."""

    url: str
    bearer_token: str
    client_name: str
    program_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class MqttOffer:
    """The VTN's MQTT broker as `GET /notifiers` describes it."""

    uris: tuple[str, ...]
    method: str
    username: str | None = None
    ca_pem: str | None = None
    cert_pem: str | None = None
    key_pem: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class VenWanted:
    """How we want to be known to a VTN.

    Attributes:
        attributes: of the VEN, by type (`LOCATION`, `MAX_POWER_EXPORT`, …).
        resources: names of the resources to have.
        may_create: whether to make what is missing; else only to look.
    """

    name: str
    attributes: Mapping[str, tuple[float | str, ...]] = field(default_factory=dict)
    resources: tuple[str, ...] = ()
    may_create: bool = True


class Ven3Client(Protocol):
    """A VEN's side of OpenADR 3 to one VTN, of whichever version it speaks. No state is kept but tokens.

    Every call has a deadline. Raises `PeerUnreachable` where nothing usable came back (`retry_after_s`
    set where the VTN asks for patience) and `PeerRefused` with the HTTP status.
    """

    name: str

    async def version(self) -> str:
        """`3.1.0` or `3.0.1`: as configured, else found out once."""
        ...

    async def register(self, wanted: VenWanted) -> VenSeen | None:
        """Find, create or bring up to date our VEN object and its resources; None where there is and may be none."""
        ...

    async def programs(self) -> tuple[ProgramSeen, ...]:
        """Every programme we may see."""
        ...

    async def events(self, targets: Sequence[str]) -> EventList:
        """Every event we may see that is not over, those for all and those for any of these targets."""
        ...

    async def event(self, event_id: str) -> EventSeen | None:
        """One event, None where the VTN has none by this id (404)."""
        ...

    async def send_report(self, report: ReportOut) -> str:
        """Create a report and return its id."""
        ...

    async def find_report(self, event_id: str, name: str) -> str | None:
        """The id of a report of ours that the VTN already has, by its name."""
        ...

    async def subscribe(self, callback: Callback) -> tuple[str, ...]:
        """Replace our subscriptions by one for this callback; returns their ids."""
        ...

    async def has_subscriptions(self, ids: Sequence[str]) -> bool:
        """Whether the VTN still has all of them."""
        ...

    async def unsubscribe(self, ids: Sequence[str]) -> None:
        """End subscriptions; those the VTN no longer has are ended."""
        ...

    async def mqtt(self) -> MqttOffer | None:
        """The VTN's MQTT broker, None where it has none."""
        ...

    async def topics(self, ven_id: str | None, program_ids: Sequence[str]) -> tuple[str, ...]:
        """The MQTT topics that tell of our programmes and events."""
        ...

    async def access_token(self) -> str | None:
        """A valid access token, for a broker that takes it as a password."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Ven3Ear(Protocol):
    """Hears, over a way of the VTN's own choosing, that something has changed there."""

    async def run(
        self, ven_id: Callable[[], str | None], programs: Callable[[], Sequence[str]], ring: Callable[[], None]
    ) -> None:
        """Listen until cancelled and `ring` whenever there may be something new; no failure of the way ends it."""
        ...
