"""Room simulation: a look-alike of Tesla's Fleet API for energy sites, as its public documents describe it.

Called by `devices`. Powers are W, energies Wh; battery_power is positive for discharge, grid_power for
import. There is no kW setpoint and no timer: a setting stays until it is changed.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from vpp.domain.units import percent_from_fraction, w_from_kw
from vpp.ports import Clock
from vpp.simulation.faults import FaultKind
from vpp.simulation.tesla_account import DAY, FIRST_REFRESH_TOKEN, Account, Budget
from vpp.simulation.tesla_modes import EXPORT_RULES, MODES, TeslaSettings
from vpp.simulation.world import World

SITE = "/api/1/energy_sites/{energy_site_id}"
RULE, NO_GRID_CHARGE = "customer_preferred_export_rule", "disallow_charge_from_grid_with_solar_installed"
Handler = Callable[[int, Request], Awaitable[Response]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TeslaOptions:
    """How strict and how slow the virtual cloud is.

    Attributes:
        effect_delay_s: virtual seconds from an accepted setting to the battery following it.
        settings_per_site_day: setting changes a site may have within 24 hours; None is no limit, as on the
            plans sold since 2025. The older plan allowed 5.
        reads_per_site_minute: reads of a site within a minute; None is no limit.
        refresh_token: the first refresh token that works.
    """

    effect_delay_s: float = 60.0
    settings_per_site_day: int | None = None
    reads_per_site_minute: int | None = None
    refresh_token: str = FIRST_REFRESH_TOKEN


class TeslaCloud:
    """The cloud's state and handlers; `app` is what a web server serves."""

    def __init__(self, world: World, clock: Clock, options: TeslaOptions | None = None) -> None:
        self._world = world
        self._clock = clock
        self._options = options or TeslaOptions()
        self.account = Account(self._options.refresh_token)
        self._rows = {
            virtual.site.address: row
            for row, virtual in enumerate(world.fleet.sites)
            if virtual.site.adapter == "tesla"
        }
        self._reads = {
            row: Budget(self._options.reads_per_site_minute, timedelta(minutes=1)) for row in self._rows.values()
        }
        self._writes = {row: Budget(self._options.settings_per_site_day, DAY) for row in self._rows.values()}
        reads = {"live_status": self._live_status, "site_info": self._site_info}
        writes = {
            "backup": self._backup,
            "operation": self._operation,
            "grid_import_export": self._grid_import_export,
            "time_of_use_settings": self._time_of_use_settings,
            "storm_mode": self._storm_mode,
            "off_grid_vehicle_charging_reserve": self._vehicle_reserve,
        }
        self.app = Starlette(
            routes=[
                Route("/oauth2/v3/token", self._token, methods=["POST"]),
                Route("/api/1/products", self._products),
                *(Route(f"{SITE}/{name}", self._site(self._reads, handler)) for name, handler in reads.items()),
                *(
                    Route(f"{SITE}/{name}", self._site(self._writes, handler), methods=["POST"])
                    for name, handler in writes.items()
                ),
            ]
        )

    async def _token(self, request: Request) -> Response:
        body = await request.body()
        fields = {name: values[0] for name, values in parse_qs(body.decode("latin-1")).items()}
        if request.headers.get("content-type", "").startswith("application/json"):
            fields = await request.json()
        if fields.get("grant_type") != "refresh_token":
            return JSONResponse({"error": "unsupported_grant_type"}, 400)
        tokens = self.account.refresh(str(fields.get("refresh_token", "")), self._clock.now())
        if tokens is None:
            return JSONResponse({"error": "login_required", "error_description": "The refresh token is invalid"}, 401)
        return JSONResponse(
            {
                "access_token": tokens.access_token,
                "refresh_token": tokens.refresh_token,
                "expires_in": tokens.expires_in_s,
                "token_type": "Bearer",
            }
        )

    def _signed_in(self, request: Request) -> bool:
        return self.account.allows(request.headers.get("authorization", ""), self._clock.now())

    async def _products(self, request: Request) -> Response:
        if not self._signed_in(request):
            return _error(401, "token expired (401)")
        sites = [
            {
                "energy_site_id": int(address),
                "resource_type": "battery",
                "site_name": self._world.fleet.sites[row].site.name,
                "gateway_id": f"SIM-{address}",
                "battery_type": "ac_powerwall",
                "components": {"battery": True, "solar": self._world.fleet.sites[row].recipe.pv_kw > 0, "grid": True},
            }
            for address, row in self._rows.items()
        ]
        return JSONResponse({"response": sites, "count": len(sites)})

    def _site(self, budgets: dict[int, Budget], handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """What every call to a site goes through first: sign-in, the site, its budget, its faults."""

        async def answer(request: Request) -> Response:
            now = self._clock.now()
            if not self._signed_in(request):
                return _error(401, "token expired (401)")
            row = self._rows.get(request.path_params["energy_site_id"])
            if row is None:
                return _error(404, "not_found")
            site_id = self._world.site_ids[row]
            slow = self._world.faults.active(site_id, now, FaultKind.SLOW)
            if slow is not None:
                await asyncio.sleep(slow.amount)
            if self._world.faults.active(site_id, now, FaultKind.OFFLINE) is not None:
                return _error(408, "device unavailable: device is offline or asleep")
            wait_s = budgets[row].spend(now)
            if wait_s > 0:
                return _error(
                    429, "rate limited", {"Retry-After": str(round(wait_s)), "RateLimit-Reset": str(round(wait_s))}
                )
            self._world.tell_time(now)
            return await handler(row, request)

        return answer

    async def _live_status(self, row: int, _: Request) -> Response:
        view = self._world.view(row)
        capacity_wh = w_from_kw(self._world.fleet.sites[row].site.battery.capacity_kwh)
        return JSONResponse(
            {
                "response": {
                    "solar_power": round(w_from_kw(view.pv_kw), 3),
                    "energy_left": round(capacity_wh * view.soc, 3),
                    "total_pack_energy": round(capacity_wh),
                    "percentage_charged": percent_from_fraction(view.soc),
                    "backup_capable": True,
                    "battery_power": round(w_from_kw(view.battery_kw), 3),
                    "load_power": round(w_from_kw(view.load_kw), 3),
                    "grid_power": round(w_from_kw(-view.grid_kw), 3),
                    "grid_status": "Inactive" if view.islanded else "Active",
                    "island_status": "off_grid" if view.islanded else "on_grid",
                    "grid_services_active": False,
                    "grid_services_power": 0,
                    "generator_power": 0,
                    "storm_mode_active": False,
                    "timestamp": view.at.isoformat(timespec="seconds"),
                    "wall_connectors": [],
                }
            }
        )

    async def _site_info(self, row: int, _: Request) -> Response:
        settings = self._world.tesla(row)
        virtual = self._world.fleet.sites[row]
        battery = virtual.site.battery
        return JSONResponse(
            {
                "response": {
                    "id": f"SIM-{virtual.site.address}",
                    "site_name": virtual.site.name,
                    "backup_reserve_percent": settings.backup_reserve_percent,
                    "default_real_mode": settings.default_real_mode,
                    "installation_time_zone": virtual.site.time_zone,
                    "version": "26.10.0 simulated",
                    "battery_count": max(1, round(battery.capacity_kwh / 13.5)),
                    "nameplate_power": round(w_from_kw(battery.max_discharge_kw)),
                    "nameplate_energy": round(w_from_kw(battery.capacity_kwh)),
                    "max_site_meter_power_ac": round(w_from_kw(virtual.site.import_limit_kw)),
                    "min_site_meter_power_ac": -round(w_from_kw(virtual.site.export_limit_kw)),
                    "components": {
                        "battery": True,
                        "solar": virtual.recipe.pv_kw > 0,
                        "grid": True,
                        "grid_services_enabled": False,
                        RULE: settings.customer_preferred_export_rule,
                        NO_GRID_CHARGE: settings.disallow_charge_from_grid_with_solar_installed,
                        "storm_mode_capable": True,
                        "net_meter_mode": settings.customer_preferred_export_rule,
                    },
                    "user_settings": {"storm_mode_enabled": settings.storm_mode_enabled},
                    "off_grid_vehicle_charging_reserve_percent": settings.off_grid_vehicle_charging_reserve_percent,
                    "tou_settings": {"optimization_strategy": "economics", "schedule": []},
                    "tariff_content": settings.tariff_content_v2,
                    "tariff_content_v2": settings.tariff_content_v2,
                }
            }
        )

    async def _backup(self, row: int, request: Request) -> Response:
        percent = (await _fields(request)).get("backup_reserve_percent")
        if not _percent(percent):
            return _error(400, "invalid_request: backup_reserve_percent is a number from 0 to 100")
        return self._set(row, backup_reserve_percent=percent)

    async def _operation(self, row: int, request: Request) -> Response:
        mode = (await _fields(request)).get("default_real_mode")
        if mode not in MODES:
            return _error(400, f"invalid_request: default_real_mode is one of {', '.join(MODES)}")
        return self._set(row, default_real_mode=mode)

    async def _grid_import_export(self, row: int, request: Request) -> Response:
        fields = await _fields(request)
        changes = {name: fields[name] for name in (RULE, NO_GRID_CHARGE) if fields.get(name) is not None}
        bad_rule = RULE in changes and changes[RULE] not in EXPORT_RULES
        if not changes or bad_rule or not isinstance(changes.get(NO_GRID_CHARGE, False), bool):
            return _error(400, f"invalid_request: {RULE} ({', '.join(EXPORT_RULES)}) or {NO_GRID_CHARGE} (true, false)")
        return self._set(row, **changes)

    async def _time_of_use_settings(self, row: int, request: Request) -> Response:
        settings = (await _fields(request)).get("tou_settings")
        tariff = settings.get("tariff_content_v2") if isinstance(settings, dict) else None
        if not isinstance(tariff, dict) or not isinstance(tariff.get("seasons"), dict):
            return _error(400, "invalid_request: tou_settings.tariff_content_v2 with seasons")
        return self._set(row, tariff_content_v2=tariff)

    async def _storm_mode(self, row: int, request: Request) -> Response:
        enabled = (await _fields(request)).get("enabled")
        if not isinstance(enabled, bool):
            return _error(400, "invalid_request: enabled is true or false")
        return self._set(row, storm_mode_enabled=enabled)

    async def _vehicle_reserve(self, row: int, request: Request) -> Response:
        percent = (await _fields(request)).get("off_grid_vehicle_charging_reserve_percent")
        if not _percent(percent):
            return _error(400, "invalid_request: off_grid_vehicle_charging_reserve_percent is a number from 0 to 100")
        return self._set(row, off_grid_vehicle_charging_reserve_percent=percent)

    def _set(self, row: int, **changes: Any) -> Response:
        """Accept settings; a site that ignores writes says the same and forgets them."""
        world = self._world
        if world.faults.active(world.site_ids[row], world.device_time, FaultKind.WRITE_IGNORED) is None:
            settings: TeslaSettings = world.tesla(row).changed(**changes)
            world.set_tesla(row, settings, world.device_time, effect_delay_s=self._options.effect_delay_s)
        return JSONResponse({"response": {"code": 201, "message": "Updated"}}, 200)


async def _fields(request: Request) -> dict[str, Any]:
    try:
        body = await request.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def _percent(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 100


def _error(status: int, error: str, headers: dict[str, str] | None = None) -> Response:
    return JSONResponse({"response": None, "error": error, "error_description": ""}, status, headers)
