"""`/api/v1/statements`: a site's month, as JSON and CSV. Mounted by `app.create_app`."""

from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi.responses import Response
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotFound
from vpp.enrolment import get_site
from vpp.portal.auth import Subject, require
from vpp.portal.context import Ctx
from vpp.portal.owner import Month, csv_answer, month_of
from vpp.settlement import Statement, statement, statement_csv

router = APIRouter(prefix="/api/v1/statements", tags=["statements"])
Reader = Annotated[Subject, Depends(require(roles=("operator", "owner"), scope="read"))]


@router.get("/{site_id}/{month}.csv", response_class=Response)
async def get_statement_csv(context: Ctx, subject: Reader, site_id: str, month: Month) -> Response:
    """A site's statement of a month (`2026-08`) as CSV."""
    async with context.store.begin() as connection:
        text = statement_csv(await _statement(connection, subject, site_id, month))
    return csv_answer(text, f"statement-{site_id}-{month}.csv")


@router.get("/{site_id}/{month}")
async def get_statement(context: Ctx, subject: Reader, site_id: str, month: Month) -> Statement:
    """A site's statement of a month (`2026-08`): every figure needed to compute the money again."""
    async with context.store.begin() as connection:
        return await _statement(connection, subject, site_id, month)


async def _statement(connection: AsyncConnection, subject: Subject, site_id: str, month: str) -> Statement:
    site = await get_site(connection, site_id, tenant_id=subject.tenant_id)
    if subject.role == "owner" and site.owner_id != subject.owner_id:
        raise NotFound(f"no site {site_id!r}")
    return await statement(connection, site_id, month_of(month))
