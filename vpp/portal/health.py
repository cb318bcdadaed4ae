"""`/healthz`, `/readyz` and `/metrics`: for the orchestrator and the monitoring, without sign-in.

Alive means this process answers; ready means PostgreSQL, its schema and Valkey are there as well.
"""

import asyncio
from collections.abc import Awaitable

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from redis.exceptions import RedisError
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from vpp.domain.errors import NotReady
from vpp.portal.context import Context, Ctx

CHECK_TIMEOUT_S = 3.0

router = APIRouter(include_in_schema=False)


@router.get("/healthz")
async def healthz() -> dict[str, str]:
    """The process is up."""
    return {"status": "up"}


@router.get("/readyz")
async def readyz(context: Ctx) -> Response:
    """200 if everything this process needs is there; 503 with the name of each missing part."""
    checks = {"postgresql": _postgresql(context), "migrations": _migrations(context), "valkey": _valkey(context)}
    answers = await asyncio.gather(*(_within_deadline(check) for check in checks.values()))
    parts = dict(zip(checks, answers, strict=True))
    missing = [name for name, trouble in parts.items() if trouble is not None]
    body = {
        "status": "not ready" if missing else "ready",
        "missing": missing,
        "parts": {name: trouble or "ok" for name, trouble in parts.items()},
    }
    return JSONResponse(body, 503 if missing else 200)


@router.get("/metrics")
async def metrics() -> Response:
    """What this process has counted, in Prometheus's text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _within_deadline(check: Awaitable[None]) -> str | None:
    try:
        await asyncio.wait_for(check, CHECK_TIMEOUT_S)
    except NotReady as trouble:
        return str(trouble)
    except TimeoutError:
        return f"no answer within {CHECK_TIMEOUT_S:.0f} s"
    except (SQLAlchemyError, RedisError, OSError) as error:
        return f"does not answer ({type(error).__name__})"
    return None


async def _postgresql(context: Context) -> None:
    async with context.store.begin() as connection:
        await connection.execute(text("select 1"))


async def _migrations(context: Context) -> None:
    from vpp.store.migrate import newest_revision  # loads what only a probe has a use for

    wanted = newest_revision()
    async with context.store.begin() as connection:
        found = (await connection.execute(text("select to_regclass('alembic_version')"))).scalar()
        at = (await connection.execute(text("select version_num from alembic_version"))).scalar() if found else None
    if at != wanted:
        raise NotReady(f"the schema is at {at or 'nothing'}, this release needs {wanted}: run `vpp migrate`")


async def _valkey(context: Context) -> None:
    if not await context.store.redis.ping():
        raise NotReady("does not answer to PING")
