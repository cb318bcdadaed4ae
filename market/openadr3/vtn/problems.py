"""What goes wrong, as the wire's `problem`. Called by every module of this folder.

Only statuses that the OpenAPI document lists for an operation leave it: one that is not listed is told by its
nearest kin that is (3.0.1 knows no 401, so a missing token is a 403 there). The one exception is a name that is
taken: 3.1.0 forgets 409 for `POST /vens`, where 3.0.1 and its own PUT list it, and a client has to be told.
Too many requests are a 500 with `Retry-After`: neither 429 nor 503 is listed anywhere, and of what is listed it is
the one that clients try again after.
"""

import json
from collections.abc import Mapping
from uuid import uuid4

from starlette.responses import Response

BAD_REQUEST, UNAUTHORIZED, FORBIDDEN, NOT_FOUND, CONFLICT, FAILED = 400, 401, 403, 404, 409, 500
_TITLES = {
    BAD_REQUEST: "Bad Request",
    UNAUTHORIZED: "Unauthorized",
    FORBIDDEN: "Forbidden",
    NOT_FOUND: "Not Found",
    405: "Method Not Allowed",
    CONFLICT: "Conflict",
    FAILED: "Internal Server Error",
    501: "Not Implemented",
}
_KIN = {UNAUTHORIZED: FORBIDDEN, FORBIDDEN: UNAUTHORIZED, NOT_FOUND: BAD_REQUEST}
_DETAIL_MAX_CHARS = 1000


class Problem(Exception):
    """A request that is not answered as asked.

    Args:
        status: what it is at heart; what is sent depends on what the operation lists.
        detail: a sentence for whoever wrote the client.
        title: where the status alone does not say what happened.
        headers: to be sent with it.
        more: members beside those of `problem`, as RFC 6749's `error`.
    """

    def __init__(
        self,
        status: int,
        detail: str,
        *,
        title: str | None = None,
        headers: Mapping[str, str] | None = None,
        more: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(detail)
        self.status = status
        self.detail = detail[:_DETAIL_MAX_CHARS]
        self.title = title or _TITLES[status]
        self.headers = dict(headers or {})
        self.more = dict(more or {})


def missing_token() -> Problem:
    """The request shows no token that is good here."""
    return Problem(UNAUTHORIZED, "send an access token that is in force", headers={"www-authenticate": "Bearer"})


def not_found(what: str) -> Problem:
    """There is no such thing, or not for this client, which is not told which of both."""
    return Problem(NOT_FOUND, f"there is no {what}")


def problem_response(problem: Problem, listed: frozenset[int] | None) -> Response:
    """Return a problem as an answer.

    Args:
        listed: the statuses the operation lists, None where any will do.
    """
    status = problem.status
    if listed is not None and status not in listed and status != CONFLICT:
        status = _KIN.get(status, BAD_REQUEST)
    body = {
        "type": "about:blank",
        "title": problem.title,
        "status": status,
        "detail": problem.detail,
        "instance": f"urn:uuid:{uuid4()}",
        **problem.more,
    }
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
    return Response(text, status_code=status, headers=problem.headers, media_type="application/json")
