"""Builders for events told downstream."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import insert, select

from vpp.domain.grid_event import (
    GridEvent,
    Point,
    Series,
    SeriesInterval,
    SeriesType,
    Target,
    TargetKind,
    Unsaid,
)
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

TENANT = "acme"
START_AT = datetime(2026, 8, 19, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)


class PlainTranslator:
    """A translator between languages that can say all but comments."""

    def to_openadr3(self, event: GridEvent, *, program_id: str) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
        return {"programID": program_id}, ()

    def from_openadr3(
        self, body: Mapping[str, Any], *, modification_number: int, descriptors: Sequence[Mapping[str, Any]] = ()
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        raise NotImplementedError

    def unsaid_in_openadr2(self, event: GridEvent) -> tuple[Unsaid, ...]:
        return (Unsaid("comment", event.comment, "no words"),) if event.comment else ()


TRANSLATOR = PlainTranslator()


def a_series(*values: float | int | str | bool | Point, kind: SeriesType = SeriesType.SIMPLE, **changes: Any) -> Series:
    """One interval of an hour for each value, one after the other."""
    intervals = tuple(
        SeriesInterval(start_at=START_AT + i * HOUR, duration=HOUR, values=(v,), uid=str(i))
        for i, v in enumerate(values)
    )
    return replace(
        Series(
            series_id="0",
            type=kind,
            name="SIMPLE/level" if kind is SeriesType.SIMPLE else kind.value,
            intervals=intervals,
        ),
        **changes,
    )


def an_event(event_id: str = "event-1", **changes: Any) -> GridEvent:
    """Two hours of SIMPLE level 1 for one VEN, tomorrow evening in California."""
    return replace(
        GridEvent(
            event_id=event_id,
            modification_number=0,
            program="http://utility/peak",
            start_at=START_AT,
            duration=2 * HOUR,
            series=(a_series(1.0, 1.0),),
            created_at=START_AT - 24 * HOUR,
            targets=(Target(TargetKind.VEN, "ven-1"),),
        ),
        **changes,
    )


async def add_tenant(store: Store, tenant_id: str = TENANT) -> None:
    """Make sure the tenant exists."""
    async with store.begin() as connection:
        if not (await connection.execute(select(tenant.c.id).where(tenant.c.id == tenant_id))).first():
            await connection.execute(insert(tenant).values(id=tenant_id, name=tenant_id.title()))
