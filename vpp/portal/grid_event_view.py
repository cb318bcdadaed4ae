"""One event we told downstream, as its page shows it: what was asked, answered, expected and delivered.

Called by `grid_event_pages`. Powers here are consumption in kW, as both protocols state them to a VEN. What is
expected of a VEN is the value of a dispatch signal, addressed to each of them; what it delivered is what its
reports say: for a setpoint its mean power, for a change of consumption that power less its mean over the hour
before the event. A VEN without reports for an interval has delivered nothing anybody knows: unknown, not zero.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.grid_event import GridEvent, Series, SeriesType, TargetKind
from vpp.domain.grid_event_diff import Difference, differences
from vpp.domain.peer import PeerRole, Protocol
from vpp.domain.time import Interval
from vpp.peering import (
    Downstream,
    VenAnswer,
    VenOpt,
    event_answers,
    list_peers,
    list_versions,
    load_downstream,
    opts_between,
)
from vpp.portal.queries_downstream import ReportedPower, Ven3State, reported_powers, ven3_states
from vpp.portal.step_chart import MOST_STEPS, StepChart, step_chart
from vpp.portal.step_chart import Step as ChartStep

_EXPECTS = (SeriesType.DISPATCH_SETPOINT, SeriesType.DISPATCH_SETPOINT_RELATIVE)
BEFORE = timedelta(hours=1)
A_DAY = timedelta(days=1)
"""Of an event without an end, in which is looked who has declared to be away."""


@dataclass(frozen=True, slots=True)
class Step:
    """One interval of the event, all VENs together [kW]; None where nobody knows."""

    interval: Interval
    expected_kw: float | None
    delivered_kw: float | None
    reporting: int


@dataclass(frozen=True, slots=True)
class VenDelivery:
    """One VEN over the whole event [kWh]; `missing` counts intervals it has not reported."""

    name: str
    expected_kwh: float | None
    delivered_kwh: float | None
    missing: int


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an event, and what it changed."""

    event: GridEvent
    stated_at: datetime
    changes: tuple[Difference, ...]


@dataclass(frozen=True, slots=True)
class GridEventView:
    """Everything the page shows of one event."""

    found: Downstream
    answers: list[VenAnswer]
    vens3: list[Ven3State]
    versions: list[Version]
    steps: list[Step]
    deliveries: list[VenDelivery]
    relative: bool
    expecting: bool
    not_told: list[str]
    declared: list[VenOpt]

    @property
    def silent(self) -> list[str]:
        """Who has the event and is expected to deliver, and has reported nothing."""
        return [one.name for one in self.deliveries if one.expected_kwh is not None and one.delivered_kwh is None]

    def chart(self, now: datetime) -> StepChart | None:
        """Expected and delivered power as a picture; None where nobody has delivered anything that is known."""
        if all(step.delivered_kw is None for step in self.steps):
            return None
        delivered = [ChartStep(step.interval, step.delivered_kw) for step in self.steps]
        expected = [ChartStep(step.interval, step.expected_kw) for step in self.steps]
        lines = {"Delivered": delivered, "Expected": expected} if self.expecting else {"Delivered": delivered}
        return step_chart(lines, now=now)


async def read_view(connection: AsyncConnection, event_id: str, *, tenant_id: str, at: datetime) -> GridEventView:
    """Read one event with everything about it.

    Raises:
        NotFound: the tenant has no such event.
    """
    found = await load_downstream(connection, event_id, tenant_id=tenant_id)
    event = found.event
    answers = await event_answers(connection, event_id, tenant_id=tenant_id)
    vens3 = await ven3_states(connection, tenant_id=tenant_id, openadr3_id=found.openadr3_id, since=event.created_at)
    series = next((each for each in event.series if each.type in _EXPECTS and each.unit in (None, "KW")), None)
    shown = series or (event.series[0] if event.series else None)
    parts = [part.interval for part in (shown.intervals if shown else ())][:MOST_STEPS]
    windows = [part for part in parts if part is not None]
    powers: list[ReportedPower] = []
    if windows and at >= windows[0].start_at - BEFORE:
        powers = await reported_powers(
            connection,
            tenant_id=tenant_id,
            start_at=windows[0].start_at - BEFORE,
            end_at=windows[-1].end_at,
            openadr3_id=found.openadr3_id,
        )
    having = {each.name for each in answers} | {each.name for each in vens3 if each.can_see}
    powers = [each for each in powers if each.ven in having]
    steps, deliveries = compare(series, windows, powers, _asked(answers, vens3), at=at)
    return GridEventView(
        found=found,
        answers=answers,
        vens3=vens3,
        versions=_versions(await list_versions(connection, event_id, tenant_id=tenant_id)),
        steps=steps,
        deliveries=deliveries,
        relative=series is not None and series.type is SeriesType.DISPATCH_SETPOINT_RELATIVE,
        expecting=series is not None,
        not_told=await _not_told(connection, event, {each.peer_id for each in answers}, tenant_id=tenant_id),
        declared=await opts_between(
            connection, tenant_id=tenant_id, start_at=event.start_at, end_at=event.end_at or event.start_at + A_DAY
        ),
    )


def compare(
    series: Series | None,
    windows: Sequence[Interval],
    powers: Sequence[ReportedPower],
    asked: Iterable[str],
    *,
    at: datetime,
) -> tuple[list[Step], list[VenDelivery]]:
    """Return what was expected and delivered in each interval, and by each VEN, of what is over at `at`.

    Args:
        series: the dispatch signal, or None where the event expects no power.
        asked: who has the event and has not opted out; only they are expected to deliver.
    """
    by_ven: dict[str, list[ReportedPower]] = {}
    for power in powers:
        by_ven.setdefault(power.ven, []).append(power)
    expected = _expected(series)
    relative = series is not None and series.type is SeriesType.DISPATCH_SETPOINT_RELATIVE
    names = sorted({*asked, *by_ven})
    told = set(asked)
    table: dict[str, list[float | None]] = {}
    for name in names:
        own = by_ven.get(name, [])
        usual_kw = mean_kw(own, Interval(windows[0].start_at - BEFORE, windows[0].start_at)) if windows else None
        table[name] = [_delivered(own, window, usual_kw, relative=relative) for window in windows]
    steps = []
    for index, window in enumerate(windows):
        known = [values[index] for name, values in table.items() if values[index] is not None and name in told]
        each_kw = expected.get(window.start_at)
        steps.append(
            Step(
                window,
                None if each_kw is None or not told else each_kw * len(told),
                sum(value for value in known if value is not None) if known else None,
                len(known),
            )
        )
    deliveries = [_delivery(name, table[name], windows, expected if name in told else {}, at) for name in names]
    return steps, deliveries


def mean_kw(powers: Sequence[ReportedPower], window: Interval) -> float | None:
    """Return the mean of what was reported for a window, weighted by time; None where nothing was."""
    weighted, total_s = 0.0, 0.0
    for power in powers:
        both = window.overlap(Interval(power.start_at, power.end_at))
        if both is not None:
            length_s = both.duration.total_seconds()
            weighted, total_s = weighted + power.power_kw * length_s, total_s + length_s
    return weighted / total_s if total_s else None


def _delivered(
    powers: Sequence[ReportedPower], window: Interval, usual_kw: float | None, *, relative: bool
) -> float | None:
    reported_kw = mean_kw(powers, window)
    if not relative or reported_kw is None:
        return reported_kw
    return None if usual_kw is None else reported_kw - usual_kw


def _delivery(
    name: str,
    values: Sequence[float | None],
    windows: Sequence[Interval],
    expected: dict[datetime, float],
    at: datetime,
) -> VenDelivery:
    over = [(window, value) for window, value in zip(windows, values, strict=True) if window.end_at <= at]
    known = [value * window.duration_h for window, value in over if value is not None]
    asked = [expected[window.start_at] * window.duration_h for window, _ in over if window.start_at in expected]
    return VenDelivery(
        name, sum(asked) if asked else None, sum(known) if known else None, sum(value is None for _, value in over)
    )


def _expected(series: Series | None) -> dict[datetime, float]:
    """What each VEN is told in each interval, by its start [kW]."""
    return {
        part.start_at: float(part.values[0])
        for part in (series.intervals if series else ())
        if len(part.values) == 1 and isinstance(part.values[0], int | float)
    }


def _asked(answers: Sequence[VenAnswer], vens3: Sequence[Ven3State]) -> set[str]:
    told = {each.name for each in answers if each.told_at is not None and each.opt_in is not False}
    return told | {each.name for each in vens3 if each.can_see and (each.asked_at is not None or each.reports)}


async def _not_told(connection: AsyncConnection, event: GridEvent, told: set[str], *, tenant_id: str) -> list[str]:
    """Return the VENs of 2.0b the event names, by themselves or by group, that have not fetched it."""
    vens = await list_peers(connection, tenant_id=tenant_id, protocol=Protocol.OPENADR2, role=PeerRole.VEN)
    named = {(target.kind, target.value) for target in event.targets}
    return [
        ven.name
        for ven in vens
        if ven.id not in told
        and (
            not named
            or (TargetKind.VEN, ven.party_id) in named
            or any((TargetKind.GROUP, group) in named for group in ven.groups)
        )
    ]


def _versions(listed: Sequence[tuple[GridEvent, datetime]]) -> list[Version]:
    found = []
    for index, (event, stated_at) in enumerate(listed):
        before = listed[index + 1][0] if index + 1 < len(listed) else None
        found.append(Version(event, stated_at, () if before is None else differences(before, event)))
    return found
