"""Which reports a peer's configuration asks of it, of a VEN below us and of a VTN above us alike. Free of SQL.

`reports` is a list of report names (`["HISTORY_USAGE"]`), or an object that says by name how often:
`{"TELEMETRY_USAGE": {"granularity_s": 60, "back_s": 300}, "HISTORY_USAGE": {"period_s": 86400}}`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

from vpp.domain.errors import InvalidRequest

NAMES = ("TELEMETRY_USAGE", "TELEMETRY_STATUS", "HISTORY_USAGE")
_DEFAULT_S = {"granularity_s": 0.0, "back_s": 0.0, "period_s": 86_400.0}
_MOST_S = 366 * 86_400.0
_LEAST_PERIOD_S = 900.0


@dataclass(frozen=True, slots=True)
class ReportWish:
    """How often a report is wanted.

    Attributes:
        granularity, back: a value every so long, sent every so long; zero and zero is one value, once.
        period: of a history, the whole periods that are asked for, one after the other.
    """

    granularity: timedelta
    back: timedelta
    period: timedelta


def report_wishes(config: Mapping[str, object]) -> dict[str, ReportWish]:
    """Return what is wanted of every report of a name.

    Raises:
        InvalidRequest: a name or a number cannot be.
    """
    stated = config.get("reports")
    if stated is None:
        return {}
    if isinstance(stated, list):
        stated = {name if isinstance(name, str) else repr(name): {} for name in stated}
    if not isinstance(stated, Mapping):
        raise InvalidRequest("config.reports", stated, "a list of reports, or an object of them")
    return {str(name): _wish(str(name), times) for name, times in stated.items()}


def _wish(name: str, times: object) -> ReportWish:
    if name not in NAMES and not name.startswith("x-"):
        raise InvalidRequest("config.reports", name, f"one of {', '.join(NAMES)}, or a name that begins with x-")
    if not isinstance(times, Mapping) or not set(times) <= set(_DEFAULT_S):
        raise InvalidRequest(f"config.reports.{name}", times, f"an object with any of {', '.join(_DEFAULT_S)}")
    seconds = {key: _seconds(name, key, times.get(key, default)) for key, default in _DEFAULT_S.items()}
    if seconds["period_s"] < _LEAST_PERIOD_S:
        raise InvalidRequest(f"config.reports.{name}.period_s", seconds["period_s"], f"{_LEAST_PERIOD_S:g} at least")
    return ReportWish(*(timedelta(seconds=seconds[key]) for key in _DEFAULT_S))


def _seconds(name: str, key: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= _MOST_S:
        raise InvalidRequest(f"config.reports.{name}.{key}", value, f"0 to {_MOST_S:g} seconds")
    return float(value)
