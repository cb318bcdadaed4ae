"""`/auth/server` and `/auth/token`: where a token is had, and having one (RFC 6749, client credentials).

Called by `app.py`. The client shows its secret by HTTP Basic or in the form, not both. Errors carry RFC 6749's
`error` beside the members of `problem`, so that a client of either is told.
"""

import base64
import binascii
import json
from collections.abc import Mapping
from urllib.parse import parse_qsl, unquote_plus

from market.openadr3.vtn.problems import BAD_REQUEST, UNAUTHORIZED, Problem
from vpp.ports import Authority

FIELD_MAX_CHARS = 4096
_FIELDS_MAX = 20
_FORM = "application/x-www-form-urlencoded"
NOT_STORED = {"cache-control": "no-store", "pragma": "no-cache"}


async def token_answer(authority: Authority, headers: Mapping[str, str], body: bytes) -> tuple[str, str]:
    """Return a token as JSON, and the client it is for.

    Raises:
        Problem: 400 or 401, with RFC 6749's word for it.
    """
    form = _form(headers.get("content-type", ""), body)
    grant_type = form.get("grant_type")
    if grant_type is None:
        raise _error("invalid_request", "grant_type is missing")
    if grant_type != "client_credentials":
        raise _error("unsupported_grant_type", "the grant_type is client_credentials")
    client_id, client_secret = _credentials(headers.get("authorization"), form)
    granted = await authority.grant(client_id, client_secret, form.get("scope") or None)
    if granted is None:
        raise _error("invalid_client", "there is no such client with that secret", status=UNAUTHORIZED)
    if not granted.scope:
        raise _error("invalid_scope", "of the scopes asked for the client may have none")
    token = {
        "access_token": granted.access_token,
        "token_type": "Bearer",
        "expires_in": int(granted.expires_in_s),
        "scope": granted.scope,
    }
    return json.dumps(token, separators=(",", ":")), client_id


def _form(content_type: str, body: bytes) -> dict[str, str]:
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise _error("invalid_request", f"the body is {_FORM}")
    try:
        pairs = parse_qsl(
            body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS_MAX, errors="strict"
        )  # fmt: skip
    except ValueError:
        raise _error("invalid_request", "the body is not a form in UTF-8") from None
    form = dict(pairs)
    if len(form) != len(pairs):
        raise _error("invalid_request", "a parameter is given more than once")
    if any(len(value) > FIELD_MAX_CHARS or "\0" in value for value in form.values()):
        raise _error("invalid_request", f"a parameter is longer than {FIELD_MAX_CHARS} characters, or holds a NUL")
    return form


def _credentials(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    in_form = (form.get("client_id"), form.get("client_secret"))
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        in_header = _basic(encoded.strip())
        if (in_form[0] or in_header[0], in_form[1] or in_header[1]) != in_header:
            raise _error("invalid_request", "the client is named in the header and in the form, and differently")
        return in_header
    client_id, client_secret = in_form
    if not client_id or not client_secret:
        raise _error("invalid_request", "client_id and client_secret are missing")
    return client_id, client_secret


def _basic(encoded: str) -> tuple[str, str]:
    try:
        client_id, colon, secret = base64.b64decode(encoded, validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise _error("invalid_client", "the Authorization header is not HTTP Basic", status=UNAUTHORIZED) from None
    found = unquote_plus(client_id), unquote_plus(secret)
    if not colon or any(not each or len(each) > FIELD_MAX_CHARS or "\0" in each for each in found):
        raise _error("invalid_client", "HTTP Basic names a client and its secret", status=UNAUTHORIZED)
    return found


def _error(word: str, detail: str, *, status: int = BAD_REQUEST) -> Problem:
    headers = dict(NOT_STORED)
    if status == UNAUTHORIZED:
        headers["www-authenticate"] = 'Basic realm="openadr3"'
    return Problem(status, detail, headers=headers, more={"error": word, "error_description": detail})
