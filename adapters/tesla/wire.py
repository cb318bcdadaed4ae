"""Fleet API bodies to values and back; called by `adapters.tesla` only.

As delivered: watts and percent; battery power is positive for discharge, which is ours; grid power is
positive for import, which `read_live_status` flips, here and nowhere else. Tesla leaves fields out
rather than sending null, and leaves zeros out of tariffs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from vpp.domain.errors import ProtocolError, Rejected
from vpp.domain.units import fraction_from_percent, kw_from_w, percent_from_fraction

Json = Mapping[str, Any]

MODE = "default_real_mode"
RESERVE = "backup_reserve_percent"
EXPORT_RULE = "customer_preferred_export_rule"
NO_GRID_CHARGE = "disallow_charge_from_grid_with_solar_installed"
TARIFF = "tariff_content_v2"
SETTINGS = (MODE, RESERVE, EXPORT_RULE, NO_GRID_CHARGE, TARIFF)
"""The settings a command may change, by Tesla's names."""

AUTONOMOUS = "autonomous"
BATTERY_OK = "battery_ok"

_ENDPOINTS = {
    RESERVE: "backup",
    MODE: "operation",
    EXPORT_RULE: "grid_import_export",
    NO_GRID_CHARGE: "grid_import_export",
    TARIFF: "time_of_use_settings",
}


@dataclass(frozen=True, slots=True)
class LiveStatus:
    """One live_status: power [kW], discharge and export positive; None where Tesla left it out."""

    measured_at: datetime | None
    battery_kw: float | None
    grid_kw: float | None
    soc: float | None
    islanded: bool
    storm_mode: bool
    grid_services: bool


def path(site_address: str, endpoint: str) -> str:
    """The path of one of a site's endpoints."""
    return f"/api/1/energy_sites/{site_address}/{endpoint}"


def response_of(body: Json) -> Json:
    """The `response` object of an answer.

    Raises:
        Rejected: status 200 with an error inside.
        ProtocolError: there is no such object.
    """
    if body.get("error"):
        raise Rejected(f"{body['error']}: {body.get('error_description') or 'no reason given'}")
    response = body.get("response")
    if not isinstance(response, Mapping):
        raise ProtocolError("the answer holds no response object")
    code = response.get("code")
    if isinstance(code, int) and code >= 400:
        raise Rejected(f"code {code}: {response.get('message')}")
    return response


def read_live_status(response: Json) -> LiveStatus:
    """Decode live_status."""
    battery_w, grid_w = _number(response, "battery_power"), _number(response, "grid_power")
    percent = _number(response, "percentage_charged")
    return LiveStatus(
        measured_at=_instant(response.get("timestamp")),
        battery_kw=None if battery_w is None else kw_from_w(battery_w),
        grid_kw=None if grid_w is None else -kw_from_w(grid_w),
        soc=None if percent is None else fraction_from_percent(percent),
        islanded=str(response.get("island_status", "")).startswith("off_grid")
        or response.get("grid_status") == "Inactive",
        storm_mode=response.get("storm_mode_active") is True,
        grid_services=response.get("grid_services_active") is True,
    )


def read_settings(response: Json) -> dict[str, Any]:
    """The settings a command may change, from site_info, in Tesla's own units; None where left out."""
    components = response.get("components")
    inner: Json = components if isinstance(components, Mapping) else {}
    return {
        MODE: response.get(MODE),
        RESERVE: _number(response, RESERVE),
        EXPORT_RULE: inner.get(EXPORT_RULE, response.get(EXPORT_RULE)),
        NO_GRID_CHARGE: inner.get(NO_GRID_CHARGE, response.get(NO_GRID_CHARGE)),
        TARIFF: response.get(TARIFF),
    }


def has_battery(response: Json) -> bool:
    """site_info: the site has a battery that may be configured."""
    components = response.get("components")
    inner: Json = components if isinstance(components, Mapping) else {}
    return inner.get("battery") is not False and response.get("battery_count") != 0


def reserve_percent(reserve_soc: float) -> int:
    """The whole percentage that is not below a reserve."""
    return min(100, math.ceil(percent_from_fraction(reserve_soc) - 1e-9))


def same(name: str, one: Any, other: Any) -> bool:
    """Whether two values of a setting mean the same."""
    if name == TARIFF:
        return bool(_plain(one) == _plain(other))
    return bool(one == other)


def differences(wanted: Json, present: Json) -> list[str]:
    """Names of settings that are wanted and read otherwise."""
    return [
        name for name in SETTINGS if wanted.get(name) is not None and not same(name, wanted[name], present.get(name))
    ]


def write_of(name: str, wanted: Json) -> tuple[str, dict[str, Any]]:
    """Endpoint and body that set `name`; export rule and grid charging travel together."""
    endpoint = _ENDPOINTS[name]
    if endpoint == "grid_import_export":
        both = (NO_GRID_CHARGE, EXPORT_RULE)
        return endpoint, {key: wanted[key] for key in both if wanted.get(key) is not None}
    if name == TARIFF:
        return endpoint, {"tou_settings": {TARIFF: wanted[TARIFF]}}
    if name == RESERVE:
        return endpoint, {RESERVE: round(wanted[RESERVE])}
    return endpoint, {name: wanted[name]}


def _number(source: Json, name: str) -> float | None:
    value = source.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return value


def _instant(text: Any) -> datetime | None:
    try:
        at = datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at.astimezone(UTC) if at.tzinfo else None


def _plain(value: Any) -> Any:
    """A tariff without what Tesla leaves out on the way back: zeros, nulls, empty objects."""
    if isinstance(value, Mapping):
        items = {key: _plain(inner) for key, inner in value.items()}
        return {key: inner for key, inner in items.items() if inner} or None
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value] or None
    return value
