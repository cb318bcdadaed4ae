"""A site as its owner signed it: battery, grid connection, tariff, reserve and how to reach it."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Battery:
    """A battery at its AC terminals. Powers are magnitudes [kW], efficiencies one way, 0-1."""

    max_charge_kw: float
    max_discharge_kw: float
    capacity_kwh: float
    charge_efficiency: float
    discharge_efficiency: float


@dataclass(frozen=True, slots=True, kw_only=True)
class EnergyPeriod:
    """A price of imported energy that holds in local clock hours `[start_h, end_h)`.

    `weekdays` are ISO weekdays (Monday 1). Where periods overlap, the first one listed applies.
    """

    name: str
    price_per_kwh: Decimal
    start_h: int = 0
    end_h: int = 24
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandCharge:
    """A price on the billing period's highest mean import over 15 minutes, in local clock hours."""

    name: str
    price_per_kw: Decimal
    start_h: int = 0
    end_h: int = 24
    weekdays: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tariff:
    """What the site pays its utility: time-of-use energy, export credit and demand charges."""

    name: str
    energy: tuple[EnergyPeriod, ...]
    export_price_per_kwh: Decimal = Decimal(0)
    demand: tuple[DemandCharge, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramEnrolment:
    """A site's part in a programme: its name, and the owner's share of the revenue, 0-1."""

    program: str
    owner_share: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One enrolled site.

    `reserve_soc` is the owner's backup reserve, a hard floor. `peak_so_far_kw` is the billing
    period's highest import until now, one value for each demand charge of the tariff, by name.
    """

    id: str
    tenant_id: str
    name: str
    owner_id: str
    utility_account: str
    time_zone: str
    device_id: int
    adapter: str
    address: str
    battery: Battery
    import_limit_kw: float
    export_limit_kw: float
    reserve_soc: float
    tariff: Tariff
    programs: tuple[ProgramEnrolment, ...] = ()
    peak_so_far_kw: dict[str, float] = field(default_factory=dict)
    billing_start: date | None = None
