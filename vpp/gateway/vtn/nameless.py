"""Messages that name no VEN, as the schema allows in EiReport: known by what of ours they answer. Called by `desk`."""

from typing import Any

from sqlalchemy import Select, select

from vpp.domain.openadr2 import (
    CanceledReports,
    CreatedReports,
    Openadr2Message,
    RegisteredReports,
    UpdatedReports,
    UpdateReports,
)
from vpp.gateway.vtn.room import Room
from vpp.store.tables.openadr2_vtn import vtn2_outbox, vtn2_registration, vtn2_report_request


async def asked_ven_id(room: Room, message: Openadr2Message) -> str | None:
    """Return the id of the VEN that was asked what this answers, None where that is nobody.

    Request ids are ours and random: who knows one was told it.
    """
    query = _asked(message)
    if query is None:
        return None
    async with room.store.begin() as connection:
        peer_id = (await connection.execute(query.limit(1))).scalar()
        mine = select(vtn2_registration.c.ven_id).where(
            vtn2_registration.c.peer_id == peer_id, vtn2_registration.c.tenant_id == room.tenant_id
        )
        return (await connection.execute(mine)).scalar()


def _asked(message: Openadr2Message) -> Select[Any] | None:
    if isinstance(message, UpdateReports) and message.updates and message.ven_id is None:
        asked = vtn2_report_request.c.report_request_id == message.updates[0].report_request_id
        return select(vtn2_report_request.c.peer_id).where(asked)
    answers = CreatedReports | CanceledReports | RegisteredReports | UpdatedReports
    if isinstance(message, answers) and message.ven_id is None and message.response.request_id:
        return select(vtn2_outbox.c.peer_id).where(
            vtn2_outbox.c.request_id == message.response.request_id, vtn2_outbox.c.closed_at.is_(None)
        )
    return None
