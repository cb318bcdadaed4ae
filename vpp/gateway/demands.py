"""EiReport, the end that reports: what of the demands of the other side is taken and kept, and how values are told.
Used by both ends: by our VEN (`reporter`) and by our VTN for its VENs (`vtn.sending`).

`source` says whose demands they are, in the tables: a VTN above us, or a VEN of ours.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import uuid4

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import REPORT_NOT_SUPPORTED, ReportDemand, ReportedValue, ReportUpdate, Response
from vpp.gateway import reports
from vpp.gateway.offers import Catalogue, WantedReport, accept


@dataclass(frozen=True, slots=True)
class Demanded:
    """What came of reports asked for: the ids of those that will come or came already, and why others cannot."""

    taken: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()

    def response(self, request_id: str) -> Response:
        """Return success, or code 461 with the reasons where not all can be sent."""
        if not self.refused:
            return Response(request_id=request_id)
        return Response(REPORT_NOT_SUPPORTED, "; ".join(self.refused)[:1000], request_id)


async def take_demands(
    connection: AsyncConnection,
    source: str,
    demands: Sequence[ReportDemand],
    catalogue: Catalogue,
    *,
    most: int = reports.MAX_STANDING,
    at: datetime,
) -> Demanded:
    """Keep what is asked for that we can send, at most so many at a time.

    What is asked for once more stays as it is, be it in force or done with: the other side has not heard our
    confirmation, or has forgotten it, and gets another; not another report.
    """
    taken, refused = [], []
    known = await reports.known_digests(connection, source, [each.report_request_id for each in demands])
    room = most - await reports.count_standing(connection, source)
    for demand in demands:
        id_, digest = demand.report_request_id, reports.digest_of(demand)
        if known.get(id_) != digest:
            try:
                wanted = accept(demand, catalogue, at=at)
            except InvalidRequest as error:
                refused.append(f"{id_[:40]}: {error}")
                continue
            if room <= 0:
                refused.append(f"{id_}: too many reports are asked for")
                continue
            await reports.save_request(connection, source, wanted, digest, at=at)
            known[id_], room = digest, room - 1
        taken.append(id_)
    return Demanded(tuple(taken), tuple(refused))


def update_of(request: WantedReport, values: tuple[ReportedValue, ...], *, at: datetime) -> ReportUpdate:
    """Return values as one report, of the time from the first of them to the end of the last."""
    ends = [value.start_at + (value.duration or timedelta(0)) for value in values]
    start_at = min((value.start_at for value in values), default=None)
    return ReportUpdate(
        report_request_id=request.report_request_id,
        specifier_id=request.specifier_id,
        name=request.name,
        created_at=at,
        values=values,
        report_id=str(uuid4()),
        start_at=start_at,
        duration=None if start_at is None else max(ends) - start_at,
    )
