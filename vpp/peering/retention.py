"""Room peering: forgets what both VTNs were told and told others, once it was over long ago.

Called by the process of the 2.0b VTN with each look around, by `vpp serve` for OpenADR 3 (`run_retention`), and for
what was received by the VENs. At most `most` rows of a kind are deleted in a turn; rows somebody else holds are left
for the next. What an event that is not over, or an opt in force, still needs is kept however old it is.
"""

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import TextClause, select, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant

MOST = 5_000
EVERY_S = 60.0

log = structlog.get_logger(__name__)

_RECEIVED = """
    delete from received_event where (source, event_id) in (
        select r.source, r.event_id from received_event r join peer p on p.id = r.source
        left join grid_event e on e.tenant_id = r.tenant_id and e.event_id = r.forwarded_as
        where r.tenant_id = :tenant_id and r.changed_at < :before
        and (
            (r.event ->> 'cancelled')::boolean
            or (r.event ->> 'start_at')::timestamptz
                + (r.event ->> 'duration_us')::bigint * interval '1 microsecond' < :before
            or p.revoked_at < :before
        )
        and (e.event_id is null or e.over_at < :before)
        order by r.changed_at limit :most for update of r skip locked
    )
"""
"""An event a VTN above us told: over, and so is what was made of it below us."""

_STATEMENTS = (
    # values of reports, and messages that were answered
    """
    delete from vtn2_report_value where id in (
        select v.id from vtn2_report_value v join peer p on p.id = v.peer_id
        where p.tenant_id = :tenant_id and v.received_at < :before
        order by v.received_at limit :most for update of v skip locked
    )
    """,
    """
    delete from vtn2_outbox where id in (
        select o.id from vtn2_outbox o join peer p on p.id = o.peer_id
        where p.tenant_id = :tenant_id and o.closed_at < :before
        order by o.closed_at limit :most for update of o skip locked
    )
    """,
    # requests for reports that came to an end, also by that of their VEN
    """
    delete from vtn2_report_request where report_request_id in (
        select r.report_request_id from vtn2_report_request r join peer p on p.id = r.peer_id
        where p.tenant_id = :tenant_id and r.changed_at < :before
        and (r.state in ('done', 'cancelled', 'refused') or p.revoked_at < :before)
        and not exists (select from vtn2_report_value v where v.report_request_id = r.report_request_id)
        order by r.changed_at limit :most for update of r skip locked
    )
    """,
    # opts that were taken back, or whose event or windows of time are over
    """
    delete from vtn2_opt where (peer_id, opt_id) in (
        select o.peer_id, o.opt_id from vtn2_opt o join peer p on p.id = o.peer_id
        left join grid_event e on e.tenant_id = p.tenant_id and e.event_id = o.event_id
        where p.tenant_id = :tenant_id and o.received_at < :before
        and (
            o.cancelled_at < :before
            or (o.event_id is not null and (e.event_id is null or e.over_at < :before))
            or (o.event_id is null and not exists (
                select from jsonb_array_elements(o.windows) as part
                where (part ->> 'end_at')::timestamptz >= :before
            ))
        )
        order by o.received_at limit :most for update of o skip locked
    )
    """,
    _RECEIVED,
    # events below us: what VENs were told and answered, versions (earlier ones of an event without an end too), events
    """
    delete from vtn2_delivery where (peer_id, event_id) in (
        select d.peer_id, d.event_id from vtn2_delivery d
        join grid_event e on e.tenant_id = d.tenant_id and e.event_id = d.event_id
        where e.tenant_id = :tenant_id and e.over_at < :before
        order by e.over_at limit :most for update of d skip locked
    )
    """,
    """
    delete from grid_event_version where (tenant_id, event_id, modification_number) in (
        select v.tenant_id, v.event_id, v.modification_number from grid_event_version v
        join grid_event e on e.tenant_id = v.tenant_id and e.event_id = v.event_id
        where e.tenant_id = :tenant_id
        and (e.over_at < :before or (v.stated_at < :before and v.modification_number < e.modification_number))
        order by v.stated_at limit :most for update of v skip locked
    )
    """,
    """
    delete from grid_event where (tenant_id, event_id) in (
        select e.tenant_id, e.event_id from grid_event e
        where e.tenant_id = :tenant_id and e.over_at < :before
        and not exists (select from grid_event_version v where v.tenant_id = e.tenant_id and v.event_id = e.event_id)
        and not exists (select from vtn2_delivery d where d.tenant_id = e.tenant_id and d.event_id = e.event_id)
        and not exists (
            select from received_event r where r.tenant_id = e.tenant_id and r.forwarded_as = e.event_id
        )
        order by e.over_at limit :most for update of e skip locked
    )
    """,
    # objects of the OpenADR 3 VTN: reports by their age, then events that are over and have none
    """
    delete from openadr3_object where id in (
        select o.id from openadr3_object o
        where o.tenant_id = :tenant_id and o.kind = 'REPORT' and o.modified_at < :before
        order by o.modified_at limit :most for update skip locked
    )
    """,
    """
    delete from openadr3_object where id in (
        select o.id from openadr3_object o
        where o.tenant_id = :tenant_id and o.kind = 'EVENT' and o.end_at < :before and o.modified_at < :before
        and not exists (select from openadr3_object r where r.event_id = o.id)
        and not exists (select from grid_event e where e.tenant_id = o.tenant_id and e.openadr3_id = o.id)
        order by o.end_at limit :most for update skip locked
    )
    """,
)
_FORGET = tuple(text(statement) for statement in _STATEMENTS)
_FORGET_RECEIVED = text(_RECEIVED)


async def forget_old(connection: AsyncConnection, *, tenant_id: str, before: datetime, most: int = MOST) -> int:
    """Delete what of a tenant was over before an instant; returns how many rows that were, `most` of a kind at most.

    Nobody is told: who has been told of an event or a report has had all the time until then to read it.
    """
    bounds = {"tenant_id": tenant_id, "before": before, "most": most}
    return sum([await _delete(connection, statement, bounds) for statement in _FORGET])


async def forget_received(connection: AsyncConnection, *, tenant_id: str, before: datetime, most: int = MOST) -> int:
    """Delete what VTNs above a tenant told of events that were over before an instant; returns how many."""
    return await _delete(connection, _FORGET_RECEIVED, {"tenant_id": tenant_id, "before": before, "most": most})


async def run_retention(store: Store, clock: Clock, *, keep_for: timedelta, every_s: float = EVERY_S) -> None:
    """Forget for every tenant, now and then, until cancelled; what fails is tried again."""
    while True:
        try:
            async with store.begin() as connection:
                tenants = list((await connection.execute(select(tenant.c.id))).scalars())
            for tenant_id in tenants:
                async with store.begin() as connection:
                    await forget_old(connection, tenant_id=tenant_id, before=clock.now() - keep_for)
        except (SQLAlchemyError, OSError) as error:
            log.warning("what is old was not deleted", error=str(error)[:300])
        await asyncio.sleep(every_s)


async def _delete(connection: AsyncConnection, statement: TextClause, bounds: Mapping[str, Any]) -> int:
    return (await connection.execute(statement, bounds)).rowcount
