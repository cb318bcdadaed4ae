"""Room gateway: who we are to one VTN, and each exchange with it. Used by `ven`, `reporter` and `telling`."""

import hashlib
from datetime import datetime, timedelta
from uuid import uuid4

import structlog

from vpp.domain.errors import PeerRefused, PeerUnreachable, RegistrationLost
from vpp.domain.openadr2 import (
    INVALID_ID,
    NOT_ALLOWED,
    NOT_REGISTERED,
    CanceledRegistration,
    CancelRegistration,
    CreatedRegistration,
    CreateRegistration,
    Openadr2Message,
    Response,
)
from vpp.domain.time import floor_to
from vpp.domain.ven import Registration
from vpp.gateway import registration
from vpp.gateway.offset import ClockOffset
from vpp.gateway.terms import VtnTerms
from vpp.ports import Clock, VenClient
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

MIN_POLL_S, MAX_POLL_S = 1.0, 86_400.0


class Session:
    """Our standing with one VTN: registration, clock offset, poll interval."""

    def __init__(self, store: Store, clock: Clock, client: VenClient, terms: VtnTerms) -> None:
        self.name = client.name
        self.terms = terms
        self.registration: Registration | None = None
        self.must_register = False
        self._store, self._clock, self._client = store, clock, client
        self._offset = ClockOffset(client.name)
        # The fraction of the interval by which our polls come later; the same after a restart.
        digest = hashlib.sha256(f"{terms.ven_name}\n{client.name}".encode()).digest()
        self._phase = int.from_bytes(digest[:4], "big") / 2**32 if terms.spread else 0.0

    async def ask(self, message: Openadr2Message) -> Openadr2Message | None:
        """Send a message and return the answer, None for an empty one.

        Raises:
            PeerUnreachable, PeerRefused, RegistrationLost: as `vpp.ports.VenClient` says.
        """
        asked_at = self._clock.now()
        heard = await self._client.ask(message)
        if self._clock.wall_time(asked_at) is not None:  # a simulated clock is not to be held against a VTN's
            self._offset.heard(heard.told_at, asked_at=asked_at, heard_at=self._clock.now())
        return heard.message

    def vtn_time(self) -> datetime:
        """The present as the VTN's clock has it, for the time stamps of messages."""
        return self._clock.now() + self._offset.believed()

    def drops_early(self) -> timedelta:
        """How much earlier than by our clock the VTN may take an event for ended."""
        return max(timedelta(0), self._offset.believed())

    def interval_s(self) -> float:
        """How often we ask [s]: as the VTN wants it, else as agreed."""
        asked_s = self.registration.poll_s if self.registration else None
        return min(max(asked_s or self.terms.poll_s, MIN_POLL_S), MAX_POLL_S)

    def next_poll(self) -> datetime:
        """Polls fall on whole multiples of the interval, so that a restart does not shift them, plus our phase."""
        interval = timedelta(seconds=self.interval_s())
        phase = self._phase * interval
        return floor_to(self._clock.now() - phase, interval) + interval + phase

    async def load(self) -> Registration | None:
        """Return the registration, from where it is kept if it is not known yet."""
        if self.registration is None:
            async with self._store.begin() as connection:
                self.registration = await registration.load_registration(connection, self.name)
        return self.registration

    async def register(self) -> Registration:
        """Ask to be registered, or registered again by what we were known by. Nothing is kept yet.

        A VTN that does not know what we were known by is asked as by a stranger.

        Raises:
            PeerRefused: it does not register us, or is not the VTN we expected.
        """
        previous = self.registration
        try:
            granted = await self._ask_registration(previous)
        except (PeerRefused, RegistrationLost) as refused:
            code = refused.code if isinstance(refused, PeerRefused) else NOT_REGISTERED
            if previous is None or code not in (INVALID_ID, NOT_ALLOWED, NOT_REGISTERED):
                raise
            log.warning("the utility knows our registration no longer", source=self.name, error=str(refused))
            granted = await self._ask_registration(None)
        expected = self.terms.vtn_id
        if expected is not None and granted.vtn_id != expected:
            raise PeerRefused(f"{self.name} is {granted.vtn_id}, not {expected}", code=INVALID_ID)
        return granted

    async def _ask_registration(self, previous: Registration | None) -> Registration:
        message = CreateRegistration(
            request_id=str(uuid4()),
            xml_signature=self._client.signs,
            ven_name=self.terms.ven_name,
            ven_id=previous.ven_id if previous else self.terms.ven_id,
            registration_id=previous.registration_id if previous else None,
        )
        heard = await self.ask(message)
        if not isinstance(heard, CreatedRegistration):
            raise PeerUnreachable(f"{self.name} answered a registration with {type(heard).__name__}")
        if not heard.ven_id or not heard.registration_id:
            raise PeerRefused(f"{self.name} does not register us", code=NOT_REGISTERED)
        poll_s = heard.poll.total_seconds() if heard.poll else None
        return Registration(heard.ven_id, heard.registration_id, poll_s, heard.vtn_id or None)

    async def ended_by_vtn(self, registered: Registration, message: CancelRegistration) -> None:
        """Our part in events already taken goes on; at the next round we ask to be let in again.

        A registration that is not ours does not end ours.
        """
        if message.registration_id != registered.registration_id or message.ven_id not in (None, registered.ven_id):
            log.warning("another registration than ours was ended", source=self.name)
            await self._confirm_end(message, Response(INVALID_ID, "registrationID is not ours", message.request_id))
            return
        async with self._store.begin() as connection:
            await registration.forget_registration(connection, self.name)
        self.registration = None
        log.warning("registration ended by the utility", source=self.name)
        await self._confirm_end(message, Response(request_id=message.request_id), registered.ven_id)

    async def _confirm_end(self, message: CancelRegistration, response: Response, ven_id: str | None = None) -> None:
        registration_id = message.registration_id
        await self.ask(CanceledRegistration(response=response, registration_id=registration_id, ven_id=ven_id))

    async def leave(self) -> None:
        """End the registration from our side; a VTN that cannot be told does not stop us."""
        known = await self.load()
        if known is None:
            return
        message = CancelRegistration(
            request_id=str(uuid4()), registration_id=known.registration_id, ven_id=known.ven_id
        )
        try:
            await self.ask(message)
        finally:
            async with self._store.begin() as connection:
                await registration.forget_registration(connection, self.name)
            self.registration = None
