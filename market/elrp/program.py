"""ELRP as a product: when an event may be called, what is owed and what is paid.

Options in a contract's terms: `price_per_kwh`, `max_event_h`, `hours_used`, `netting`
("event" or "interval"), `level_shares` (SIMPLE level to share of the nominated power).
"""

from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from zoneinfo import ZoneInfo

from market.elrp import rules
from vpp.domain.errors import InvalidRequest
from vpp.domain.money import cents_half_up
from vpp.domain.settlement import EventDelivery, MonthlyPay, Netting, PayLine, ProgramTerms
from vpp.domain.time import Interval


class Elrp:
    """Sub-metered, as groups A.4 (virtual power plants) and A.5 may be [S: SCE ELRP FAQ]."""

    name = "elrp"
    title = "Emergency Load Reduction Program"

    def __init__(self, measurement: str = "submeter") -> None:
        self.measurement = measurement

    def refuse_reason(self, window: Interval, time_zone: str, terms: ProgramTerms) -> str | None:
        """Return why an event is outside season, hours or length, by the local clock, or None."""
        zone = ZoneInfo(time_zone)
        start, end = window.start_at.astimezone(zone), window.end_at.astimezone(zone)
        if not rules.FIRST_MONTH <= start.month <= rules.LAST_MONTH:
            return f"ELRP runs May to October; the event starts on {start:%Y-%m-%d}"
        first = start.replace(hour=rules.FIRST_HOUR, minute=0, second=0, microsecond=0)
        last = start.replace(hour=rules.LAST_HOUR, minute=0, second=0, microsecond=0)
        if start < first or end > last:
            return f"ELRP events lie between 16:00 and 21:00 local; this one is {start:%H:%M} to {end:%H:%M}"
        longest_h = float(terms.options.get("max_event_h", rules.MAX_EVENT_H))
        if window.duration < timedelta(hours=rules.MIN_EVENT_H) or window.duration_h > longest_h:
            return f"ELRP events last 1 to {longest_h:g} h; this one lasts {window.duration_h:g} h"
        used_h = float(terms.options.get("hours_used", 0.0))
        if used_h + window.duration_h > rules.MAX_HOURS_A_YEAR:
            return f"ELRP calls at most 60 h a year; {used_h:g} h are used"
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
        """Return one line per event: verified kWh, never below zero, times the price.

        What could not be measured is not paid. `netting` says whether an hour above the baseline
        eats up another hour's reduction (EVENT) or counts as zero (INTERVAL).
        """
        price = Decimal(str(terms.options.get("price_per_kwh", rules.PRICE_PER_KWH)))
        lines = []
        for event in events:
            quantity_kwh = verified_kwh(event, Netting.of(terms))
            lines.append(
                PayLine(
                    kind="performance",
                    commitment_id=event.commitment_id,
                    quantity=quantity_kwh,
                    unit="kWh",
                    price=price,
                    amount_cents=cents_half_up(quantity_kwh * price),
                    clause=rules.PRICE_CLAUSE,
                )
            )
        return MonthlyPay(
            program=self.name, month=month, currency=terms.currency, performance_factor=None, lines=tuple(lines)
        )


def verified_kwh(event: EventDelivery, netting: Netting) -> Decimal:
    """Return an event's paid reduction [kWh], at least 0."""
    measured = [part.delivered_kwh for part in event.intervals if part.delivered_kwh is not None]
    if netting is Netting.INTERVAL:
        measured = [max(kwh, Decimal(0)) for kwh in measured]
    return max(sum(measured, Decimal(0)), Decimal(0))
