"""Who may do what: dependencies that turn a cookie or bearer token into a `Subject`, or refuse.

Called by every router of this room; `create_account` and `create_token` also by bootstrap and cli.
A router writes `subject: Annotated[Subject, Depends(require_role("operator"))]`. Changes that come with
a cookie must come from our own pages: `Origin` is checked, and the token the page was given.
"""

import hmac
from collections.abc import Awaitable, Callable
from urllib.parse import urlsplit

from fastapi import Request
from starlette.datastructures import FormData

from vpp.domain.errors import VppError
from vpp.portal.context import get_context
from vpp.portal.credentials import (
    SCOPES,
    Subject,
    create_account,
    create_token,
    csrf_token,
    subject_of_session,
    subject_of_token,
)

__all__ = [
    "SCOPES",
    "Subject",
    "create_account",
    "create_token",
    "csrf_token",
    "require",
    "require_role",
    "require_token",
    "session_cookie",
]

COOKIE = "vpp_session"
CSRF_HEADER = "x-csrf-token"
CSRF_FIELD = "csrf_token"
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_INCLUDES = {
    "operate": frozenset({"operate", "read"}),
    "telemetry": frozenset({"telemetry"}),
    "read": frozenset({"read"}),
}

Dependency = Callable[[Request], Awaitable[Subject]]


class NotSignedIn(VppError):
    """Nobody, or a session or token that is unknown or over."""


class NotAllowed(VppError):
    """Somebody, but not one who may do this."""


class ForgedRequest(NotAllowed):
    """A change with a cookie that did not come from one of our pages."""


class TooManyAttempts(VppError):
    """Sign-in was tried too often; `retry_after_s` says when to come back [s]."""

    def __init__(self, message: str, *, retry_after_s: int) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


def require(*, roles: tuple[str, ...] = (), scope: str | None = None) -> Dependency:
    """Return a dependency that lets in signed-in people of `roles`, and machines with `scope`.

    A token of scope `operate` may also read.

    Raises (when called with a request):
        NotSignedIn: neither a valid cookie nor a valid token.
        NotAllowed: another role or scope, or a change that did not come from our page.
    """

    async def dependency(request: Request) -> Subject:
        subject = await _subject(request)
        if subject.role == "machine":
            if scope is None or scope not in _INCLUDES.get(subject.scope or "", frozenset()):
                raise NotAllowed(f"this needs {'a token of scope ' + scope if scope else 'a person to sign in'}")
            return subject
        if subject.role not in roles:
            raise NotAllowed(f"this is for: {', '.join(roles) or 'machines with a token'}")
        if request.method not in _SAFE:
            await check_same_origin(request)
            await _check_csrf(request)
        return subject

    return dependency


def require_role(*roles: str) -> Dependency:
    """Return a dependency that lets in signed-in people of these roles only."""
    return require(roles=roles)


def require_token(scope: str) -> Dependency:
    """Return a dependency that lets in machines whose token carries this scope only."""
    return require(scope=scope)


def session_cookie(request: Request) -> str | None:
    """The session's token as the browser sent it, unchecked."""
    token = request.cookies.get(COOKIE)
    return token if token and len(token) <= 100 else None


async def signed_in(request: Request) -> Subject | None:
    """Who is signed in with a cookie, or None."""
    token = session_cookie(request)
    if token is None:
        return None
    context = get_context(request)
    async with context.store.begin() as connection:
        return await subject_of_session(connection, token, now=context.wall_clock.now())


async def check_same_origin(request: Request) -> None:
    """Refuse a change sent from a page of another site.

    Browsers put `Origin` on every POST; a request without one is not from a page and has no cookie
    of ours unless it was put there on purpose.

    Raises:
        ForgedRequest: the origin is another one.
    """
    if request.headers.get("sec-fetch-site", "same-origin") not in ("same-origin", "none"):
        raise ForgedRequest("this change came from another site")
    origin = request.headers.get("origin")
    if origin is not None and urlsplit(origin).netloc.lower() != request.headers.get("host", "").lower():
        raise ForgedRequest(f"this change came from {origin}")


async def _subject(request: Request) -> Subject:
    kind, _, bearer = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and bearer and len(bearer) <= 200:
        async with get_context(request).store.begin() as connection:
            subject = await subject_of_token(connection, bearer.strip())
    else:
        subject = await signed_in(request)
    if subject is None:
        raise NotSignedIn("sign in, or send a bearer token")
    return subject


async def _check_csrf(request: Request) -> None:
    sent = request.headers.get(CSRF_HEADER)
    if sent is None and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
        form: FormData = await request.form()
        sent = str(form.get(CSRF_FIELD, ""))
    expected = csrf_token(session_cookie(request) or "")
    if not hmac.compare_digest((sent or "").encode(), expected.encode()):
        raise ForgedRequest("the page is out of date: load it again")
