"""The seams: what the rooms need of the world, to be replaced in tests and per vendor.

Called by every room; implemented in `adapters/`, `market/`, `vpp/simulation` and `vpp/bootstrap`.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from vpp.domain.device import Capabilities, Command, ControlKind, Reading, Receipt
from vpp.domain.grid_event import GridEvent, Unsaid
from vpp.domain.peer import Caller, Direction, TokenGrant
from vpp.domain.peer import Protocol as PeerProtocol
from vpp.domain.settlement import EventDelivery, MonthlyPay, ProgramTerms
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.ven import (
    Distribution,
    EventAnswer,
    Registration,
    ReportedPower,
    ReportRequest,
    ReportsAsked,
    ReportsCancelled,
    VenMessage,
)


class Clock(Protocol):
    """The only source of the present."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        ...

    async def sleep_until(self, at: datetime) -> None:
        """Return at or soon after `at`; at once if it has passed."""
        ...

    def wall_time(self, at: datetime) -> datetime | None:
        """When the machine's own clock will show `at`.

        None where nobody can know (a clock that is stepped by hand): a job cannot then be put on a
        timer, and the reconciler wakes it instead.
        """
        ...


class DeviceAdapter(Protocol):
    """One vendor's way of reaching sites. Instances are shared by all sites of that vendor.

    Every call has a deadline of its own and raises only `DeviceError`s. `control` is how this
    vendor's devices can be steered; `describe` tells what one device can do.
    """

    name: str
    control: ControlKind

    async def open(self) -> None:
        """Prepare connections; called once in the process that will use it."""
        ...

    async def close(self) -> None:
        """Close connections. Does not release sites."""
        ...

    async def describe(self, site: Site) -> Capabilities:
        """Probe what this site's device can do."""
        ...

    async def read(self, site: Site) -> Reading:
        """Read battery and meter once."""
        ...

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        """Read the settings a command will change, JSON-able, to be stored before the first write."""
        ...

    async def apply(self, site: Site, command: Command) -> Receipt:
        """Carry out a command and read it back. Repeating one with the same id is harmless."""
        ...

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        """Put the settings back as `save_native` found them, and read that back.

        A receipt in READBACK_OK means the site is verified to be as it was found.
        """
        ...


class MarketProgram(Protocol):
    """A utility programme's or market's rules of product and pay.

    `measurement` names how delivery counts: "submeter" or a baseline method such as "caiso_10_in_10".
    """

    name: str
    title: str
    measurement: str

    def refuse_reason(self, window: Interval, time_zone: str, terms: ProgramTerms) -> str | None:
        """Why an event with this window is outside the programme's rules, or None."""
        ...

    def kw_of_level(self, level: float, terms: ProgramTerms) -> float:
        """Power owed for an OpenADR SIMPLE level [kW]."""
        ...

    def monthly_pay(self, month: date, events: Sequence[EventDelivery], terms: ProgramTerms) -> MonthlyPay:
        """What the utility owes for a month's events so far, with the lines that lead to it."""
        ...


class SignalSource(Protocol):
    """Where events come from: a VEN that polls a utility's VTN."""

    name: str

    async def run(self) -> None:
        """Receive signals until cancelled."""
        ...


class VenClient(Protocol):
    """A VEN's side of the wire to one VTN: each call is one exchange with a deadline, no state kept.

    Raises `PeerUnreachable` where nothing usable came back, `PeerRefused` with the VTN's code, and
    `RegistrationLost` where the VTN answers that it does not know us.
    """

    name: str
    report_specifier_id: str
    report_point_id: str

    async def register(self, previous: Registration | None) -> Registration:
        """Register, or register again with what we were known by."""
        ...

    async def offer_reports(self, ven_id: str, *, at: datetime) -> ReportsAsked:
        """Say which telemetry we can report; the answer may ask for it at once."""
        ...

    async def request_events(self, ven_id: str) -> Distribution | None:
        """Ask for every event; None where the VTN answers without a list."""
        ...

    async def poll(self, ven_id: str) -> VenMessage | None:
        """Ask for the next message; None where there is none."""
        ...

    async def answer_event(self, ven_id: str, answer: EventAnswer) -> None:
        """Send optIn or optOut."""
        ...

    async def accept_reports(self, ven_id: str, asked: ReportsAsked, pending: Sequence[str]) -> None:
        """Confirm the reports that will be sent, refused ones named in the description."""
        ...

    async def send_report(
        self, ven_id: str, request: ReportRequest, powers: Sequence[ReportedPower], *, at: datetime
    ) -> ReportsCancelled | None:
        """Send values; the answer may cancel reports."""
        ...

    async def confirm_reports_cancelled(self, ven_id: str, cancelled: ReportsCancelled, pending: Sequence[str]) -> None:
        """Confirm that reports were cancelled, and name those still running."""
        ...

    async def decline_offer(self, ven_id: str, request_id: str) -> None:
        """Answer reports offered by the VTN: we ask for none."""
        ...

    async def confirm_registration_cancelled(self, registration: Registration, request_id: str) -> None:
        """Confirm that the registration has ended."""
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...


class Credentials(Protocol):
    """Secrets by name, so that no address or table holds one."""

    def get(self, name: str) -> str | None:
        """The secret, or None where it is not configured."""
        ...


class MessageLog(Protocol):
    """Where every message to and from a peer is written down, redacted, without waiting for it."""

    def note(
        self,
        *,
        protocol: PeerProtocol,
        direction: Direction,
        kind: str,
        status: str,
        peer: str | None = None,
        summary: str = "",
        body: bytes | str = b"",
    ) -> None:
        """Note one message: never blocks, never raises; what the queue cannot hold is counted and dropped.

        `peer` is a peer's id, or its venID or client_id where that is all that is known; `kind` the
        message's name (`oadrPoll`, `GET /events`); `status` its response code as text.
        """
        ...


class Authority(Protocol):
    """Who may call our OpenADR 3 VTN: our own tokens, and those of an external OAuth server."""

    token_url: str
    """Where a client gets a token, as `/auth/server` tells it."""

    async def grant(self, client_id: str, client_secret: str, scope: str | None) -> TokenGrant | None:
        """Return a token for a client that shows its secret, or None where it is not one of ours."""
        ...

    async def caller(self, access_token: str) -> Caller | None:
        """Return who holds a token, or None where it is unknown, expired or revoked."""
        ...


class EventTranslator(Protocol):
    """One event in another protocol's words. What cannot be said comes back beside it, never silently lost."""

    def to_openadr3(self, event: GridEvent, *, program_id: str) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
        """Return the body of an OpenADR 3.1 event, and what of the event it does not say."""
        ...

    def from_openadr3(
        self, body: Mapping[str, Any], *, modification_number: int
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        """Return the event an OpenADR 3 body states, and what of the body it does not say.

        Raises:
            InvalidRequest: the body is no event.
        """
        ...

    def unsaid_in_openadr2(self, event: GridEvent) -> tuple[Unsaid, ...]:
        """Return what of the event OpenADR 2.0b has no words for."""
        ...


class CallbackCheck(Protocol):
    """Whether a subscriber may be called back at an address; asked before a subscription is kept."""

    async def check(self, url: str, *, bearer_token: str | None = None) -> None:
        """Return if the address is allowed and answers our challenge, within a deadline.

        Raises:
            InvalidRequest: names `callbackUrl` and what would be right.
        """
        ...
