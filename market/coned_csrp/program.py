"""CSRP as a product: when an event may be called, what is owed and what is paid.

**Con Edison's own baseline (its CBL) does not exist here yet.** Delivery is measured by the method
named at construction, "submeter" or "caiso_10_in_10"; both differ from what Con Edison will compute.

Options in a contract's terms: `area`, `reservation_per_kw_month`, `performance_per_kwh`,
`bonus_per_kw_month`, `events_before_month`, `max_event_h`, `call_start_h`, `call_end_h`, `netting`,
`level_shares`.
"""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from uuid import UUID
from zoneinfo import ZoneInfo

from market.coned_csrp import rules
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.money import cents_half_up
from vpp.domain.settlement import EventDelivery, MonthlyPay, Netting, PayLine, ProgramTerms
from vpp.domain.time import Interval


class ConEdCsrp:
    """Paid for capacity kept ready, times how well it performed, and for energy on top."""

    name = "coned_csrp"
    title = "Commercial System Relief Program"

    def __init__(self, measurement: str = "submeter") -> None:
        self.measurement = measurement

    def refuse_reason(self, window: Interval, time_zone: str, terms: ProgramTerms) -> str | None:
        """Return why an event is outside season, weekdays, call hours or length, by the local clock.

        Holidays are not known here.
        """
        zone = ZoneInfo(time_zone)
        start, end = window.start_at.astimezone(zone), window.end_at.astimezone(zone)
        if not rules.FIRST_MONTH <= start.month <= rules.LAST_MONTH:
            return f"CSRP runs May to September; the event starts on {start:%Y-%m-%d}"
        if start.isoweekday() > 5:
            return f"CSRP events are on weekdays; {start:%Y-%m-%d} is a {start:%A}"
        longest_h = float(terms.options.get("max_event_h", rules.MAX_EVENT_H))
        if window.duration_h > longest_h:
            return f"CSRP events last up to {longest_h:g} h; this one lasts {window.duration_h:g} h"
        first_h, last_h = int(terms.options.get("call_start_h", 0)), int(terms.options.get("call_end_h", 24))
        midnight = start.replace(hour=0, minute=0, second=0, microsecond=0)
        # Wall clock on purpose: both carry the same zone, so this adds clock hours.
        if start < midnight + timedelta(hours=first_h) or end > midnight + timedelta(hours=last_h):
            hours = f"{first_h}:00 and {last_h}:00"
            return f"this network is called between {hours} local; the event is {start:%H:%M} to {end:%H:%M}"
        return None

    def kw_of_level(self, level: float, terms: ProgramTerms) -> float:
        """Return the power owed for a SIMPLE level: a share of the nominated power, all of it by default."""
        if level == 0:
            return 0.0
        shares = terms.options.get("level_shares", {"1": 1, "2": 1, "3": 1})
        share = shares.get(f"{level:g}")
        if share is None:
            raise InvalidRequest("level", level, f"a level of the contract: 0, {', '.join(shares)}")
        return float(terms.nominated_kw * Decimal(str(share)))

    def monthly_pay(self, month: date, events: Sequence[EventDelivery], terms: ProgramTerms) -> MonthlyPay:
        """Return reservation, bonus and performance for the month's events.

        An event whose first four hours are not wholly measured has no factor and takes no part in the
        mean. A month without any factor has no reservation line: how Con Edison carries a factor over
        is not established.

        Raises:
            NotReady: nothing is nominated.
        """
        if terms.nominated_kw <= 0:
            raise NotReady(f"{self.name}: no nominated kW in the terms, so no performance factor")
        factors = [f for event in events if (f := event_factor(event, terms.nominated_kw)) is not None]
        lines = [self._performance(event, terms) for event in events]
        factor = None
        if factors:
            factor = _rounded(sum((Fraction(f) for f in factors), Fraction(0)) / len(factors))
            lines = [*self._reservation(events, factor, terms), *lines]
        return MonthlyPay(
            program=self.name, month=month, currency=terms.currency, performance_factor=factor, lines=tuple(lines)
        )

    def _reservation(self, events: Sequence[EventDelivery], factor: Decimal, terms: ProgramTerms) -> list[PayLine]:
        in_low_area = terms.options.get("area") in rules.LOW_AREAS
        usual = rules.RESERVATION_LOW_PER_KW_MONTH if in_low_area else rules.RESERVATION_PER_KW_MONTH
        price = _option(terms, "reservation_per_kw_month", usual)
        quantity_kw = terms.nominated_kw * factor
        lines = [_line("reservation", None, quantity_kw, "kW-month", price, rules.RESERVATION_CLAUSE)]
        counted = int(terms.options.get("events_before_month", 0)) + sum(not event.is_test for event in events)
        if counted >= rules.BONUS_FROM_EVENT:
            bonus = _option(terms, "bonus_per_kw_month", rules.BONUS_PER_KW_MONTH)
            lines.append(_line("bonus", None, quantity_kw, "kW-month", bonus, rules.BONUS_CLAUSE))
        return lines

    def _performance(self, event: EventDelivery, terms: ProgramTerms) -> PayLine:
        measured = [part.delivered_kwh for part in event.intervals if part.delivered_kwh is not None]
        if Netting.of(terms) is Netting.INTERVAL:
            measured = [max(kwh, Decimal(0)) for kwh in measured]
        quantity_kwh = max(sum(measured, Decimal(0)), Decimal(0))
        price = _option(terms, "performance_per_kwh", rules.PERFORMANCE_PER_KWH)
        return _line("performance", event.commitment_id, quantity_kwh, "kWh", price, rules.PERFORMANCE_CLAUSE)


def event_factor(event: EventDelivery, nominated_kw: Decimal) -> Decimal | None:
    """Return mean kW of the first four hours over the nominated kW, within 0 and 1; None if unmeasured.

    A shorter event counts with the hours it has; an interval cut by the fourth hour counts in part.
    """
    head = Interval(
        event.window.start_at, min(event.window.end_at, event.window.start_at + timedelta(hours=rules.FACTOR_HOURS))
    )
    energy_kwh, duration = Fraction(0), timedelta(0)
    for part in event.intervals:
        common = part.interval.overlap(head)
        if common is None:
            continue
        if part.delivered_kwh is None:
            return None
        energy_kwh += Fraction(part.delivered_kwh) * Fraction(common.duration // _US, part.interval.duration // _US)
        duration += common.duration
    mean_kw = energy_kwh / (Fraction(duration // _US) / 3_600_000_000)
    return _rounded(min(max(mean_kw / Fraction(nominated_kw), Fraction(0)), Fraction(1)))


_US = timedelta(microseconds=1)


def _rounded(factor: Fraction) -> Decimal:
    exact = Decimal(factor.numerator) / Decimal(factor.denominator)
    return exact.quantize(rules.FACTOR_DIGITS, rounding=ROUND_HALF_UP)


def _option(terms: ProgramTerms, name: str, usual: Decimal) -> Decimal:
    return Decimal(str(terms.options.get(name, usual)))


def _line(
    kind: str, commitment_id: UUID | None, quantity: Decimal, unit: str, price_per_unit: Decimal, clause: str
) -> PayLine:
    return PayLine(
        kind=kind,
        commitment_id=commitment_id,
        quantity=quantity,
        unit=unit,
        price=price_per_unit,
        amount_cents=cents_half_up(quantity * price_per_unit),
        clause=clause,
    )
