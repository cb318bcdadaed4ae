"""Room gateway: which reports we offer a VTN, and which demands for reports can be met. Called by `demands`.

What our VTN offers its VENs: `vtn.offering`; demands are accepted by the same rules, of either side.

What our points mean. OpenADR 2.0b counts consumption where it says nothing else; ours are what its events
ask for: power and energy the fleet delivers toward the grid in events, positive, at the AC terminals of the
batteries. They are not the net consumption of the sites, and where no event runs there is no value.

* `vpp-delivered-power` [kW]: at the end of each interval.
* `vpp-delivered-energy` [kWh]: over each interval, from power read every five minutes.
* `vpp-status`: online and override, with the power delivered, owed and committed (`measures`).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import PointOffer, ReportDemand, ReportOffer
from vpp.domain.time import Interval

POWER, ENERGY, STATUS = "vpp-delivered-power", "vpp-delivered-energy", "vpp-status"
USAGE_SPECIFIER = "vpp-telemetry-usage"
STATUS_SPECIFIER = "vpp-telemetry-status"
HISTORY_SPECIFIER = "vpp-history-usage"
METADATA = "METADATA"
"""The specifier by which a VTN asks for our offers themselves."""

TELEMETRY_USAGE, TELEMETRY_STATUS, HISTORY_USAGE = "TELEMETRY_USAGE", "TELEMETRY_STATUS", "HISTORY_USAGE"
MIN_SAMPLING = timedelta(minutes=1)
MAX_SAMPLING = timedelta(hours=1)
HISTORY_KEPT = timedelta(hours=48)
"""How far back readings are kept as they came."""
MAX_HISTORY = 288
MAX_PERIOD_S = 366 * 86_400.0
MAX_ID_LENGTH = 256

_REPORTS: dict[str, tuple[str, tuple[str, ...]]] = {
    USAGE_SPECIFIER: (TELEMETRY_USAGE, (POWER, ENERGY)),
    STATUS_SPECIFIER: (TELEMETRY_STATUS, (STATUS,)),
    HISTORY_SPECIFIER: (HISTORY_USAGE, (POWER, ENERGY)),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Catalogue:
    """Which reports one of us can send, and how finely.

    Attributes:
        reports: name and points of each report, by its specifier.
        sampling: the least and the longest granularity, zero aside.
        history_step: what a granularity of zero means for a history; zero: values as they are held.
        history_kept: how far back a history goes.
        max_history: values a history has at most; None: any number.
        min_back: how often a report is sent at most, zero aside.
    """

    reports: Mapping[str, tuple[str, tuple[str, ...]]]
    sampling: tuple[timedelta, timedelta]
    history_step: timedelta
    history_kept: timedelta
    max_history: int | None = None
    min_back: timedelta = timedelta(0)


OURS = Catalogue(
    reports=_REPORTS,
    sampling=(MIN_SAMPLING, MAX_SAMPLING),
    history_step=MAX_SAMPLING,
    history_kept=HISTORY_KEPT,
    max_history=MAX_HISTORY,
)
"""What our VEN offers a VTN."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedReport:
    """A report that is wanted and we can send: a value of each point every `granularity_s`, sent every `report_back_s`.

    A granularity of 0 asks for one single value. `window` bounds the time reported on, if given.
    """

    report_request_id: str
    specifier_id: str
    name: str
    points: tuple[str, ...]
    granularity_s: float
    report_back_s: float
    window: Interval | None = None


def offers(market_contexts: Sequence[str], at: datetime) -> tuple[ReportOffer, ...]:
    """Return every report we can send."""
    context = market_contexts[0] if market_contexts else None
    return tuple(
        ReportOffer(
            specifier_id=specifier_id,
            name=f"METADATA_{name}",
            points=tuple(_point(r_id, context) for r_id in points),
            created_at=at,
            duration=HISTORY_KEPT if name == HISTORY_USAGE else MAX_SAMPLING,
        )
        for specifier_id, (name, points) in _REPORTS.items()
    )


def _point(r_id: str, context: str | None) -> PointOffer:
    report_type, reading_type, unit, item = {
        POWER: ("reading", "Summed", "kW", "powerReal"),
        ENERGY: ("usage", "Derived", "kWh", "energyReal"),
        STATUS: ("x-resourceStatus", "x-notApplicable", None, None),
    }[r_id]
    return PointOffer(
        r_id=r_id,
        report_type=report_type,
        reading_type=reading_type,
        unit=unit,
        scale="k" if unit else "none",
        item=item,
        min_sampling=MIN_SAMPLING,
        max_sampling=MAX_SAMPLING,
        market_context=context,
        resources=("fleet",),
    )


def accept(demand: ReportDemand, catalogue: Catalogue = OURS, *, at: datetime) -> WantedReport:
    """Return what a demand means to us.

    Raises:
        InvalidRequest: we offer no such report or point, or not so fine, or not of that time.
    """
    if not demand.report_request_id or len(demand.report_request_id) > MAX_ID_LENGTH:
        raise InvalidRequest("reportRequestID", demand.report_request_id[:40], f"1 to {MAX_ID_LENGTH} characters")
    if demand.specifier_id == METADATA:
        return WantedReport(
            report_request_id=demand.report_request_id,
            specifier_id=METADATA,
            name=METADATA,
            points=(),
            granularity_s=0.0,
            report_back_s=0.0,
        )
    known = catalogue.reports.get(demand.specifier_id)
    if known is None:
        raise InvalidRequest("reportSpecifierID", demand.specifier_id[:40], f"one of {', '.join(catalogue.reports)}")
    name, offered = known
    points = tuple(dict.fromkeys(r_id for r_id, _ in demand.points))
    if not points or not set(points) <= set(offered):
        stated = f"{demand.specifier_id}: {', '.join(points)}"
        raise InvalidRequest("rID", stated[:200], f"some of {', '.join(offered)[:500]}")
    granularity_s, back_s = _timing(demand, name, catalogue)
    window = _window(demand, name, at)
    if name == HISTORY_USAGE:
        _check_history(window, granularity_s, catalogue, at)
    return WantedReport(
        report_request_id=demand.report_request_id,
        specifier_id=demand.specifier_id,
        name=name,
        points=points,
        granularity_s=granularity_s,
        report_back_s=back_s,
        window=window,
    )


def _timing(demand: ReportDemand, name: str, catalogue: Catalogue) -> tuple[float, float]:
    granularity_s, back_s = demand.granularity.total_seconds(), demand.back.total_seconds()
    if name == HISTORY_USAGE and not granularity_s:
        granularity_s = catalogue.history_step.total_seconds()
    least, longest = catalogue.sampling
    if granularity_s and not least.total_seconds() <= granularity_s <= longest.total_seconds():
        raise InvalidRequest("granularity", f"{granularity_s:g} s", f"{least} to {longest}")
    if back_s > MAX_PERIOD_S:
        raise InvalidRequest("reportBackDuration", f"{back_s:g} s", "a year at most")
    if 0 < back_s < catalogue.min_back.total_seconds():
        raise InvalidRequest("reportBackDuration", f"{back_s:g} s", f"{catalogue.min_back} at least")
    return granularity_s, max(back_s, granularity_s)


def _window(demand: ReportDemand, name: str, at: datetime) -> Interval | None:
    if demand.start_at is None:
        return None
    if demand.duration:
        try:
            return Interval(demand.start_at, demand.start_at + demand.duration)
        except OverflowError as error:
            raise InvalidRequest("reportInterval", str(demand.duration), "an end before the year 10000") from error
    return Interval(demand.start_at, at) if name == HISTORY_USAGE and demand.start_at < at else None


def _check_history(window: Interval | None, granularity_s: float, catalogue: Catalogue, at: datetime) -> None:
    if window is None or window.end_at > at:
        stated = window.end_at.isoformat() if window else "no reportInterval"
        raise InvalidRequest("reportInterval", stated, "a time that has passed")
    if window.start_at < at - catalogue.history_kept:
        raise InvalidRequest("reportInterval", window.start_at.isoformat(), f"the last {catalogue.history_kept}")
    if catalogue.max_history is None:
        return
    count = math.ceil(window.duration.total_seconds() / granularity_s)
    if count > catalogue.max_history:
        raise InvalidRequest("granularity", f"{count} values", f"{catalogue.max_history} values at most")
