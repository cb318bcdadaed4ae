"""A resource's baseline in an event: the programme's sites summed at their utility meters.

Part of the measurement room; called by `service`. Baselines are taken at resource level because a
single home's is noise, and undefined where the home exports (research: settlement, section 1).
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.fleet import Bools, Floats
from vpp.measurement.baselines.caiso_10_in_10 import Rules, caiso_10_in_10
from vpp.measurement.baselines.days import Baseline, DayLoads, Finding
from vpp.measurement.calendars import DAY, Piece, by_trading_day, hour_starts, hours_before, is_business_day
from vpp.measurement.meter import energy_in, energy_in_hours

Parts = list[tuple[Baseline, tuple[Piece, ...]]]
"""Trading days of an event: each day's baseline, and the pieces it is for."""
Label = int
"""A clock hour counted from the trading day's midnight; negative before it, above 23 after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceBaseline:
    """Baseline and metered load of a resource per piece of the event [kWh]; None is not measurable."""

    method: str
    days: tuple[date, ...]
    adjustment: float | None
    baseline_kwh: tuple[float | None, ...]
    metered_kwh: tuple[float | None, ...]
    findings: tuple[Finding, ...]


async def resource_baseline(
    connection: AsyncConnection,
    site_ids: Sequence[str],
    pieces: tuple[Piece, ...],
    zone: ZoneInfo,
    *,
    event_days: Collection[date],
    outage_days: Collection[date],
    rules: Rules,
) -> ResourceBaseline:
    """Return the CAISO 10-in-10 baseline of an event cut into `pieces`.

    Sites without whole metering of the event count on neither side, so a lost meter lowers delivery
    and never raises it. An event over midnight has a baseline of its own for each trading day.
    """
    grid = await energy_in(connection, site_ids, "grid", [piece.interval for piece in pieces])
    metered = np.asarray(grid.whole.all(axis=1))
    findings: list[Finding] = []
    if not metered.all():
        text = "sites without whole utility metering of the event count on neither side"
        findings.append({"code": "event_not_metered", "text": text, "sites": int((~metered).sum())})
    load_kwh = -grid.energy_kwh[metered]
    ids = [site_id for site_id, keep in zip(site_ids, metered, strict=True) if keep]
    parts = await by_days(connection, ids, pieces, zone, event_days=event_days, outage_days=outage_days, rules=rules)
    return _assemble(parts, load_kwh, findings, rules)


async def by_days(
    connection: AsyncConnection,
    site_ids: Sequence[str],
    pieces: tuple[Piece, ...],
    zone: ZoneInfo,
    *,
    event_days: Collection[date],
    outage_days: Collection[date],
    rules: Rules,
) -> Parts:
    """Return the baseline of each trading day of an event with the day's pieces; none without a site.

    Of the event itself no metering is needed.
    """
    parts: Parts = []
    for day, part in by_trading_day(pieces) if site_ids else ():
        hours = sorted({piece.hour for piece in part})
        before = hours_before(pieces[0].interval.start_at, zone, 4, 2)
        window = [(at - day).days * 24 + hour for at, hour in before]
        loads = await _loads(connection, site_ids, day, hours, window, zone, rules)
        parts.append((caiso_10_in_10(day, loads, event_days=event_days, outage_days=outage_days, rules=rules), part))
    return parts


def piece_kwh(baseline: Baseline, part: Sequence[Piece], piece: Piece) -> float | None:
    """The baseline of one of a day's pieces, None where it is not measurable."""
    if baseline.baseline_kwh is None or not baseline.counted.any():
        return None
    hours = sorted({each.hour for each in part})
    return float(baseline.baseline_kwh[hours.index(piece.hour)]) * piece.interval.duration_h


async def _loads(
    connection: AsyncConnection,
    site_ids: Sequence[str],
    trading_day: date,
    event_hours: Sequence[Label],
    window_hours: Sequence[Label],
    zone: ZoneInfo,
    rules: Rules,
) -> DayLoads:
    """Read the loads of the trading day and of like days before it."""
    alike = is_business_day(trading_day)
    past = (trading_day - back * DAY for back in range(1, rules.look_back_days + 1))
    days = (trading_day, *(day for day in past if is_business_day(day) == alike))
    labels = (*event_hours, *window_hours)
    starts = [[hour_starts(day + (label // 24) * DAY, label % 24, zone) for label in labels] for day in days]
    instants = sorted({at for row in starts for cell in row for at in cell})
    index = {at: i for i, at in enumerate(instants)}
    grid = await energy_in_hours(connection, site_ids, "grid", instants)
    kwh, present = _cube(-grid.energy_kwh, grid.whole, starts, index)
    cut = len(event_hours)
    return DayLoads(
        days=days,
        event_kwh=kwh[:, :, :cut],
        event_present=present[:, :, :cut],
        window_kwh=kwh[:, :, cut:],
        window_present=present[:, :, cut:],
    )


def _cube(
    load_kwh: Floats, whole: Bools, starts: list[list[tuple[datetime, ...]]], index: dict[datetime, int]
) -> tuple[Floats, Bools]:
    """Arrange loads as (site, day, hour); a clock hour that comes twice is the mean of both."""
    shape = (load_kwh.shape[0], len(starts), len(starts[0]))
    kwh, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
    for i, row in enumerate(starts):
        for j, cell in enumerate(row):
            columns = [index[at] for at in cell]
            if columns:
                present[:, i, j] = whole[:, columns].all(axis=1)
                kwh[:, i, j] = np.where(present[:, i, j], load_kwh[:, columns].mean(axis=1), 0.0)
    return kwh, present


def _assemble(parts: Parts, load_kwh: Floats, findings: list[Finding], rules: Rules) -> ResourceBaseline:
    """Put the trading days together; `load_kwh` has shape (metered site, piece)."""
    baseline_kwh: list[float | None] = []
    metered_kwh: list[float | None] = []
    column = 0
    for baseline, part in parts:
        findings += [*baseline.findings, *_ratio_finding(baseline, part[0].day)]
        for piece in part:
            baseline_kwh.append(piece_kwh(baseline, part, piece))
            known = baseline_kwh[-1] is not None
            metered_kwh.append(float(load_kwh[baseline.counted, column].sum()) if known else None)
            column += 1
    if len(parts) > 1:
        findings.append({"code": "two_trading_days", "text": "the event runs over midnight: a baseline for each day"})
    adjustments = {baseline.adjustment for baseline, _ in parts}
    return ResourceBaseline(
        method="caiso_10_in_10" if rules.adjusted else "caiso_10_in_10_unadjusted",
        days=tuple(sorted({day for baseline, _ in parts for day in baseline.days})),
        adjustment=adjustments.pop() if len(adjustments) == 1 else None,
        baseline_kwh=tuple(baseline_kwh),
        metered_kwh=tuple(metered_kwh),
        findings=tuple(findings),
    )


def _ratio_finding(baseline: Baseline, day: date) -> list[Finding]:
    if baseline.ratio is None or baseline.adjustment is None:
        return []
    return [
        {
            "code": "ratio",
            "text": f"the ratio of the hours before the event was {baseline.ratio:.4f}, "
            f"the adjustment applied is {baseline.adjustment:.4f}",
            "day": day.isoformat(),
            "ratio": round(baseline.ratio, 6),
            "adjustment": round(baseline.adjustment, 6),
        }
    ]
