"""Room gateway, OpenADR 3 VEN: where a VTN's webhooks arrive. Mounted by bootstrap into the portal's process, the
only one that loads it and a web framework with it.

A notification only wakes the loop of that VTN (`NOTIFY`, so that it may run in another process), which then
asks the VTN itself. What the body says is never used: whoever could forge one gains an early poll. It must
carry the token we gave; where it is signed as well (Standard Webhooks, that token the key), rightly.
"""

import base64
import binascii
import hashlib
import hmac
from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse

from vpp.gateway.ven3.registration import Known, load_known, shows
from vpp.gateway.ven3.wake import CALLBACK_PATH, source_of, wake
from vpp.store.engine import Store

MAX_BODY_BYTES = 1024 * 1024
MAX_ECHO_CHARS = 1024
MAX_NAME_CHARS = 128


def callback_router(store: Store) -> APIRouter:
    """Return the routes `GET` and `POST /openadr3/callback/{peer}`."""
    router = APIRouter(prefix=CALLBACK_PATH, include_in_schema=False)

    @router.get("/{peer}")
    async def challenge(peer: str, echo: Annotated[str, Query(max_length=MAX_ECHO_CHARS)]) -> Response:
        """Say back what a VTN says before it subscribes us: it shows that the address is ours."""
        known = await _known(store, peer)
        if known is None or known.callback_hash is None:
            return PlainTextResponse("no VTN is expected here", status_code=404)
        return PlainTextResponse(echo, headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"})

    @router.post("/{peer}")
    async def notify(peer: str, request: Request, authorization: Annotated[str, Header()] = "") -> Response:
        """Take a notification: the token is checked, the body is read up to a bound and let go."""
        known = await _known(store, peer)
        scheme, _, token = authorization.partition(" ")
        if known is None or scheme.lower() != "bearer" or not shows(token.strip(), known.callback_hash):
            return PlainTextResponse(
                "the token is not the one we gave", status_code=401, headers={"WWW-Authenticate": "Bearer"}
            )
        body = await _read(request)
        if body is None:
            return PlainTextResponse(f"more than {MAX_BODY_BYTES} bytes", status_code=413)
        if not _signed_rightly(request, token.strip(), body):
            return PlainTextResponse("the signature is not of this body", status_code=401)
        await wake(store, source_of(peer))
        return Response(status_code=200)

    return router


async def _known(store: Store, peer: str) -> Known | None:
    """What we hold of the VTN a path names; anybody may write anything there."""
    if not peer.isprintable() or len(peer) > MAX_NAME_CHARS:
        return None
    async with store.begin() as connection:
        return await load_known(connection, source_of(peer))


async def _read(request: Request) -> bytes | None:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MAX_BODY_BYTES:
            return None
    return bytes(body)


def _signed_rightly(request: Request, token: str, body: bytes) -> bool:
    """Whether one of the signatures given is right; true where none is given, for OpenADR 3 wants none."""
    given = request.headers.get("webhook-signature")
    if given is None:
        return True
    stamp = [request.headers.get(name, "").encode() for name in ("webhook-id", "webhook-timestamp")]
    wanted = hmac.new(token.encode(), b".".join([*stamp, body]), hashlib.sha256).digest()
    return any(hmac.compare_digest(wanted, _decoded(each.removeprefix("v1,"))) for each in given.split())


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
