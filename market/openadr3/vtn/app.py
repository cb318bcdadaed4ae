"""Our VTN as an application for each version of OpenADR 3, to be mounted at its base path.

Called by bootstrap and the tests. Apart from the pages' application, so that every answer, whatever goes wrong, is
one that OpenADR's document lists, with a `problem` as its body.
"""

import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import APIRouter, FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from market.openadr3.vtn.access import RateLimit, caller_of, require_scope
from market.openadr3.vtn.bodies import read_bounded
from market.openadr3.vtn.calls import Call, Desk
from market.openadr3.vtn.objects import HANDLERS
from market.openadr3.vtn.operations import (
    ObjectOperation,
    TopicOperation,
    operations_301,
    operations_310,
    topic_operations,
)
from market.openadr3.vtn.privacy import is_ven, visible
from market.openadr3.vtn.problems import FAILED, FORBIDDEN, NOT_FOUND, Problem, problem_response
from market.openadr3.vtn.queries import object_id
from market.openadr3.vtn.tokens import NOT_STORED, token_answer
from market.openadr3.vtn.versions import VERSIONS, Version
from vpp.domain.openadr3 import VERSION
from vpp.domain.peer import Caller, Direction, Protocol
from vpp.ports import Authority, CallbackCheck, Clock, MessageLog, Notifiers, ObjectShelf

_log = structlog.get_logger()
_JSON = "application/json"
_AUTH_LISTED = {"3.1.0": frozenset({200, 400, 401, 500, 501}), "3.0.1": frozenset({200, 400, 403, 500})}
_NOTIFIERS_COST = 20.0
"""In requests: the broker is asked to let the caller in, on a connection of its own."""
_BYTES_A_REQUEST = 1000
"""A VEN's longer body counts as so many requests more as it has of these: it takes as much longer to read."""
Endpoint = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnParts:
    """What a VTN is made of; both versions share one.

    Attributes:
        callbacks: asked before a subscription is kept; None takes any callback address.
        notifiers: tells of MQTT; None where there are only webhooks.
        issues_tokens: whether `/auth/token` is ours; where it is not it answers 501.
        requests_per_second: for each client, after a burst of two seconds' worth.
    """

    shelf: ObjectShelf
    authority: Authority
    clock: Clock
    log: MessageLog
    callbacks: CallbackCheck | None = None
    notifiers: Notifiers | None = None
    issues_tokens: bool = True
    requests_per_second: float = 500.0
    token_requests_per_second: float = 50.0


def create_vtn(parts: VtnParts) -> dict[str, FastAPI]:
    """Return the applications by version: `{"3.1.0": …, "3.0.1": …}`, with one rate limit between them."""
    limit = RateLimit(parts.requests_per_second, int(2 * parts.requests_per_second))
    token_limit = RateLimit(parts.token_requests_per_second, int(4 * parts.token_requests_per_second))
    return {name: _Vtn(parts, version, limit, token_limit).application() for name, version in VERSIONS.items()}


class _Vtn:
    """One version's application."""

    def __init__(self, parts: VtnParts, version: Version, limit: RateLimit, token_limit: RateLimit) -> None:
        self._parts = parts
        self._version = version
        self._limit = limit
        self._token_limit = token_limit
        self._desk = Desk(shelf=parts.shelf, clock=parts.clock, callbacks=parts.callbacks)

    def application(self) -> FastAPI:
        """Return the application with every operation of the version."""
        router = APIRouter(redirect_slashes=False)
        newer = self._version.name == VERSION
        for operation in operations_310() if newer else operations_301():
            router.add_route(operation.path, self._object_endpoint(operation), methods=[operation.method])
        router.add_route("/auth/token", self._token, methods=["POST"])
        if newer:
            router.add_route("/auth/server", self._auth_server, methods=["GET"])
            router.add_route("/notifiers", self._notifiers, methods=["GET"])
            for topic in topic_operations():
                path = f"/notifiers/mqtt/topics/{topic.path}"
                router.add_route(path, self._topic_endpoint(topic), methods=["GET"])
        app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
        app.include_router(router)
        app.add_exception_handler(HTTPException, _routing_problem)
        return app

    def _object_endpoint(self, operation: ObjectOperation) -> Endpoint:
        handler = HANDLERS[operation.action]
        kind = f"{operation.method} {operation.path}"

        async def endpoint(request: Request) -> Response:
            caller, body = None, b""
            try:
                caller = await self._caller(request, operation.scopes)
                if operation.method in ("POST", "PUT"):
                    body = await read_bounded(request)
                    if len(body) > _BYTES_A_REQUEST and is_ven(caller):
                        self._limit.take(caller.client_id, len(body) / _BYTES_A_REQUEST)
                status, text = await handler(
                    Call(
                        desk=self._desk,
                        version=self._version,
                        operation=operation,
                        caller=caller,
                        request=request,
                        body=body,
                    )
                )
                response = Response(text.encode(), status_code=status, media_type=_JSON)
            except Exception as error:  # noqa: BLE001  (whatever happens is answered as OpenADR has it)
                response = _answer_to(error, operation.listed, request)
            self._note(kind, response, caller, request, body)
            return response

        return endpoint

    def _topic_endpoint(self, operation: TopicOperation) -> Endpoint:
        async def endpoint(request: Request) -> Response:
            caller = None
            try:
                caller = await self._caller(request, operation.scopes)
                topics = await self._topics(request, operation, caller)
                response = Response(json.dumps({"topics": topics}), media_type=_JSON)
            except Exception as error:  # noqa: BLE001
                response = _answer_to(error, operation.listed, request)
            self._note(f"GET /notifiers/mqtt/topics/{operation.path}", response, caller, request, b"")
            return response

        return endpoint

    async def _caller(self, request: Request, scopes: frozenset[str]) -> Caller:
        caller, _ = await caller_of(self._parts.authority, request.headers.get("authorization"))
        self._limit.take(caller.client_id)
        require_scope(caller, scopes)
        return caller

    async def _topics(self, request: Request, operation: TopicOperation, caller: Caller) -> dict[str, str]:
        path = operation.path
        if operation.kind is None and path != "programs" and is_ven(caller):
            raise Problem(FORBIDDEN, f"only business logic is told of all {path}")
        if operation.kind is not None:
            name = object_id(request.path_params["object_id"], "objectID")
            stored, _ = await visible(self._parts.shelf, caller, operation.kind, name)
            path = path.replace("{object_id}", stored.id)
        topics = await self._parts.notifiers.topics(path, caller) if self._parts.notifiers is not None else None
        if topics is None:
            raise Problem(NOT_FOUND, "this VTN has no MQTT broker")
        return topics

    async def _notifiers(self, request: Request) -> Response:
        """No refusal is listed for `/notifiers`: whoever shows no good token is told of webhooks alone."""
        binding = None
        try:
            caller, token = await caller_of(self._parts.authority, request.headers.get("authorization"))
            self._limit.take(caller.client_id, _NOTIFIERS_COST)
            if self._parts.notifiers is not None:
                binding = await self._parts.notifiers.mqtt_binding(caller, access_token=token)
        except Problem:
            pass
        except Exception as error:  # noqa: BLE001
            _log.error("openadr3_request_failed", path=request.url.path, method=request.method, exc_info=error)
        body: dict[str, Any] = {"WEBHOOK": True} | ({"MQTT": binding} if binding is not None else {})
        return Response(json.dumps(body), media_type=_JSON)

    async def _auth_server(self, request: Request) -> Response:
        url = self._parts.authority.token_url or str(request.url).removesuffix("/server") + "/token"
        return Response(json.dumps({"tokenURL": url}), media_type=_JSON)

    async def _token(self, request: Request) -> Response:
        client_id = None
        try:
            self._token_limit.take(request.client.host if request.client else "")
            if not self._parts.issues_tokens:
                raise Problem(501, "tokens are issued elsewhere; see /auth/server")
            body = await read_bounded(request)
            text, client_id = await token_answer(self._parts.authority, request.headers, body)
            response = Response(text, media_type=_JSON, headers=NOT_STORED)
        except Exception as error:  # noqa: BLE001
            response = _answer_to(error, _AUTH_LISTED[self._version.name], request)
        self._parts.log.note(
            protocol=Protocol.OPENADR3, direction=Direction.IN, kind="POST /auth/token",
            status=str(response.status_code), peer=client_id,
        )  # fmt: skip
        return response

    def _note(self, kind: str, response: Response, caller: Caller | None, request: Request, body: bytes) -> None:
        failed = response.status_code >= 400
        asked = f"{request.url.path}?{request.url.query}".removesuffix("?")
        self._parts.log.note(
            protocol=Protocol.OPENADR3,
            direction=Direction.IN,
            kind=kind,
            status=str(response.status_code),
            peer=None if caller is None else caller.peer_id or caller.client_id,
            summary=f"{asked}: {_detail(response)}" if failed else asked,
            body=bytes(response.body) if failed and not body else body,
        )


def _detail(response: Response) -> str:
    """Why a request was refused, as its problem says."""
    return str(json.loads(bytes(response.body)).get("detail", ""))


def _answer_to(error: Exception, listed: frozenset[int], request: Request) -> Response:
    if isinstance(error, Problem):
        return problem_response(error, listed)
    _log.error("openadr3_request_failed", path=request.url.path, method=request.method, exc_info=error)
    return problem_response(Problem(FAILED, "this VTN could not do what was asked; try again later"), listed)


async def _routing_problem(request: Request, error: Exception) -> Response:
    """What Starlette refuses before an operation is reached: no such path, or not by that method."""
    status = error.status_code if isinstance(error, HTTPException) else FAILED
    headers = getattr(error, "headers", None)
    if status == 405:
        return problem_response(Problem(405, f"{request.method} is not for {request.url.path}", headers=headers), None)
    return problem_response(Problem(NOT_FOUND, "unrecognized URL"), None)
