"""An event's report for the utility: power owed, expected and delivered by interval. Called by `utility`.

Once the event is measured by the programme's own method, the report shows that, interval by interval;
until then it shows metered telemetry and says so.
"""

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.time import Interval
from vpp.domain.units import mw_from_kw
from vpp.portal import queries_events, queries_fleet
from vpp.portal.chart import chart_steps
from vpp.portal.queries_events import CycleRow, DeliveryRow
from vpp.portal.queries_fleet import PowerBucket

STEP = timedelta(minutes=15)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """Mean power over an interval [kW]; None is not planned or not measured (yet)."""

    interval: Interval
    committed_kw: float
    expected_kw: float | None
    delivered_kw: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An event by interval. `status` is `measured`, `preliminary` or `planned`; `method` how it was measured."""

    rows: list[ReportRow]
    status: str
    method: str | None
    committed_kwh: float
    delivered_kwh: float | None

    @property
    def delivered_fraction(self) -> float | None:
        """Delivered as a share of owed; None where nothing was owed or measured."""
        if self.delivered_kwh is None or self.committed_kwh <= 0:
            return None
        return self.delivered_kwh / self.committed_kwh


async def read_report(
    connection: AsyncConnection, commitment: Commitment, *, method: str | None, at: datetime
) -> Report:
    """Return the report as of `at`; `method` is how the programme counts delivery."""
    cycles = await queries_events.cycles(connection, commitment.id)
    measured = [row for row in await queries_events.deliveries(connection, commitment.id) if row.method == method]
    if measured:
        return measured_report(commitment, cycles, measured)
    steps = chart_steps(commitment.window, STEP)
    until = min(at, steps[-1].end_at)
    buckets: list[PowerBucket] = []
    if until > steps[0].start_at:
        buckets = await queries_fleet.power_buckets(
            connection, commitment.id, start_at=steps[0].start_at, end_at=until, step=steps[0].duration
        )
    return preliminary_report(commitment, cycles, buckets, steps)


def measured_report(commitment: Commitment, cycles: Sequence[CycleRow], measured: Sequence[DeliveryRow]) -> Report:
    """The report once the programme's own measurement is there."""
    rows = []
    for row in measured:
        interval = Interval(row.start_at, row.end_at)
        delivered = None if row.delivered_kwh is None else float(row.delivered_kwh) / interval.duration_h
        rows.append(
            ReportRow(
                interval=interval,
                committed_kw=float(row.committed_kwh) / interval.duration_h,
                expected_kw=_expected_kw(cycles, interval),
                delivered_kw=delivered,
            )
        )
    told = [row.delivered_kwh for row in measured if row.delivered_kwh is not None]
    return Report(
        rows=rows,
        status="measured",
        method=measured[0].method,
        committed_kwh=float(sum(row.committed_kwh for row in measured)),
        delivered_kwh=float(sum(told)) if told else None,
    )


def preliminary_report(
    commitment: Commitment, cycles: Sequence[CycleRow], buckets: Sequence[PowerBucket], steps: Iterable[Interval]
) -> Report:
    """The report from telemetry, before the event is measured."""
    power_kw = {bucket.start_at: bucket.power_kw for bucket in buckets}
    rows = []
    for step in steps:
        inside = step.overlap(commitment.window)
        if inside is None:
            continue
        rows.append(
            ReportRow(
                interval=inside,
                committed_kw=_committed_kw(commitment, inside),
                expected_kw=_expected_kw(cycles, inside),
                delivered_kw=power_kw.get(step.start_at),
            )
        )
    told = [row.delivered_kw * row.interval.duration_h for row in rows if row.delivered_kw is not None]
    return Report(
        rows=rows,
        status="preliminary" if told else "planned",
        method=None,
        committed_kwh=commitment.energy_kwh(),
        delivered_kwh=sum(told) if told else None,
    )


def report_csv(commitment: Commitment, report: Report) -> str:
    """The report as CSV; an empty cell is not planned or not measured."""
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow(
        ["event_id", "start_at", "end_at", "committed_mw", "expected_mw", "delivered_mw", "status", "method"]
    )
    for row in report.rows:
        writer.writerow(
            [
                commitment.external_id,
                row.interval.start_at.isoformat(),
                row.interval.end_at.isoformat(),
                _mw(row.committed_kw),
                _mw(row.expected_kw),
                _mw(row.delivered_kw),
                report.status if row.delivered_kw is not None else "planned",
                report.method or "",
            ]
        )
    return out.getvalue()


def _mw(power_kw: float | None) -> str:
    return "" if power_kw is None else f"{mw_from_kw(power_kw):.6f}"


def _committed_kw(commitment: Commitment, interval: Interval) -> float:
    shared = ((part.target_kw, part.interval.overlap(interval)) for part in commitment.targets)
    return sum(target_kw * common.duration_h for target_kw, common in shared if common) / interval.duration_h


def _expected_kw(cycles: Sequence[CycleRow], interval: Interval) -> float | None:
    """Mean of what the control cycles planned, over the part of the interval that was planned."""
    energy_kwh = planned_h = 0.0
    for cycle in cycles:
        common = Interval(cycle.start_at, cycle.end_at).overlap(interval)
        if common is not None:
            energy_kwh += cycle.planned_kw * common.duration_h
            planned_h += common.duration_h
    return energy_kwh / planned_h if planned_h else None
