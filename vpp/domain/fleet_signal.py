"""What a utility's event means for the fleet, interval by interval: one class for each kind of meaning.

Made by `vpp/gateway/meanings.py` from events of either protocol. Nothing here is guessed: what cannot be read as
its type says is `NotUsable`, with the reason, and a type nobody knows is `Unknown`, with its name and values.
Power and energy are kW and kWh, shares are of one.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from enum import StrEnum

from vpp.domain.grid_event import Point, SeriesType, Value


class Direction(StrEnum):
    """Which way energy crosses the grid connection, seen from the site."""

    IMPORT = "import"
    EXPORT = "export"


class Effect(StrEnum):
    """What came of a signal here."""

    COMMITTED = "committed"
    LIMIT = "limit"
    SHOWN = "shown"
    REFUSED = "refused"
    ENDED = "ended"


class PriceKind(StrEnum):
    """What a price is of."""

    IMPORT = "import"
    EXPORT = "export"
    ALTERNATE = "alternate"
    RELATIVE = "relative"
    MULTIPLIER = "multiplier"


class Capacity(StrEnum):
    """What is said of a grid connection's capacity beside its limit."""

    SUBSCRIPTION = "subscription"
    RESERVATION = "reservation"
    RESERVATION_FEE = "reservation fee"
    AVAILABLE = "available"
    AVAILABLE_PRICE = "price of available capacity"


class ChargeKind(StrEnum):
    """How a state of charge is stated."""

    SETPOINT = "setpoint"
    DELTA = "delta"
    MULTIPLIER = "multiplier"


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetSignal:
    """From when to when (None: without end) a signal of a type holds; `name` is the type as the sender wrote it."""

    type: SeriesType
    name: str
    start_at: datetime
    end_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PowerOwed(FleetSignal):
    """Power asked for, counted toward the grid [kW]."""

    power_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Level(FleetSignal):
    """SIMPLE's 0 to 3, or the level of a dispatch: the programme says how many kW it is, if any."""

    level: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelOffset(FleetSignal):
    """Steps away from normal operation, -10 to 10: the higher, the less load. No kW, and none is made of it."""

    steps: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PercentOffset(FleetSignal):
    """Change of the level of operation as a share of the normal one, -1 to 1: 0.5 is 50 %. Not a share of a load."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Multiplier(FleetSignal):
    """A multiple of the usual consumption; what is usual the sender's programme says."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareOfCapacity(FleetSignal):
    """Share of its load control capacity a resource may use, 0 to 1 (2.0b's x-loadControlCapacity)."""

    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Price(FleetSignal):
    """A price per unit of energy (`KWH`, `THERMS`), its change, or a multiple of it (no unit)."""

    kind: PriceKind
    amount: Decimal
    unit: str | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandPrice(FleetSignal):
    """A price per kW of peak demand."""

    amount_per_kw: Decimal
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityLimit(FleetSignal):
    """The most that may cross the grid connection in a direction [kW]; a hard limit."""

    direction: Direction
    limit_kw: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityTerms(FleetSignal):
    """What is said of capacity in a direction: kW, or for fees and prices an amount per kW."""

    direction: Direction
    what: Capacity
    amount: Decimal
    currency: str | None = None


def charge_within(share: float | None, energy_kwh: float | None, *, capacity_kwh: float, reserve_soc: float) -> float:
    """A wanted charge, stated as a share or in kWh, as a share from the owner's reserve to full."""
    stated = share if share is not None else (energy_kwh or 0.0) / capacity_kwh
    return min(1.0, max(reserve_soc, stated))


@dataclass(frozen=True, slots=True, kw_only=True)
class ChargeState(FleetSignal):
    """A state of charge wanted, a change or a multiple of it, as a share of one or in kWh; one of the two is set."""

    kind: ChargeKind
    share: float | None = None
    energy_kwh: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Alert(FleetSignal):
    """A warning for people; `text` is the sender's."""

    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Emissions(FleetSignal):
    """Marginal greenhouse gas emissions [g/kWh]."""

    grams_per_kwh: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Curve(FleetSignal):
    """A curve of points for an inverter, in units its programme defines."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadShape(FleetSignal):
    """Optimum load shape (ANSI/SCTE 267): shares of usage, 0 to 1."""

    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction(FleetSignal):
    """Words agreed on outside the protocol."""

    texts: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceSetting(FleetSignal):
    """A setting of a device, in units its programme defines."""

    value: Value
    unit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceCommand(FleetSignal):
    """CTA-2045's reboot (0 soft, 1 hard) or override (0 none, 1 set), passed through."""

    code: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Bid(FleetSignal):
    """A bid's price per kWh, power [kW] or energy [kWh], by its type."""

    amount: Decimal
    unit: str | None
    currency: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Unknown(FleetSignal):
    """A type nobody here knows: kept as it came, and nothing is read into it."""

    values: tuple[Value, ...]
    unit: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NotUsable(FleetSignal):
    """A value that is not what its type says; `reason` names type, value and what would be right."""

    values: tuple[Value, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetLimit:
    """A capacity limit in force at one site, or for all sites together where `site_id` is None [kW]."""

    source: str
    event_id: str
    direction: Direction
    limit_kw: float
    start_at: datetime
    end_at: datetime | None
    site_id: str | None = None

    def overlaps(self, start_at: datetime, end_at: datetime) -> bool:
        """Whether it holds at any moment of a stretch of time."""
        return self.start_at < end_at and (self.end_at is None or self.end_at > start_at)
