"""Events as the operator states them to the API, for lives of peers."""

from datetime import UTC, datetime, timedelta
from typing import Any

CONTEXT = "http://utility.example/flat"


def at(from_now_s: float) -> str:
    """An instant so many seconds from now."""
    return (datetime.now(UTC) + timedelta(seconds=from_now_s)).isoformat()


def levels(*values: int, length_s: float = 1800.0) -> dict[str, Any]:
    """A SIMPLE signal with an interval for each level."""
    return {"type": "SIMPLE", "name": "SIMPLE/level", "intervals": _intervals(values, length_s)}


def setpoints(*values_kw: float, length_s: float = 1800.0) -> dict[str, Any]:
    """A LOAD_DISPATCH signal in kW with an interval for each value."""
    signal = {"type": "DISPATCH_SETPOINT", "unit": "KW", "name": "LOAD_DISPATCH/setpoint"}
    return signal | {"intervals": _intervals(values_kw, length_s)}


def for_ven(ven_id: str, *series: dict[str, Any], start_at: str, **more: Any) -> dict[str, Any]:
    """An event for one VEN."""
    targets = [{"kind": "ven", "value": ven_id}]
    return {"program": CONTEXT, "start_at": start_at, "series": list(series), "targets": targets, **more}


def _intervals(values: tuple[float, ...], length_s: float) -> list[dict[str, Any]]:
    return [{"duration_s": length_s, "values": [value]} for value in values]
