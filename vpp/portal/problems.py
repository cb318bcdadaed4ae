"""Errors to HTTP: the only place that knows a status for a broken promise (RFC 9457).

Called by `app.create_app`. Machines get `application/problem+json`; people get a page that says the same.
"""

import traceback
from dataclasses import asdict
from typing import Any
from urllib.parse import quote

import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, RedirectResponse, Response
from redis.exceptions import RedisError
from sqlalchemy.exc import InterfaceError, OperationalError
from starlette.exceptions import HTTPException

from vpp.domain.errors import Conflict, DeviceError, InvalidRequest, NotFound, NotReady, VppError
from vpp.enrolment import EnrolmentRefused
from vpp.portal.auth import NotAllowed, NotSignedIn, TooManyAttempts
from vpp.portal.render import page
from vpp.portal.security import SECURITY_HEADERS

_log = structlog.get_logger("vpp.portal")

_KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (NotSignedIn, 401, "Please sign in"),
    (NotAllowed, 403, "Not allowed"),
    (TooManyAttempts, 429, "Too many attempts"),
    (InvalidRequest, 422, "Not acceptable as given"),
    (NotFound, 404, "Not found"),
    (Conflict, 409, "Conflict with what is recorded"),
    (NotReady, 503, "Not ready"),
    (DeviceError, 502, "A device did not do what was asked"),
    (VppError, 500, "Something broke"),
)
_TITLES = {
    400: "Bad request",
    404: "Not found",
    405: "Method not allowed",
    413: "Too large",
    415: "Unsupported media type",
}


def install_problem_handlers(app: FastAPI) -> None:
    """Register the handlers for our errors, the framework's, the servers' and everything else."""
    app.add_exception_handler(VppError, _ours)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _framework)
    for kind in (OperationalError, InterfaceError, RedisError):
        app.add_exception_handler(kind, _server_away)
    app.add_exception_handler(Exception, _unexpected)


def status_of(error: Exception) -> tuple[int, str]:
    """Return the HTTP status and title for one of our errors."""
    return next((status, title) for kind, status, title in _KINDS if isinstance(error, kind))


def problem(
    request: Request, status: int, title: str, detail: str, *, headers: dict[str, str] | None = None, **members: Any
) -> Response:
    """Answer with a problem: JSON for machines, a page for a browser that asks for HTML."""
    if wants_page(request):
        return page(request, "problem.html", {"status": status, "title": title, "detail": detail}, status, headers)
    body = {"type": "about:blank", "title": title, "status": status, "detail": detail, **members}
    return JSONResponse(body, status, headers, media_type="application/problem+json")


def wants_page(request: Request) -> bool:
    """Whether a person's browser is asking, and not a script or a machine."""
    accepts = request.headers.get("accept", "")
    return "text/html" in accepts and not request.url.path.startswith(("/api/", "/healthz", "/readyz", "/metrics"))


async def _ours(request: Request, error: Exception) -> Response:
    status, title = status_of(error)
    headers: dict[str, str] = {}
    members: dict[str, Any] = {}
    if isinstance(error, NotSignedIn):
        if wants_page(request) and request.method == "GET" and "hx-request" not in request.headers:
            return RedirectResponse(f"/sign-in?next={quote(request.url.path, safe='/')}", 303)
        headers["www-authenticate"] = 'Bearer realm="vpp"'
    elif isinstance(error, TooManyAttempts):
        headers["retry-after"] = str(error.retry_after_s)
    elif isinstance(error, NotReady):
        headers["retry-after"] = "5"
    elif isinstance(error, InvalidRequest):
        members = {"field": error.field, "value": str(error.value)[:200], "allowed": error.allowed}
        if isinstance(error, EnrolmentRefused):
            members["problems"] = [asdict(one) for one in error.problems[:1000]]
    return problem(request, status, title, str(error), headers=headers, **members)


async def _invalid(request: Request, error: Exception) -> Response:
    found = error.errors() if isinstance(error, RequestValidationError) else []
    listed = [{"field": ".".join(str(part) for part in one["loc"]), "message": str(one["msg"])} for one in found[:50]]
    detail = "; ".join(f"{one['field']}: {one['message']}" for one in listed[:3])
    return problem(request, 422, "Not acceptable as given", detail, errors=listed)


async def _framework(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    headers = dict(error.headers or {}) if isinstance(error, HTTPException) else {}
    detail = str(error.detail) if isinstance(error, HTTPException) else ""
    return problem(request, status, _TITLES.get(status, detail), detail, headers=headers)


async def _server_away(request: Request, error: Exception) -> Response:
    _log.warning("server away", path=request.url.path, error=str(error)[:500])
    headers = {"retry-after": "5"}
    return problem(request, 503, "Not ready", "PostgreSQL or Valkey does not answer; try again soon", headers=headers)


async def _unexpected(request: Request, error: Exception) -> Response:
    # Sent from outside our middleware, so the headers that keep a page safe are put on here.
    # Not `exc_info`: a console that shows local variables would write a password down.
    _log.error("unexpected error", path=request.url.path, trace="".join(traceback.format_exception(error)))
    return problem(request, 500, "Something broke", "This is our fault and has been logged.", headers=SECURITY_HEADERS)
