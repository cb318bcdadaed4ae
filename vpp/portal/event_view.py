"""The live picture of one event: numbers, sites by state, chart. Called by the operator's page and its stream.

One read-only transaction reads everything, so that the numbers of a picture belong together.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.config import Settings
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.fleet import Quality
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.portal import queries_events, queries_fleet
from vpp.portal.chart import Chart, chart, chart_steps
from vpp.portal.queries_events import DeliveryRow, EventRow, StepRow
from vpp.portal.queries_fleet import Part, PowerBucket, SiteRow
from vpp.portal.site_quality import site_qualities
from vpp.portal.site_state import TROUBLE, SiteState, site_state

PROBLEMS_SHOWN = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteProblem:
    """A site that is not as it should be, why, and the age of its last reading [s]."""

    site_id: str
    name: str
    state: SiteState
    reason: str
    age_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class HandBacks:
    """Sites whose settings we changed, how many are verified to be as they were, and how many are late."""

    touched: int
    verified: int
    overdue: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EventView:
    """Everything the live page shows of an event as of `at`.

    `cycle_at` is when the latest control cycle began.
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
    cycle_at: datetime | None
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
    running = event.state is CommitmentState.ACTIVE
    sites = await queries_fleet.program_sites(connection, tenant_id=tenant_id, program=commitment.program, at=at)
    parts = await queries_fleet.parts(connection, event_id)
    enrolled = await load_sites(connection, tenant_id=tenant_id, program=commitment.program)
    qualities = await site_qualities(connection, enrolled, at=at, settings=settings, active=running)
    states = {site.id: site_state(qualities[site.id], site, parts.get(site.id), event.state, at) for site in sites}
    problems = _problems(sites, states, at)
    on_duty = [site for site in sites if _on_duty(parts.get(site.id))]
    heard = [site for site in on_duty if qualities[site.id] is Quality.GOOD and site.battery_kw is not None]
    cycles = await queries_events.cycles(connection, event_id)
    metered = await _metered(connection, commitment, at, timedelta(seconds=settings.cycle_s))
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
        metered_kwh=metered.energy_kwh,
        metered_sites=metered.sites,
        forecast_kwh=last.forecast_kwh if last else None,
        cycle_at=last.start_at if last else None,
        plan_age_s=(at - last.start_at).total_seconds() if last else None,
        plan_stale=running and (last is None or at > last.end_at + timedelta(seconds=settings.cycle_s)),
        shortfall_kw=last.shortfall_kw if last and running else None,
        states=dict(Counter(state for state, _ in states.values())),
        problems=problems[:PROBLEMS_SHOWN],
        problem_count=len(problems),
        handbacks=_handbacks(parts, at),
        chart=chart(metered.steps, commitment, cycles, metered.buckets),
        deliveries=await queries_events.deliveries(connection, event_id),
        steps=await queries_events.history(connection, event_id),
    )


@dataclass(frozen=True, slots=True)
class _Metered:
    steps: list[Interval]
    buckets: list[PowerBucket]
    energy_kwh: float | None = None
    sites: int = 0


async def _metered(connection: AsyncConnection, commitment: Commitment, at: datetime, step: timedelta) -> _Metered:
    """What batteries gave up to `at` or the event's end, by step and as a whole."""
    steps = chart_steps(commitment.window, step)
    until = min(at, commitment.window.end_at)
    if until <= commitment.window.start_at:
        return _Metered(steps, [])
    buckets = await queries_fleet.power_buckets(
        connection, commitment.id, start_at=steps[0].start_at, end_at=until, step=steps[0].duration
    )
    energy_kwh, sites, _ = await queries_fleet.registered_kwh(
        connection, commitment.id, start_at=commitment.window.start_at, end_at=until
    )
    return _Metered(steps, buckets, energy_kwh, sites)


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
