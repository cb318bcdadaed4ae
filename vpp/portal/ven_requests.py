"""`/api/v1/peers/{peer_id}/...`: what the operator asks of a 2.0b VEN below us. Mounted by `app.create_app`."""

from datetime import datetime, timedelta
from typing import Annotated

from fastapi import APIRouter, Query, Response
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from vpp.domain.errors import NotFound
from vpp.peering import (
    ask_report,
    ask_reregistration,
    cancel_report,
    end_registration,
    get_peer,
    received_reports,
    report_offers,
    report_requests,
)
from vpp.portal.context import Ctx
from vpp.portal.peers_api import Changer, Reader

router = APIRouter(prefix="/api/v1/peers", tags=["peers"])
Word = Annotated[str, Field(max_length=500)]
Seconds = Annotated[float, Field(ge=0, le=366 * 86_400, allow_inf_nan=False)]


class PointIn(BaseModel):
    """A point of an offered report."""

    model_config = ConfigDict(extra="forbid")

    r_id: Word
    reading_type: Word


class ReportIn(BaseModel):
    """A report wanted: a value every `granularity_s`, sent every `back_s`; zero and zero is one value, once.

    `start_at` and `duration_s` bound a history. METADATA asks for the offers anew and takes no points.
    """

    model_config = ConfigDict(extra="forbid")

    specifier_id: Word
    points: Annotated[list[PointIn], Field(max_length=1000)] = []
    granularity_s: Seconds = 0
    back_s: Seconds = 0
    start_at: AwareDatetime | None = None
    duration_s: Seconds | None = None


class OfferOut(BaseModel):
    """A report a VEN can send."""

    specifier_id: str
    name: str
    points: list[PointIn]


class AskedOut(BaseModel):
    """A report that was asked for, and how much of it came."""

    report_request_id: str
    specifier_id: str
    state: str
    reason: str
    asked_at: datetime
    values: int
    last_at: datetime | None


class ReportsOut(BaseModel):
    """What a VEN offers, and the last fifty reports it was asked for."""

    offered: list[OfferOut]
    asked: list[AskedOut]


class AskedFor(BaseModel):
    """The id under which the values of a report will come."""

    report_request_id: str


@router.get("/{peer_id}/reports")
async def reports(context: Ctx, subject: Reader, peer_id: str) -> ReportsOut:
    """Reports a VEN offers, and those it was asked for, the latest first."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        offers = await report_offers(connection, peer.id)
        asked = await received_reports(connection, peer.id)
    return ReportsOut(
        offered=[
            OfferOut(
                specifier_id=offer.specifier_id,
                name=offer.name,
                points=[PointIn(r_id=point.r_id, reading_type=point.reading_type) for point in offer.points],
            )
            for offer in offers
        ],
        asked=[
            AskedOut(
                report_request_id=each.demand.report_request_id,
                specifier_id=each.demand.specifier_id,
                state=each.state,
                reason=each.reason,
                asked_at=each.asked_at,
                values=each.values,
                last_at=each.last_at,
            )
            for each in asked
        ],
    )


@router.post("/{peer_id}/reports", status_code=201)
async def ask(context: Ctx, subject: Changer, peer_id: str, wanted: ReportIn) -> AskedFor:
    """Ask a VEN for a report, beside those its configuration names."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        made = await ask_report(
            connection,
            peer.id,
            specifier_id=wanted.specifier_id,
            points=[(point.r_id, point.reading_type) for point in wanted.points],
            granularity=timedelta(seconds=wanted.granularity_s),
            back=timedelta(seconds=wanted.back_s),
            start_at=wanted.start_at,
            duration=None if wanted.duration_s is None else timedelta(seconds=wanted.duration_s),
            at=context.clock.now(),
        )
    return AskedFor(report_request_id=made)


@router.delete("/{peer_id}/reports/{report_request_id}", status_code=204)
async def end_report(
    context: Ctx,
    subject: Changer,
    peer_id: str,
    report_request_id: str,
    to_follow: Annotated[bool, Query(description="the VEN sends once more what it has")] = False,
) -> Response:
    """End a report that is being sent, or was asked for; ended twice is ended once."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        asked = {each.demand.report_request_id for each in await report_requests(connection, peer.id)}
        if report_request_id not in asked:
            raise NotFound(f"{peer.name} was asked for no report {report_request_id!r}")
        await cancel_report(
            connection, report_request_id, tenant_id=subject.tenant_id, to_follow=to_follow, at=context.clock.now()
        )
    return Response(status_code=204)


@router.post("/{peer_id}/reregister", status_code=202)
async def reregister(context: Ctx, subject: Changer, peer_id: str) -> None:
    """Ask a VEN to register anew."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        await ask_reregistration(connection, peer.id, at=context.clock.now())


@router.post("/{peer_id}/end-registration", status_code=202)
async def deregister(context: Ctx, subject: Changer, peer_id: str) -> None:
    """Tell a VEN that its registration ends; it may register again unless it is revoked."""
    async with context.store.begin() as connection:
        peer = await get_peer(connection, peer_id, tenant_id=subject.tenant_id)
        await end_registration(connection, peer.id, at=context.clock.now())
