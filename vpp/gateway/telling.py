"""Room gateway: tells a VTN when the fleet is declared unavailable (EiOpt), and when no longer. Called by `ven`.

What was declared stands in `vpp.peering`; what the VTN has taken of it is written down here, so that it is told
until it took it, by the same optID, and not again. A VTN without EiOpt (openleadr answers 404) holds nothing up.
"""

from datetime import timedelta
from uuid import uuid4

import structlog
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert

from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.openadr2 import CancelOpt, CreateOpt
from vpp.gateway.session import Session
from vpp.peering import Unavailability, list_unavailability
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.gateway import unavailability_told as told

log = structlog.get_logger("vpp.gateway")

RETRY = timedelta(seconds=5), timedelta(minutes=5)
"""How long a VTN that could not be told is left alone: one that was away for a moment, up to one without EiOpt."""
MAX_TOLD = 50
"""Messages sent in one round."""


class AvailabilityTeller:
    """Tells one VTN."""

    def __init__(self, store: Store, clock: Clock, session: Session, tenant_id: str) -> None:
        self._store, self._clock, self._session, self._tenant_id = store, clock, session, tenant_id
        self._peer = session.name.partition(":")[2]
        self._not_before = clock.now()
        self._wait = RETRY[0]

    async def tell(self, ven_id: str) -> None:
        """Send what is owed; this raises nothing. A VTN that cannot be told is tried again, less and less often."""
        if self._clock.now() < self._not_before:
            return
        try:
            for declared, created in (await self._owed())[:MAX_TOLD]:
                await self._send(ven_id, declared, created)
                self._wait = RETRY[0]
        except PeerUnreachable as error:
            self._not_before = self._clock.now() + self._wait
            self._wait = min(2 * self._wait, RETRY[1])
            log.warning("availability not told", source=self._session.name, error=str(error))

    async def _owed(self) -> list[tuple[Unavailability, bool]]:
        """Each window with something to tell, and whether the VTN has taken its declaration."""
        async with self._store.begin() as connection:
            declared = await list_unavailability(
                connection, tenant_id=self._tenant_id, after=self._clock.now(), peer=self._peer, withdrawn=True
            )
            rows = await connection.execute(select(told).where(told.c.source == self._session.name))
            taken = {row.unavailability_id: row for row in rows}
        owed = []
        for each in declared:
            row = taken.get(each.id)
            created = row is not None and row.created_at is not None
            if each.withdrawn_at is None and row is None:
                owed.append((each, False))
            if each.withdrawn_at is not None and created and row is not None and row.cancelled_at is None:
                owed.append((each, True))
        return owed

    async def _send(self, ven_id: str, declared: Unavailability, created: bool) -> None:
        refusal: str | None = None
        try:
            await self._session.ask(
                CancelOpt(request_id=str(uuid4()), opt_id=declared.id, ven_id=ven_id)
                if created
                else self._declaration(ven_id, declared)
            )
        except PeerRefused as refused:  # it was read; to repeat it would change nothing
            refusal = str(refused)[:500]
            log.warning("availability refused", source=self._session.name, id=declared.id, error=refusal)
        now = self._clock.now()
        values: dict[str, object] = {"refusal": refusal}
        if created:
            values["cancelled_at"] = now
        else:
            values["created_at"] = None if refusal else now
        statement = insert(told).values(unavailability_id=declared.id, source=self._session.name, **values)
        async with self._store.begin() as connection:
            await connection.execute(
                statement.on_conflict_do_update(index_elements=["unavailability_id", "source"], set_=values)
            )
        log.info("availability told", source=self._session.name, id=declared.id, withdrawn=created)

    def _declaration(self, ven_id: str, declared: Unavailability) -> CreateOpt:
        return CreateOpt(
            request_id=str(uuid4()),
            opt_id=declared.id,
            ven_id=ven_id,
            opt_in=False,
            reason=declared.reason,
            created_at=self._session.vtn_time(),
            windows=(declared.window,),
        )
