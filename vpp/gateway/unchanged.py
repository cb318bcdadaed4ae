"""Room gateway: events a 2.0b VTN tells again as they were, recognised for a whole message at once. Called by `ven`.

A VTN tells its whole list whenever one event of it changes, and so most of what is told was told before. What is
remembered here may be lost at any time: an event that is not recognised is taken in full, which changes nothing
either. Remembered is only what was taken and heard to the end; it counts while our commitment stands as it did.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.ven import EventNotice
from vpp.gateway import answers
from vpp.gateway.events import Taken
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment

COUNTS_FOR = timedelta(minutes=15)
"""After this an event is taken in full again: our sites, or who is below us, may have changed meanwhile."""
MAX_KEPT = 20_000


@dataclass(frozen=True, slots=True)
class _Kept:
    notice: EventNotice
    taken: Taken
    at: datetime


class Unchanged:
    """What came of the events of one VTN, as last told."""

    def __init__(self, store: Store, clock: Clock, source: str) -> None:
        self._store, self._clock, self._source = store, clock, source
        self._kept: dict[str, _Kept] = {}

    def keep(self, notice: EventNotice, taken: Taken) -> None:
        """Remember what came of an event that was taken and heard; one told completed depends on the time."""
        if not notice.completed and len(self._kept) < MAX_KEPT:
            self._kept[notice.external_id] = _Kept(_bare(notice), replace(taken, is_new=False), self._clock.now())

    def forget(self, event_id: str) -> None:
        """Take the event in full when it is told next."""
        self._kept.pop(event_id, None)

    def keep_only(self, event_ids: Collection[str]) -> None:
        """Forget all others: they were withdrawn."""
        self._kept = {event_id: kept for event_id, kept in self._kept.items() if event_id in event_ids}

    async def recognise(self, notices: Sequence[EventNotice], *, again: bool) -> list[Taken | None]:
        """Return for each notice of one message what came of it, None where it must be taken in full.

        Answers wanted are owed again as `answers.owe` says, all of them in one transaction.
        """
        after = self._clock.now() - COUNTS_FOR
        alike = {}
        for number, notice in enumerate(notices):
            kept = self._kept.get(notice.external_id)
            if kept is not None and kept.at > after and kept.notice == _bare(notice):
                alike[number] = kept.taken
        if not alike:
            return [None] * len(notices)
        async with self._store.begin() as connection:
            stands = await self._standing(connection, {notices[number].external_id for number in alike})
            same = {n: taken for n, taken in alike.items() if stands.get(notices[n].external_id) == _stood(taken)}
            wanted = [
                (taken.commitment.id, notices[n].modification_number)
                for n, taken in same.items()
                if taken.commitment is not None and taken.at_once is None and notices[n].answer_wanted
            ]
            await answers.owe_again(connection, wanted, request_id=notices[0].request_id, again=again)
        return [_told_now(same.get(number), notice) for number, notice in enumerate(notices)]

    async def _standing(self, connection: AsyncConnection, event_ids: Collection[str]) -> dict[str, tuple[UUID, int]]:
        """The latest life of each event, with how often it has changed."""
        rows = await connection.execute(
            select(commitment.c.external_id, commitment.c.id, commitment.c.revision)
            .where(commitment.c.source == self._source, commitment.c.external_id.in_(event_ids))
            .order_by(commitment.c.life)
        )
        return {row.external_id: (row.id, row.revision) for row in rows}


def _bare(notice: EventNotice) -> EventNotice:
    """All that tells one version from another: what is asked of us follows from the event."""
    return replace(notice, request_id="", signal=None)


def _stood(taken: Taken) -> tuple[UUID, int] | None:
    return None if taken.commitment is None else (taken.commitment.id, taken.commitment.revision)


def _told_now(taken: Taken | None, notice: EventNotice) -> Taken | None:
    if taken is None or taken.at_once is None:
        return taken
    return replace(taken, at_once=replace(taken.at_once, request_id=notice.request_id))
