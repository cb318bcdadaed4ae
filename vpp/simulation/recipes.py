"""Room simulation: how one virtual site is drawn: who owns it, what is installed, what it pays.

Called by `fleet`. Names are made up; tariffs have the shape of Californian ones, at rounded prices.
"""

from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np

from vpp.domain.site import Battery, DemandCharge, EnergyPeriod, Tariff
from vpp.simulation.profiles import Profiles

PEAK_HOURS = (16, 21)
PV_YIELD = 1.35
"""German PV output per rated kW is taken times this: California has the sun for it."""

HOME_TARIFF = Tariff(
    name="Home time-of-use 4-9",
    energy=(
        EnergyPeriod(name="peak", price_per_kwh=Decimal("0.52"), start_h=16, end_h=21),
        EnergyPeriod(name="off-peak", price_per_kwh=Decimal("0.31")),
    ),
    export_price_per_kwh=Decimal("0.08"),
)
COMMERCE_TARIFF = Tariff(
    name="Business time-of-use with demand charges",
    energy=(
        EnergyPeriod(name="peak", price_per_kwh=Decimal("0.24"), start_h=16, end_h=21),
        EnergyPeriod(name="off-peak", price_per_kwh=Decimal("0.16")),
    ),
    export_price_per_kwh=Decimal("0.05"),
    demand=(
        DemandCharge(name="peak", price_per_kw=Decimal("21.50"), start_h=16, end_h=21),
        DemandCharge(name="all-hours", price_per_kw=Decimal("17.25")),
    ),
)

HOME_LOADS = ("H0-A", "H0-B", "H0-C", "H0-G", "H0-L")
COMMERCE_LOADS = ("G0-A", "G0-M", "G1-A", "G1-B", "G2-A", "G3-A", "G3-M", "G4-B", "G4-M", "G5-A", "L1-A")
HOSPITAL_LOADS = ("G3-H",)

TESLA_BATTERIES = ((5.0, 5.0, 13.5), (5.0, 5.0, 13.5), (5.0, 11.5, 13.5), (10.0, 10.0, 27.0), (15.0, 15.0, 40.5))
SUNSPEC_BATTERIES = ((3.8, 3.8, 9.6), (5.0, 5.0, 13.5), (7.6, 7.6, 15.0), (7.6, 7.6, 17.1), (10.0, 10.0, 20.5))
COMMERCE_POWERS_KW = (30.0, 40.0, 60.0, 80.0, 100.0, 120.0)
STORAGE_H = (2.0, 2.5, 4.0)

FAMILIES = (
    *("Alvarez", "Baker", "Chen", "Diaz", "Evans", "Flores", "Garcia", "Hughes", "Ibrahim", "Johnson", "Kim", "Lopez"),
    *("Martin", "Nguyen", "Ortiz", "Park", "Quinn", "Reyes", "Singh", "Torres", "Usman", "Vargas", "White", "Xu"),
    *("Young", "Zhang"),
)
SHOPS = ("Bluebird Market", "Harbor Foods", "Mission Bakery", "Redwood Hardware", "Sierra Cold Store", "Valley Laundry")
HOSPITALS = ("Bayview Hospital", "Hillside Clinic", "Lakeside Hospital", "Mercy Care Centre")


class Kind(StrEnum):
    """What kind of customer a site is."""

    HOME = "home"
    COMMERCE = "commerce"
    HOSPITAL = "hospital"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One site as drawn, before its own history has told its peaks.

    Attributes:
        load_rows, load_mix: two load profiles and the share of the second.
        load_week, load_shift_min: the load is replayed so many whole weeks and minutes off, so that no two
            sites that share a profile move together.
        load_kw: the load at a profile value of 1 [kW].
        pv_row, pv_kw: the PV plant's profile and rated power [kW].
        trades: a Tesla site in 'autonomous' mode with a time-of-use tariff.
        backup_only: kept full for an outage and never discharged by its own controller.
    """

    kind: Kind
    adapter: str
    battery: Battery
    load_rows: tuple[int, int]
    load_mix: float
    load_week: int
    load_shift_min: float
    load_kw: float
    pv_row: int
    pv_kw: float
    reserve_soc: float
    zero_export: bool
    first_soc: float
    ramp_s: float
    trades: bool = False
    backup_only: bool = False

    @property
    def tariff(self) -> Tariff:
        return HOME_TARIFF if self.kind is Kind.HOME else COMMERCE_TARIFF


def draw(random: np.random.Generator, kind: Kind, adapter: str, profiles: Profiles) -> Recipe:
    """Draw one site of a kind."""
    loads = {Kind.HOME: HOME_LOADS, Kind.COMMERCE: COMMERCE_LOADS, Kind.HOSPITAL: HOSPITAL_LOADS}[kind]
    first, second = (profiles.kind(str(random.choice(loads))) for _ in range(2))
    mix = float(random.uniform(0.0, 0.5))
    mean_share = float((1 - mix) * profiles.load[first].mean() + mix * profiles.load[second].mean())
    battery = _battery(random, kind, adapter)
    home = kind is Kind.HOME
    has_pv = bool(random.random() < (0.85 if home else 0.5))
    load_kw = _home_mean_kw(random) / mean_share if home else battery.max_discharge_kw * float(random.uniform(1.4, 3.5))
    mean_pv_share = float(profiles.pv.mean()) * PV_YIELD
    pv_kw = load_kw * mean_share / mean_pv_share * float(random.uniform(0.9, 1.5) if home else random.uniform(0.2, 0.6))
    return Recipe(
        kind=kind,
        adapter=adapter,
        battery=battery,
        load_rows=(first, second),
        load_mix=mix,
        load_week=int(random.integers(0, 13)),
        load_shift_min=float(random.uniform(-45.0, 45.0)) if home else float(random.uniform(-20.0, 20.0)),
        load_kw=load_kw,
        pv_row=int(random.integers(0, profiles.pv.shape[0])),
        pv_kw=round(pv_kw, 1) if has_pv else 0.0,
        reserve_soc=_reserve(random, kind),
        zero_export=bool(random.random() < 0.3),
        first_soc=float(random.uniform(0.4, 0.9)),
        ramp_s=float(random.uniform(5.0, 30.0)) if adapter == "sunspec" else 60.0,
        trades=adapter == "tesla" and bool(random.random() < 0.3),
        backup_only=home and not has_pv,
    )


def _home_mean_kw(random: np.random.Generator) -> float:
    return float(np.clip(random.lognormal(np.log(0.85), 0.35), 0.35, 2.2))


def _battery(random: np.random.Generator, kind: Kind, adapter: str) -> Battery:
    if kind is Kind.HOME:
        table = TESLA_BATTERIES if adapter == "tesla" else SUNSPEC_BATTERIES
        charge, discharge, capacity = table[int(random.integers(0, len(table)))]
    else:
        power = float(random.choice(COMMERCE_POWERS_KW[2:] if kind is Kind.HOSPITAL else COMMERCE_POWERS_KW))
        charge, discharge, capacity = power, power, power * float(random.choice(STORAGE_H))
    return Battery(
        max_charge_kw=charge,
        max_discharge_kw=discharge,
        capacity_kwh=capacity,
        charge_efficiency=round(float(random.uniform(0.94, 0.97)), 3),
        discharge_efficiency=round(float(random.uniform(0.94, 0.97)), 3),
    )


def _reserve(random: np.random.Generator, kind: Kind) -> float:
    low, high = {Kind.HOME: (2, 9), Kind.COMMERCE: (2, 7), Kind.HOSPITAL: (12, 17)}[kind]
    return float(round(int(random.integers(low, high)) * 0.05, 2))
