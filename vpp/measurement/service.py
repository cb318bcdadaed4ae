"""Measures an event by every applicable method and writes down what was found.

Called by the lifecycle after hand-back, and again whenever metering was corrected: the same metering
gives the same rows, so repeating it is harmless.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.commitment import Commitment
from vpp.domain.errors import NotReady
from vpp.domain.settlement import EventDelivery, Netting, ProgramTerms
from vpp.domain.site import Site
from vpp.domain.time import Interval
from vpp.domain.units import billable_kwh
from vpp.enrolment import load_sites, program_terms
from vpp.measurement import records, submeter
from vpp.measurement.baselines import caiso_10_in_10
from vpp.measurement.baselines.days import Finding
from vpp.measurement.calendars import DAY, Piece, clock_pieces, window_before
from vpp.measurement.meter import Metered, energy_in
from vpp.measurement.resource import by_days, piece_kwh, resource_baseline
from vpp.ports import MarketProgram

SITES_COUNTED = 0.95
"""Share of the sites a baseline told before settlement must be of."""
LONGEST_TOLD = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class _Measuring:
    """One event under measurement, with all its surroundings read."""

    connection: AsyncConnection
    commitment: Commitment
    terms: ProgramTerms
    sites: tuple[Site, ...]
    zone: ZoneInfo
    pieces: tuple[Piece, ...]

    @property
    def site_ids(self) -> list[str]:
        return [site.id for site in self.sites]

    @property
    def hours(self) -> list[float]:
        return [piece.interval.duration_h for piece in self.pieces]


async def measure_event(
    connection: AsyncConnection, commitment: Commitment, program: MarketProgram, *, tenant_id: str
) -> EventDelivery:
    """Measure an event, replace what was written about it, and return it by the programme's method.

    Writes `delivery` and `baseline` by sub-meter and by CAISO 10-in-10 (and by the programme's own
    method, if it is another), and `site_delivery` by sub-meter. What was owed is the commitment's
    latest targets, which a modification or cancellation changes for later instants only.

    Raises:
        NotReady: the programme has no site, or names a method that does not exist.
    """
    await records.lock(connection, commitment.id)
    measuring = await _surroundings(connection, commitment, program, tenant_id)
    results = [await _by_submeter(measuring)]
    for method in dict.fromkeys((caiso_10_in_10.METHOD, program.measurement)):
        if method != submeter.METHOD:
            results.append(await _by_baseline(measuring, method))
    await records.replace_results(connection, commitment.id, results)
    return await records.load_delivery(connection, commitment.id, program.measurement)


async def baselines_kwh(
    connection: AsyncConnection,
    commitment: Commitment,
    program: MarketProgram,
    intervals: Sequence[Interval],
    *,
    tenant_id: str,
) -> dict[Interval, float]:
    """Return what the programme's sites would have taken in intervals of an event [kWh]; nothing is written.

    By the programme's own baseline method, CAISO 10-in-10 where it measures otherwise. Of the event itself no
    metering is needed, so that it can be told while the event runs; delivery, which is settled, leaves out the sites
    without. An interval that touches a trading day without a baseline is left out.

    Raises:
        NotReady: none can be told, with the reason: meter data of too few days or sites, or no such programme.
    """
    measuring = await _surroundings(connection, commitment, program, tenant_id)
    first_at = min(commitment.window.start_at, *(interval.start_at for interval in intervals))
    whole = Interval(first_at, max(interval.end_at for interval in intervals))
    if whole.duration > LONGEST_TOLD:
        raise NotReady(f"no baseline of {whole.duration}: at most {LONGEST_TOLD} are told at once")
    measuring = replace(measuring, pieces=clock_pieces(whole, measuring.zone))
    method = caiso_10_in_10.METHOD if program.measurement == submeter.METHOD else program.measurement
    _, like = await _like_days(measuring, method)
    parts = await by_days(
        connection, measuring.site_ids, measuring.pieces, measuring.zone,
        event_days=like.events, outage_days=like.outages, rules=like.rules,
    )  # fmt: skip
    hourly_kwh = {
        (piece.day, piece.hour): energy_kwh / piece.interval.duration_h
        for baseline, part in parts
        if baseline.counted.sum() >= SITES_COUNTED * len(measuring.sites)
        for piece in part
        if (energy_kwh := piece_kwh(baseline, part, piece)) is not None
    }
    cut = {interval: clock_pieces(interval, measuring.zone) for interval in intervals}
    told = {
        interval: sum(hourly_kwh[piece.day, piece.hour] * piece.interval.duration_h for piece in pieces)
        for interval, pieces in cut.items()
        if all((piece.day, piece.hour) in hourly_kwh for piece in pieces)
    }
    if not told:
        why = "; ".join(str(finding["text"]) for baseline, _ in parts for finding in baseline.findings)
        raise NotReady(f"no baseline: {why}")
    return told


def time_zone_of(terms: ProgramTerms, sites: Sequence[Site]) -> ZoneInfo:
    """Return the zone of a programme's clock: its terms' `time_zone`, else the one most sites are in."""
    named = terms.options.get("time_zone")
    if named is None:
        counted = Counter(site.time_zone for site in sites)
        named = min(counted, key=lambda zone: (-counted[zone], zone))
    return ZoneInfo(str(named))


async def _surroundings(
    connection: AsyncConnection, commitment: Commitment, program: MarketProgram, tenant_id: str
) -> _Measuring:
    terms = await program_terms(connection, tenant_id=tenant_id, program=program.name)
    sites = await load_sites(connection, tenant_id=tenant_id, program=program.name)
    if not sites:
        raise NotReady(f"programme {program.name} has no enrolled site; nothing can be measured")
    known = (submeter.METHOD, caiso_10_in_10.METHOD, caiso_10_in_10.METHOD_UNADJUSTED)
    if program.measurement not in known:
        raise NotReady(
            f"programme {program.name} measures by {program.measurement!r}; there is only {', '.join(known)}"
        )
    zone = time_zone_of(terms, sites)
    step_minutes = int(terms.options.get("measurement_step_minutes", 60))
    if step_minutes not in (5, 15, 30, 60):
        raise NotReady(
            f"measurement_step_minutes is {step_minutes} in the terms of {program.name}; use 5, 15, 30 or 60"
        )
    pieces = clock_pieces(commitment.window, zone, timedelta(minutes=step_minutes))
    return _Measuring(connection, commitment, terms, sites, zone, pieces)


async def _by_submeter(measuring: _Measuring) -> records.Result:
    intervals = [piece.interval for piece in measuring.pieces]
    battery = await energy_in(measuring.connection, measuring.site_ids, "battery", intervals)
    found = submeter.submeter_delivery(battery, np.array(measuring.hours), Netting.of(measuring.terms))
    rows = [
        records.DeliveryRow(
            interval=interval,
            committed_kwh=billable_kwh(_committed_kwh(measuring.commitment, interval)),
            baseline_kwh=None,
            metered_kwh=billable_kwh(float(kwh)) if measurable else None,
            delivered_kwh=billable_kwh(float(kwh)) if measurable else None,
        )
        for interval, kwh, measurable in zip(intervals, found.interval_kwh, found.measurable, strict=True)
    ]
    sites = [
        records.SiteRow(
            site_id=site.id,
            metered_kwh=billable_kwh(float(found.metered_kwh[i])),
            credited_kwh=billable_kwh(float(found.credited_kwh[i])),
            detail=_site_detail(battery, i, intervals, found.cover[i]),
        )
        for i, site in enumerate(measuring.sites)
    ]
    return records.Result(submeter.METHOD, rows, (), None, found.findings, sites)


async def _by_baseline(measuring: _Measuring, method: str) -> records.Result:
    commitment, pieces = measuring.commitment, measuring.pieces
    others, days = await _like_days(measuring, method)
    found = await resource_baseline(
        measuring.connection,
        measuring.site_ids,
        pieces,
        measuring.zone,
        event_days=days.events,
        outage_days=days.outages,
        rules=days.rules,
    )
    findings = [*found.findings, *await _window_findings(measuring, others)]
    rows = []
    for i, piece in enumerate(pieces):
        baseline_kwh = _billable(found.baseline_kwh[i] if found.baseline_kwh else None)
        metered_kwh = _billable(found.metered_kwh[i] if found.metered_kwh else None)
        rows.append(
            records.DeliveryRow(
                interval=piece.interval,
                committed_kwh=billable_kwh(_committed_kwh(commitment, piece.interval)),
                baseline_kwh=baseline_kwh,
                metered_kwh=metered_kwh,
                # Of the rounded figures, so that whoever subtracts them on paper finds the same.
                delivered_kwh=None if baseline_kwh is None or metered_kwh is None else baseline_kwh - metered_kwh,
            )
        )
    return records.Result(method, rows, found.days, found.adjustment, tuple(findings), ())


@dataclass(frozen=True, slots=True)
class _LikeDays:
    """What decides which days an event is compared to, and how."""

    events: set[date]
    outages: set[date]
    rules: caiso_10_in_10.Rules


async def _like_days(measuring: _Measuring, method: str) -> tuple[list[Interval], _LikeDays]:
    """Return other events before this one as well."""
    commitment = measuring.commitment
    lookback = Interval(commitment.window.start_at - 50 * DAY, commitment.window.start_at)
    others = await records.other_events(measuring.connection, commitment, measuring.site_ids, lookback)
    own_days = {piece.day for piece in measuring.pieces}
    rules = replace(
        caiso_10_in_10.Rules(),
        adjusted=method == caiso_10_in_10.METHOD,
        ratio_one_if_undefined=measuring.terms.options.get("undefined_ratio") == "one",
    )
    return others, _LikeDays(
        events=own_days | {day for other in others for day in _local_days(other, measuring.zone)},
        outages={date.fromisoformat(day) for day in measuring.terms.options.get("outage_days", ())},
        rules=rules,
    )


def _billable(energy_kwh: float | None) -> Decimal | None:
    return None if energy_kwh is None else billable_kwh(energy_kwh)


async def _window_findings(measuring: _Measuring, others: Sequence[Interval]) -> list[Finding]:
    """Say what spoils the hours that set the adjustment: another event, or our own charging."""
    window = window_before(measuring.pieces[0].interval.start_at, measuring.zone, 4, 2)
    findings: list[Finding] = []
    if any(other.overlap(window) for other in others):
        text = "another event ran in the hours that set the adjustment"
        findings.append({"code": "window_in_event", "text": text})
    battery = await energy_in(measuring.connection, measuring.site_ids, "battery", [window])
    charged_kwh = -float(np.minimum(battery.energy_kwh, 0.0).sum())
    if charged_kwh >= 0.001 * len(measuring.sites):
        text = "batteries charged in the hours that set the adjustment, which raises the baseline"
        findings.append({"code": "charged_in_window", "text": text, "charged_kwh": round(charged_kwh, 3)})
    return findings


def _local_days(window: Interval, zone: ZoneInfo) -> set[date]:
    first = window.start_at.astimezone(zone).date()
    last = (window.end_at - timedelta(microseconds=1)).astimezone(zone).date()
    return {first + back * DAY for back in range((last - first).days + 1)}


def _committed_kwh(commitment: Commitment, interval: Interval) -> float:
    shared = ((target.target_kw, target.interval.overlap(interval)) for target in commitment.targets)
    return sum(target_kw * common.duration_h for target_kw, common in shared if common is not None)


def _site_detail(battery: Metered, i: int, intervals: Sequence[Interval], cover: float) -> dict[str, object]:
    return {
        "method": submeter.METHOD,
        "cover": round(float(cover), 4),
        "intervals": [
            {
                "start_at": interval.start_at.isoformat(),
                "end_at": interval.end_at.isoformat(),
                "metered_kwh": str(billable_kwh(float(battery.energy_kwh[i, j]))) if battery.cover[i, j] > 0 else None,
                "estimated": bool(battery.estimated[i, j]),
            }
            for j, interval in enumerate(intervals)
        ],
    }
