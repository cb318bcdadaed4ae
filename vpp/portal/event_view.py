"""The live picture of one event: numbers, sites by state, chart. Called by the operator's page and its stream.

`read_event_view` reads; the rest is pure and says the same of the same rows.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.config import Settings
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.fleet import Quality
from vpp.domain.time import Interval, floor_to
from vpp.enrolment import load_sites
from vpp.portal import queries_events, queries_fleet
from vpp.portal.queries_events import CycleRow, DeliveryRow, EventRow, StepRow
from vpp.portal.queries_fleet import Part, PowerBucket, SiteRow
from vpp.portal.site_quality import site_qualities

PROBLEMS_SHOWN = 50
MOST_STEPS = 1000
_OVER = frozenset(
    {CommitmentState.RELEASING, CommitmentState.MEASURING, CommitmentState.SETTLED, CommitmentState.CANCELLED}
)


class SiteState(StrEnum):
    """What a site is in an event, in the order the page shows them."""

    DELIVERING = "delivering"
    STANDBY = "standby"
    STALE = "stale"
    FROZEN = "frozen"
    MISSING = "missing"
    OUT_OF_RANGE = "out of range"
    ISLANDED = "islanded"
    FAILED = "failed"
    HANDBACK_OWED = "hand-back owed"
    HANDED_BACK = "handed back"
    NOT_CALLED = "not called"


TROUBLE = frozenset(
    {
        SiteState.STALE,
        SiteState.FROZEN,
        SiteState.MISSING,
        SiteState.OUT_OF_RANGE,
        SiteState.ISLANDED,
        SiteState.FAILED,
        SiteState.HANDBACK_OWED,
    }
)
_OF_QUALITY = {
    Quality.MISSING: (SiteState.MISSING, "has never been heard"),
    Quality.STALE: (SiteState.STALE, "last reading is too old to act on"),
    Quality.FROZEN: (SiteState.FROZEN, "keeps repeating the same values"),
    Quality.OUT_OF_RANGE: (SiteState.OUT_OF_RANGE, "reports values that cannot be"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProblem:
    """A site that is not as it should be, why, and the age of its last reading [s]."""

    site_id: str
    name: str
    state: SiteState
    reason: str
    age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """Aligned columns over the event: step starts (Unix seconds) and power [kW]; None where unknown."""

    at_s: list[float]
    target_kw: list[float | None]
    planned_kw: list[float | None]
    metered_kw: list[float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBacks:
    """Sites whose settings we changed, how many are verified to be as they were, and how many are late."""

    touched: int
    verified: int
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """Everything the live page shows of an event as of `at`.

    `metered_now_kw` leaves out sites cut off from the grid: what they give stays at home.
    """

    at: datetime
    event: EventRow
    target_kw: float
    metered_now_kw: float | None
    heard: int
    on_duty: int
    metered_kwh: float | None
    metered_sites: int
    forecast_kwh: float | None
    plan_age_s: float | None
    plan_stale: bool
    shortfall_kw: float | None
    states: dict[SiteState, int]
    problems: list[SiteProblem]
    problem_count: int
    handbacks: HandBacks
    chart: Chart
    deliveries: list[DeliveryRow]
    steps: list[StepRow]

    @property
    def forecast_fraction(self) -> float | None:
        """Energy expected by the end as a share of what is owed; None without a plan or a debt."""
        if self.forecast_kwh is None or self.event.committed_kwh <= 0:
            return None
        return self.forecast_kwh / self.event.committed_kwh


async def read_event_view(
    connection: AsyncConnection,
    event_id: UUID,
    *,
    tenant_id: str,
    program: str | None,
    at: datetime,
    settings: Settings,
) -> EventView:
    """Read an event as of `at`.

    Raises:
        NotFound: it does not exist, or not for this reader.
    """
    event, commitment = await queries_events.get_event(connection, event_id, tenant_id=tenant_id, program=program)
    sites = await queries_fleet.program_sites(connection, tenant_id=tenant_id, program=commitment.program, at=at)
    parts = await queries_fleet.parts(connection, event_id)
    running = event.state is CommitmentState.ACTIVE
    enrolled = await load_sites(connection, tenant_id=tenant_id, program=commitment.program)
    qualities = await site_qualities(connection, enrolled, at=at, settings=settings, active=running)
    cycles = await queries_events.cycles(connection, event_id)
    steps = chart_steps(commitment.window, timedelta(seconds=settings.cycle_s))
    until = min(at, commitment.window.end_at)
    buckets: list[PowerBucket] = []
    metered_kwh, metered_sites = None, 0
    if until > steps[0].start_at:
        buckets = await queries_fleet.power_buckets(
            connection, event_id, start_at=steps[0].start_at, end_at=until, step=steps[0].duration
        )
    if until > commitment.window.start_at:
        metered_kwh, metered_sites, _ = await queries_fleet.registered_kwh(
            connection, event_id, start_at=commitment.window.start_at, end_at=until
        )
    states = {site.id: site_state(qualities[site.id], site, parts.get(site.id), event.state, at) for site in sites}
    problems = _problems(sites, states, at)
    on_duty = [site for site in sites if _on_duty(parts.get(site.id))]
    heard = [site for site in on_duty if qualities[site.id] is Quality.GOOD and site.battery_kw is not None]
    last = cycles[-1] if cycles else None
    return EventView(
        at=at,
        event=event,
        target_kw=commitment.target_kw_at(at),
        metered_now_kw=sum(site.battery_kw or 0.0 for site in heard if not site.islanded)
        if heard or not on_duty
        else None,
        heard=len(heard),
        on_duty=len(on_duty),
        metered_kwh=metered_kwh,
        metered_sites=metered_sites,
        forecast_kwh=last.forecast_kwh if last else None,
        plan_age_s=(at - last.start_at).total_seconds() if last else None,
        plan_stale=running and (last is None or at > last.end_at + timedelta(seconds=settings.cycle_s)),
        shortfall_kw=last.shortfall_kw if last and running else None,
        states=dict(Counter(state for state, _ in states.values())),
        problems=problems[:PROBLEMS_SHOWN],
        problem_count=len(problems),
        handbacks=_handbacks(parts, at),
        chart=chart(steps, commitment, cycles, buckets),
        deliveries=await queries_events.deliveries(connection, event_id),
        steps=await queries_events.history(connection, event_id),
    )


def site_state(
    quality: Quality, site: SiteRow, part: Part | None, event_state: CommitmentState, at: datetime
) -> tuple[SiteState, str]:
    """Return what a site is in an event, and why where that is trouble."""
    under_command = part is not None and part.expires_at is not None and part.expires_at > at
    if part is not None and part.verified_at is not None:
        return SiteState.HANDED_BACK, ""
    if event_state in _OVER:
        if part is None or not part.saved:
            return SiteState.NOT_CALLED, ""
        return SiteState.HANDBACK_OWED, part.handback_reason or "not yet verified to be as it was found"
    if site.islanded and quality is Quality.GOOD:
        return SiteState.ISLANDED, "runs on its battery, cut off from the grid"
    if quality is not Quality.GOOD:
        return _OF_QUALITY[quality]
    if part is not None and part.command_state in ("failed", "unknown"):
        return SiteState.FAILED, part.command_reason or f"its last command is {part.command_state}"
    if under_command and part is not None and part.power_kw > 0:
        return SiteState.DELIVERING, ""
    return SiteState.STANDBY, ""


def chart_steps(window: Interval, step: timedelta) -> list[Interval]:
    """Cut the event into the chart's steps, on the control cycle's own grid and never too many."""
    while window.duration / step > MOST_STEPS:
        step *= 2
    start_at = floor_to(window.start_at, step)
    return list(Interval(start_at, max(window.end_at, start_at + step)).steps(step))


def chart(
    steps: Sequence[Interval], commitment: Commitment, cycles: Sequence[CycleRow], buckets: Sequence[PowerBucket]
) -> Chart:
    """Lay target, plan and metered power on the same steps; the last point repeats to close the last step."""
    metered = {bucket.start_at: bucket.power_kw for bucket in buckets}
    targets: list[float | None] = []
    planned: list[float | None] = []
    later = iter(cycles)
    cycle = next(later, None)
    for step in steps:
        middle = step.start_at + step.duration / 2
        targets.append(commitment.target_kw_at(middle))
        while cycle is not None and cycle.end_at <= middle:
            cycle = next(later, None)
        planned.append(cycle.planned_kw if cycle is not None and cycle.start_at <= middle else None)
    power = [metered.get(step.start_at) for step in steps]
    return Chart(
        at_s=[step.start_at.timestamp() for step in steps] + [steps[-1].end_at.timestamp()],
        target_kw=[*targets, targets[-1]],
        planned_kw=[*planned, planned[-1]],
        metered_kw=[*power, power[-1]],
    )


def _on_duty(part: Part | None) -> bool:
    return part is not None and part.saved and part.verified_at is None


def _problems(sites: Sequence[SiteRow], states: Mapping[str, tuple[SiteState, str]], at: datetime) -> list[SiteProblem]:
    order = list(SiteState)
    found = [
        SiteProblem(
            site_id=site.id,
            name=site.name,
            state=states[site.id][0],
            reason=states[site.id][1],
            age_s=None if site.measured_at is None else (at - site.measured_at).total_seconds(),
        )
        for site in sites
        if states[site.id][0] in TROUBLE
    ]
    return sorted(found, key=lambda one: (-order.index(one.state), one.site_id))


def _handbacks(parts: Mapping[str, Part], at: datetime) -> HandBacks:
    saved = [part for part in parts.values() if part.saved]
    return HandBacks(
        touched=len(saved),
        verified=sum(part.verified_at is not None for part in saved),
        overdue=sum(
            part.verified_at is None and part.lease_until is not None and part.lease_until < at for part in saved
        ),
    )
