"""Delivery and pay as values: what was measured in an event and what a month of them earns."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from vpp.domain.time import Interval


class Netting(StrEnum):
    """What is set off before negative delivery is counted as zero; the option `netting` in terms."""

    EVENT = "event"
    """The whole event is summed first: charging in one hour eats up discharge in another."""
    INTERVAL = "interval"
    """Each interval is floored at zero by itself."""

    @classmethod
    def of(cls, terms: "ProgramTerms") -> "Netting":
        """Return the terms' netting; the whole event where they do not say."""
        return cls(terms.options.get("netting", cls.EVENT))


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramTerms:
    """A tenant's contract in a programme.

    Attributes:
        program: the programme's name.
        nominated_kw: capacity nominated for the current month [kW].
        currency: ISO 4217 code.
        options: the contract's own numbers (prices, caps), as named in the programme's rules file.
    """

    program: str
    nominated_kw: Decimal
    currency: str = "USD"
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class IntervalDelivery:
    """Delivery in one interval of an event at resource level [kWh]; None means not measurable."""

    interval: Interval
    committed_kwh: Decimal
    delivered_kwh: Decimal | None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventDelivery:
    """Delivery in one event by the programme's own measurement."""

    commitment_id: UUID
    window: Interval
    is_test: bool
    intervals: tuple[IntervalDelivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PayLine:
    """One line of a month's pay: quantity times price, rounded once by the programme's rule."""

    kind: str
    commitment_id: UUID | None
    quantity: Decimal
    unit: str
    price: Decimal
    amount_cents: int
    clause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MonthlyPay:
    """What the utility owes for a month, as far as its events are measured."""

    program: str
    month: date
    currency: str
    performance_factor: Decimal | None
    lines: tuple[PayLine, ...]

    @property
    def total_cents(self) -> int:
        return sum(line.amount_cents for line in self.lines)
