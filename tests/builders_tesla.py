"""Tesla's Fleet API as its documents describe it, in this process: settings, tokens, faults, a record of requests.

It is a stand-in, not Tesla: what it proves is that our requests have the documented shape and that
we cope with the documented faults.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

SITE = "1234567"

OWNER_TARIFF: dict[str, Any] = {
    "version": 1,
    "code": "PGE-E-TOU-C",
    "name": "Time of use",
    "utility": "PG&E",
    "currency": "USD",
    "energy_charges": {"ALL": {"rates": {"ALL": 0}}, "Summer": {"rates": {"ON_PEAK": 0.48, "OFF_PEAK": 0.29}}},
    "seasons": {
        "Summer": {
            "fromMonth": 1, "fromDay": 1, "toMonth": 12, "toDay": 31,
            "tou_periods": {
                "ON_PEAK": {"periods": [{"toDayOfWeek": 6, "fromHour": 16, "toHour": 21}]},
                "OFF_PEAK": {"periods": [{"toDayOfWeek": 6, "fromHour": 21, "toHour": 16}]},
            },
        }
    },
}  # fmt: skip


@dataclass(slots=True)
class Request:
    method: str
    path: str
    body: Any
    token: str


@dataclass(slots=True)
class Answer:
    """An answer to give instead of the usual one."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


class TeslaPeer:
    """One energy site behind the Fleet API.

    Faults: `answers[endpoint]` are given one by one before the usual answer; `silent_after_write`
    acts and then never answers; `ignored_writes` are accepted without effect.
    """

    def __init__(self) -> None:
        self.live: dict[str, Any] = {
            "percentage_charged": 80.0, "battery_power": 0, "grid_power": 1000, "solar_power": 0, "load_power": 1000,
            "grid_status": "Active", "island_status": "on_grid", "storm_mode_active": False,
            "grid_services_active": False, "timestamp": "2026-08-19T11:59:50-07:00",
        }  # fmt: skip
        self.settings: dict[str, Any] = {
            "default_real_mode": "self_consumption",
            "backup_reserve_percent": 20,
            "tariff_content_v2": OWNER_TARIFF,
        }
        self.components: dict[str, Any] = {
            "battery": True,
            "disallow_charge_from_grid_with_solar_installed": True,
            "customer_preferred_export_rule": "battery_ok",
        }
        self.requests: list[Request] = []
        self.refreshes: list[dict[str, Any]] = []
        self.valid_access = "access-0"
        self.valid_refresh = "refresh-0"
        self.answers: dict[str, list[Answer]] = {}
        self.silent_after_write = False
        self.ignored_writes = 0
        self.port = 0

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def token_url(self) -> str:
        return f"{self.base_url}/oauth2/v3/token"

    @property
    def writes(self) -> list[tuple[str, Any]]:
        """Settings written, by endpoint, in order."""
        return [(it.path.rsplit("/", 1)[1], it.body) for it in self.requests if it.method == "POST"]

    def secrets(self) -> "Secrets":
        """Credentials this peer accepts."""
        return Secrets(
            tesla_client_id="client", tesla_access_token=self.valid_access, tesla_refresh_token=self.valid_refresh
        )

    async def handle(self, request: web.Request) -> web.StreamResponse:
        endpoint = request.match_info["endpoint"]
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        body = await request.json() if request.can_read_body else None
        self.requests.append(Request(request.method, request.path, body, token))
        if token != self.valid_access:
            return web.json_response({"error": "invalid bearer token"}, status=401)
        if self.answers.get(endpoint):
            answer = self.answers[endpoint].pop(0)
            return web.json_response(answer.body, status=answer.status, headers=answer.headers)
        if request.match_info["site"] != SITE:
            return web.json_response({"error": "not_found"}, status=404)
        if request.method == "GET":
            return web.json_response({"response": self._read(endpoint)})
        self._write(body)
        if self.silent_after_write:
            await asyncio.sleep(3600)
        return web.json_response({"response": {"code": 201, "message": "Updated"}})

    async def renew(self, request: web.Request) -> web.StreamResponse:
        form = dict(await request.post())
        self.refreshes.append(form)
        await asyncio.sleep(0.02)
        if form.get("refresh_token") != self.valid_refresh:
            return web.json_response({"error": "invalid_grant"}, status=400)
        number = len(self.refreshes)
        self.valid_access, self.valid_refresh = f"access-{number}", f"refresh-{number}"
        return web.json_response({"access_token": self.valid_access, "refresh_token": self.valid_refresh})

    def _read(self, endpoint: str) -> dict[str, Any]:
        if endpoint == "live_status":
            return dict(self.live)
        settings = {key: without_zeros(value) if key == "tariff_content_v2" else value
                    for key, value in self.settings.items()}  # fmt: skip
        return {**settings, "components": dict(self.components), "battery_count": 1}

    def _write(self, body: dict[str, Any]) -> None:
        if self.ignored_writes > 0:
            self.ignored_writes -= 1
            return
        for key, value in body.get("tou_settings", body).items():
            (self.components if key in self.components else self.settings)[key] = value


class Secrets:
    """`vpp.ports.Credentials` from names and values."""

    def __init__(self, **secrets: str) -> None:
        self._secrets = secrets

    def get(self, name: str) -> str | None:
        return self._secrets.get(name)


def without_zeros(value: Any) -> Any:
    """As Tesla gives tariffs back: hours, minutes and days that are zero are left out."""
    if isinstance(value, dict):
        return {key: without_zeros(inner) for key, inner in value.items() if inner != 0 or isinstance(inner, dict)}
    return [without_zeros(inner) for inner in value] if isinstance(value, list) else value


@asynccontextmanager
async def serving(peer: TeslaPeer) -> AsyncIterator[TeslaPeer]:
    """Serve a site on a free port of loopback while the block runs."""
    app = web.Application()
    app.router.add_route("*", "/api/1/energy_sites/{site}/{endpoint}", peer.handle)
    app.router.add_post("/oauth2/v3/token", peer.renew)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.05)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    peer.port = runner.addresses[0][1]
    try:
        yield peer
    finally:
        await runner.cleanup()
