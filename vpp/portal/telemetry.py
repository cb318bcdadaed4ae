"""Readings from devices that report by themselves. Mounted by `app.create_app`.

The body never becomes model objects: see `vpp.telemetry.intake`. A 202 means the readings are on the stream
and will be in the database; a 503 with Retry-After means none was taken.
"""

from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from vpp.portal.auth import Subject, require_token
from vpp.portal.context import Context, Ctx
from vpp.portal.problems import problem
from vpp.telemetry import (
    MAX_BODY_BYTES,
    MAX_READINGS,
    KnownDevices,
    TelemetryRefused,
    publish_batch,
    read_posted,
    refuse_unknown,
)

router = APIRouter(prefix="/api/v1", tags=["telemetry"])

_NUMBER: dict[str, Any] = {"type": ["number", "null"]}
_SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["readings"],
    "additionalProperties": False,
    "properties": {
        "readings": {
            "type": "array",
            "maxItems": MAX_READINGS,
            "items": {
                "type": "object",
                "required": ["device_id", "measured_at"],
                "additionalProperties": False,
                "properties": {
                    "device_id": {"type": "integer", "minimum": 1, "maximum": 2147483647},
                    "measured_at": {"type": "string", "format": "date-time"},
                    "battery_kw": _NUMBER | {"description": "discharge positive [kW]"},
                    "grid_kw": _NUMBER | {"description": "export positive [kW]"},
                    "soc": _NUMBER | {"description": "state of charge, 0-1"},
                    "discharged_kwh_register": _NUMBER,
                    "charged_kwh_register": _NUMBER,
                    "islanded": {"type": "boolean"},
                    "controllable": {"type": "boolean"},
                },
            },
        }
    },
}
_OPENAPI: dict[str, Any] = {"requestBody": {"required": True, "content": {"application/json": {"schema": _SCHEMA}}}}


@router.post("/telemetry", status_code=202, openapi_extra=_OPENAPI, responses={413: {}, 422: {}, 503: {}})
async def post_telemetry(
    request: Request, context: Ctx, subject: Annotated[Subject, Depends(require_token("telemetry"))]
) -> Response:
    """Take up to 5,000 readings, all or none. Sending the same again is harmless."""
    body = await _read_body(request)
    if body is None:
        return problem(request, 413, "Too large", f"send at most {MAX_BODY_BYTES} bytes a request")
    try:
        batch = read_posted(body, now=context.clock.now())
        refuse_unknown(batch, await _known_devices(request, context).unknown(subject.tenant_id, batch["device_id"]))
    except TelemetryRefused as refused:
        listed = [asdict(one) for one in refused.problems]
        return problem(request, 422, "Not acceptable as given", str(refused), problems=listed)
    accepted = await publish_batch(context.store, batch)
    return JSONResponse({"accepted": accepted}, 202)


async def _read_body(request: Request) -> bytes | None:
    """The body, or None if it is longer than we take."""
    parts: list[bytes] = []
    length = 0
    async for part in request.stream():
        length += len(part)
        if length > MAX_BODY_BYTES:
            return None
        parts.append(part)
    return b"".join(parts)


def _known_devices(request: Request, context: Context) -> KnownDevices:
    """The application's cache of device numbers, made at the first request."""
    state = request.app.state
    if not hasattr(state, "known_devices"):
        state.known_devices = KnownDevices(context.store)
    known: KnownDevices = state.known_devices
    return known
