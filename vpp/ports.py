"""The seams: what the rooms need of the world, to be replaced in tests and per vendor.

Called by every room; implemented in `adapters/`, `market/`, `vpp/simulation` and `vpp/bootstrap`.
"""

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, Protocol

from vpp.domain.device import Capabilities, Command, ControlKind, Reading, Receipt
from vpp.domain.grid_event import GridEvent, Unsaid
from vpp.domain.openadr2 import Openadr2Caller, Openadr2Message, Openadr2Party
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery, StoredObject
from vpp.domain.peer import Caller, Direction, TokenGrant
from vpp.domain.peer import Protocol as PeerProtocol
from vpp.domain.settlement import EventDelivery, MonthlyPay, ProgramTerms
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.ven import Heard
from vpp.domain.ven3 import Ven3Client as Ven3Client
from vpp.domain.ven3 import Ven3Ear as Ven3Ear


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

    @property
    def signs(self) -> bool:
        """Whether what we send is signed."""
        ...

    async def ask(self, message: Openadr2Message) -> Heard:
        """Send a message and return the VTN's answer."""
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
        self,
        body: Mapping[str, Any],
        *,
        modification_number: int,
        descriptors: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        """Return the event an OpenADR 3 body states, and what of the body it does not say.

        `descriptors` are its programme's payloadDescriptors, for units the event leaves out.

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


class ObjectShelf(Protocol):
    """The objects of our OpenADR 3 VTN. Each call is one transaction; privacy is the caller's business."""

    async def select(self, query: ObjectQuery) -> list[StoredObject]:
        """Return what is asked for, in order of creation, after `skip` and up to `limit` of them."""
        ...

    async def find(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject | None:
        """Return one object, or None where there is none of that kind and id."""
        ...

    async def create(self, draft: ObjectDraft, *, resources: Sequence[ObjectDraft] = ()) -> StoredObject:
        """Keep a new object, and with a ven its resources, whose `venID` is then filled in.

        Raises:
            Conflict: its name is taken, or the program or event it refers to does not exist.
            NotFound: the ven of a resource does not exist.
            InvalidRequest: a field cannot be understood.
        """
        ...

    async def replace(self, object_id: str, draft: ObjectDraft) -> StoredObject:
        """Put a draft in the place of an object, which keeps its id and the time of its creation.

        Raises:
            NotFound: no such object.
            Conflict, InvalidRequest: as for `create`.
        """
        ...

    async def delete(self, kind: ObjectKind, object_id: str, *, tenant_id: str) -> StoredObject:
        """Remove an object and what cannot be without it; return it.

        A program takes its events and subscriptions with it, an event its reports, a ven its resources.

        Raises:
            NotFound: no such object.
        """
        ...

    async def granted_targets(self, client_id: str, *, tenant_id: str) -> frozenset[str]:
        """Return the targets a VEN may see: those on its vens, its resources, and its configuration as a peer."""
        ...

    async def client_of_ven_name(self, ven_name: str, *, tenant_id: str) -> str | None:
        """Return the client configured for a venName, or None: 3.0.1 names vens and never their clients."""
        ...


class Notifiers(Protocol):
    """How clients of our OpenADR 3 VTN can be notified, beside webhooks, which they always can."""

    async def mqtt_binding(self, caller: Caller, *, access_token: str) -> dict[str, Any] | None:
        """Return `MQTT` of `/notifiers` for a caller (URIS, serialization, authentication), or None without MQTT.

        `access_token` is the one the caller just showed: from now on it is its password at the broker. None also
        where the broker cannot be reached: the caller should poll, or use a webhook.
        """
        ...

    async def topics(self, path: str, caller: Caller) -> dict[str, str] | None:
        """Return topic names by operation (CREATE, UPDATE, DELETE, ALL), or None without MQTT.

        `path` is what follows `/notifiers/mqtt/topics/` with ids filled in: `programs`, `programs/p1/events`,
        `vens/v1/resources`, …; that the caller may know of these objects has been checked.
        """
        ...


class Openadr2Desk(Protocol):
    """What our OpenADR 2.0b VTN says; the wire around it does HTTP, TLS, XML, signatures and limits.

    A message is answered by the message the profile names; what is wrong with it is told as a response
    code in there. Everything the answer promises is committed before it is returned.
    """

    vtn_id: str

    async def answer(self, message: Openadr2Message, caller: Openadr2Caller) -> Openadr2Message:
        """Return the answer to one message.

        Raises:
            CallerForbidden: the certificate shown is not that of the VEN it speaks for.
        """
        ...

    def idle(self, ven_id: str, caller: Openadr2Caller) -> bool:
        """Whether this VEN's poll can be answered with nothing at all, from memory alone."""
        ...

    def party(self, ven_id: str | None) -> Openadr2Party | None:
        """Return what the wire must know of a VEN, None where it is none of ours."""
        ...


class Openadr2Push(Protocol):
    """How a message reaches a VEN that does not poll."""

    async def push(
        self, url: str, message: Openadr2Message, *, sign: bool, fingerprint: str | None = None
    ) -> Openadr2Message:
        """Post one message to a VEN and return its answer.

        Args:
            sign: for a VEN that signs; what it answers must be signed too.
            fingerprint: of the certificate it signs with, where that is known.

        Raises:
            PeerUnreachable: no usable answer came, or none of that VEN's.
            PeerRefused: the VEN answered with an error of HTTP.
        """
        ...

    async def close(self) -> None:
        """Give back connections."""
        ...
