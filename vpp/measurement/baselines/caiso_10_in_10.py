"""CAISO 10-in-10 (non-residential): the mean of like days, scaled by the hours before the event.

Source: CAISO tariff, day-matching "ten-in-ten" customer load baseline, as quoted in
Verdant-Associates/mce-demo and checked against `day_matching_citylearn.json`. The rule: work back at
most 45 calendar days from the trading day over days of its own type; stop at 10 business or 4
non-business days; leave out outage days and days with an event; with fewer than 5 (or 4), add the
event days with the highest load in the event's hours. Scale by the ratio of the 2nd to 4th hour
before the event, held within 0.8 and 1.2. Called by `vpp.measurement.resource`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date

import numpy as np

from vpp.domain.fleet import Bools, Floats
from vpp.measurement.baselines.days import Baseline, DayLoads, Finding
from vpp.measurement.calendars import DAY, is_business_day

METHOD = "caiso_10_in_10"
METHOD_UNADJUSTED = "caiso_10_in_10_unadjusted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The method's numbers. The defaults are the tariff's; the last three are ours.

    Attributes:
        look_back_days: calendar days before the trading day that may be used.
        business_days, other_days: (stop at, at least) for each type of day.
        cap: lowest and highest adjustment.
        adjusted: apply the day-of adjustment.
        ratio_one_if_undefined: adjust by 1 where the ratio is undefined, because the programme says so.
        lowest_window_kwh: a baseline window at or below this makes the ratio undefined [kWh].
        min_site_share: share of sites that must be complete for a day to be used, 0-1.
    """

    look_back_days: int = 45
    business_days: tuple[int, int] = (10, 5)
    other_days: tuple[int, int] = (4, 4)
    cap: tuple[float, float] = (0.8, 1.2)
    adjusted: bool = True
    ratio_one_if_undefined: bool = False
    lowest_window_kwh: float = 1e-6
    min_site_share: float = 0.9


def select_days(
    trading_day: date,
    loads: DayLoads,
    *,
    event_days: Collection[date],
    outage_days: Collection[date],
    rules: Rules,
) -> tuple[tuple[date, ...], list[Finding]]:
    """Return the days of the baseline, ascending, and what to know about them; none where too few."""
    business = is_business_day(trading_day)
    stop_at, at_least = rules.business_days if business else rules.other_days
    index = {day: i for i, day in enumerate(loads.days)}
    alike = [
        day
        for day in (trading_day - back * DAY for back in range(1, rules.look_back_days + 1))
        if is_business_day(day) == business and day not in outage_days
    ]
    complete = [day for day in alike if day in index and _complete_share(loads, index[day]) >= rules.min_site_share]
    findings: list[Finding] = []
    chosen = [day for day in complete if day not in event_days][:stop_at]
    passed_over = [
        d for d in alike if d not in complete and d not in event_days and (len(chosen) < stop_at or d > chosen[-1])
    ]
    if passed_over:
        text = f"{len(passed_over)} like days were passed over because meter data are missing"
        findings.append({"code": "days_without_data", "text": text, "days": _texts(passed_over)})
    if len(chosen) < at_least:
        # Ties go to the more recent day, because `complete` runs backwards and sorting is stable.
        spare = sorted((d for d in complete if d in event_days), key=lambda d: -_event_load_kwh(loads, index[d]))
        filled = spare[: at_least - len(chosen)]
        chosen += filled
        if filled:
            text = "too few days without an event; the event days with the highest load were added"
            findings.append({"code": "event_days_added", "text": text, "days": _texts(filled)})
    if len(chosen) < at_least:
        text = f"only {len(chosen)} usable days in {rules.look_back_days}; at least {at_least} are needed"
        findings.append({"code": "too_few_days", "text": text, "days": _texts(chosen)})
        return (), findings
    return tuple(sorted(chosen)), findings


def caiso_10_in_10(
    trading_day: date,
    loads: DayLoads,
    *,
    event_days: Collection[date],
    outage_days: Collection[date] = (),
    rules: Rules | None = None,
) -> Baseline:
    """Return the baseline of a trading day's event hours.

    Args:
        trading_day: local date of the event hours.
        loads: loads of the trading day (its adjustment hours) and of the days before it.
        event_days: local days with demand response; the trading day itself may be among them.
        outage_days: local days with an outage; never used.
    """
    rules = rules or Rules()
    method = METHOD if rules.adjusted else METHOD_UNADJUSTED
    days, findings = select_days(trading_day, loads, event_days=event_days, outage_days=outage_days, rules=rules)
    nobody = np.zeros(loads.event_kwh.shape[0], dtype=np.bool_)
    if not days:
        return Baseline(
            method=method, days=(), unadjusted_kwh=None, ratio=None, adjustment=None, baseline_kwh=None,
            counted=nobody, findings=tuple(findings),
        )  # fmt: skip
    columns = [loads.days.index(day) for day in days]
    event_mean_kwh, window_mean_kwh, counted, gaps = _site_means(loads, columns)
    findings += gaps
    unadjusted_kwh = event_mean_kwh[counted].sum(axis=0)
    ratio, ratio_findings = _ratio(trading_day, loads, window_mean_kwh, counted, rules)
    adjustment, adjustment_findings = _adjustment(ratio, rules)
    findings += ratio_findings + adjustment_findings
    return Baseline(
        method=method,
        days=days,
        unadjusted_kwh=unadjusted_kwh,
        ratio=ratio,
        adjustment=adjustment,
        baseline_kwh=None if adjustment is None else unadjusted_kwh * adjustment,
        counted=counted,
        findings=tuple(findings),
    )


def _complete(loads: DayLoads, column: int) -> Bools:
    """Sites with every event and window hour of a day, shape (site,)."""
    return np.asarray(loads.event_present[:, column].all(axis=1) & loads.window_present[:, column].all(axis=1))


def _complete_share(loads: DayLoads, column: int) -> float:
    complete = _complete(loads, column)
    return float(complete.mean()) if complete.size else 0.0


def _event_load_kwh(loads: DayLoads, column: int) -> float:
    return float(loads.event_kwh[_complete(loads, column), column].sum())


def _texts(days: Collection[date]) -> list[str]:
    return [day.isoformat() for day in sorted(days)]


def _site_means(loads: DayLoads, columns: list[int]) -> tuple[Floats, Floats, Bools, list[Finding]]:
    """Each site's mean over the chosen days on which it is complete, shape (site, hour).

    Where every site is complete this is the mean of the sums. A gap is thereby filled with the
    site's own mean of the other days; a site without any day is not counted.
    """
    complete = np.stack([_complete(loads, column) for column in columns], axis=1)
    counts = complete.sum(axis=1)
    counted = np.asarray(counts > 0)
    safe = np.maximum(counts, 1)[:, None]
    event_mean_kwh = (loads.event_kwh[:, columns] * complete[:, :, None]).sum(axis=1) / safe
    window_mean_kwh = (loads.window_kwh[:, columns] * complete[:, :, None]).sum(axis=1) / safe
    findings: list[Finding] = []
    gaps = int((~complete[counted]).sum())
    if gaps:
        text = "days of single sites are missing; each is filled with that site's mean of the other days"
        findings.append({"code": "site_days_filled", "text": text, "site_days": gaps})
    if not counted.all():
        text = "sites without one complete day among those chosen are not counted"
        findings.append({"code": "sites_without_history", "text": text, "sites": int((~counted).sum())})
    return event_mean_kwh, window_mean_kwh, counted, findings


def _ratio(
    trading_day: date, loads: DayLoads, window_mean_kwh: Floats, counted: Bools, rules: Rules
) -> tuple[float | None, list[Finding]]:
    if trading_day not in loads.days:
        return None, [{"code": "no_window", "text": "the hours before the event are not metered"}]
    column = loads.days.index(trading_day)
    both = counted & loads.window_present[:, column].all(axis=1)
    if both.sum() < rules.min_site_share * counted.sum() or not both.any():
        text = "too few sites are metered in the hours before the event"
        return None, [{"code": "no_window", "text": text, "sites": int(both.sum()), "of": int(counted.sum())}]
    actual_kwh = float(loads.window_kwh[both, column].sum())
    base_kwh = float(window_mean_kwh[both].sum())
    if base_kwh <= rules.lowest_window_kwh:
        text = "the baseline of the hours before the event is not above zero, so no ratio is defined"
        return None, [{"code": "ratio_undefined", "text": text, "window_kwh": round(base_kwh, 6)}]
    return actual_kwh / base_kwh, []


def _adjustment(ratio: float | None, rules: Rules) -> tuple[float | None, list[Finding]]:
    if not rules.adjusted:
        return 1.0, []
    if ratio is not None:
        return min(max(ratio, rules.cap[0]), rules.cap[1]), []
    if rules.ratio_one_if_undefined:
        return 1.0, [{"code": "ratio_one", "text": "not adjusted, as the programme's terms say for an undefined ratio"}]
    return None, [{"code": "not_measurable", "text": "no day-of ratio, and the programme's terms name no substitute"}]
