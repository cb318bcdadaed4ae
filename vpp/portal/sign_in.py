"""Signing in and out, and where each role lands. Mounted by `app.create_app`."""

import hashlib
from typing import Annotated

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response

from vpp.portal.auth import (
    COOKIE,
    NotSignedIn,
    TooManyAttempts,
    check_same_origin,
    require_role,
    session_cookie,
    signed_in,
)
from vpp.portal.context import Context, Ctx
from vpp.portal.credentials import SESSION_LIFETIME, check_password, close_session, open_session
from vpp.portal.metrics import SIGN_INS
from vpp.portal.render import page

WINDOW_S = 300
PER_ACCOUNT, PER_ADDRESS = 10, 60
LANDING = {"operator": "/operator", "utility": "/utility", "owner": "/owner"}
_anybody = require_role(*LANDING)

FORM_BYTES = 16_384
router = APIRouter(include_in_schema=False, max_body_size=FORM_BYTES)


@router.get("/")
async def home(request: Request) -> Response:
    """Send people to their role's page."""
    subject = await signed_in(request)
    return RedirectResponse(LANDING[subject.role] if subject else "/sign-in", 303)


@router.get("/sign-in")
async def form(request: Request, next: str = "") -> Response:  # noqa: A002 - the query's own name
    """The sign-in page; `next` is where to go afterwards."""
    if await signed_in(request) is not None:
        return RedirectResponse("/", 303)
    return page(request, "sign_in.html", {"next": local_path(next), "email": "", "wrong": ""})


@router.post("/sign-in")
async def sign_in(
    request: Request,
    context: Ctx,
    email: Annotated[str, Form(max_length=254)],
    password: Annotated[str, Form(max_length=1000)],
    next: Annotated[str, Form(max_length=500)] = "",  # noqa: A002
) -> Response:
    """Check the password, set the cookie and go on; a wrong one gets the page again."""
    await check_same_origin(request)
    keys = _keys(email, request.client.host if request.client else "")
    await _count(context, keys)
    async with context.store.begin() as connection:
        account_id = await check_password(connection, email, password)
        if account_id is None:
            SIGN_INS.labels("refused").inc()
            values = {"next": local_path(next), "email": email, "wrong": "E-mail or password is not right."}
            return page(request, "sign_in.html", values, 401)
        token = await open_session(connection, account_id, now=context.wall_clock.now())
    await _uncount(context, keys)
    SIGN_INS.labels("accepted").inc()
    answer = RedirectResponse(local_path(next) or "/", 303)
    answer.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_LIFETIME.total_seconds()),
        httponly=True,
        samesite="lax",
        secure=request.url.scheme == "https",
    )
    return answer


@router.post("/sign-out")
async def sign_out(request: Request, context: Ctx) -> Response:
    """End the session here and in the database."""
    try:
        await _anybody(request)
    except NotSignedIn:
        return RedirectResponse("/sign-in", 303)
    async with context.store.begin() as connection:
        await close_session(connection, session_cookie(request) or "")
    answer = RedirectResponse("/sign-in", 303)
    answer.delete_cookie(COOKIE)
    return answer


def local_path(wanted: str) -> str:
    """Return a path on this server, or nothing: never an address elsewhere."""
    plain = wanted.startswith("/") and not wanted.startswith("//") and wanted.isprintable() and "\\" not in wanted
    return wanted if plain and len(wanted) <= 500 else ""


async def _count(context: Context, keys: dict[str, int]) -> None:
    """Count an attempt before looking at it, so that many at once cannot slip through.

    The counters live in Valkey for `WINDOW_S`, shared by all processes; their number is bounded by
    their life.
    """
    for key, allowed in keys.items():
        async with context.store.redis.pipeline(transaction=True) as pipeline:
            pipeline.incr(key)
            pipeline.expire(key, WINDOW_S, nx=True)
            pipeline.ttl(key)
            count, _, left_s = await pipeline.execute()
        if count > allowed:
            SIGN_INS.labels("limited").inc()
            raise TooManyAttempts(
                "Too many attempts to sign in; wait a few minutes.", retry_after_s=max(1, int(left_s))
            )


async def _uncount(context: Context, keys: dict[str, int]) -> None:
    async with context.store.redis.pipeline(transaction=True) as pipeline:
        for key in keys:
            pipeline.decr(key)
            pipeline.expire(key, WINDOW_S, nx=True)  # it may have expired meanwhile; never one without an end
        await pipeline.execute()


def _keys(email: str, address: str) -> dict[str, int]:
    account = hashlib.sha256(email.strip().lower().encode()).hexdigest()[:32]
    return {f"vpp:sign-in:account:{account}": PER_ACCOUNT, f"vpp:sign-in:address:{address}": PER_ADDRESS}
