"""Builders of domain objects that are right unless a test says otherwise.

Say only what the test is about: `a_site(reserve_soc=0.4)`. Each room adds its own in `builders_<room>.py`.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid5

import numpy as np

from tests.clock import NOON
from vpp.domain.commitment import Commitment, CommitmentState, TargetInterval
from vpp.domain.fleet import FleetState, Quality
from vpp.domain.site import Battery, DemandCharge, EnergyPeriod, ProgramEnrolment, Site, Tariff
from vpp.domain.time import Interval

TENANT = "test"
PROGRAM = "elrp"
TIME_ZONE = "America/Los_Angeles"
_NAMESPACE = UUID("5d1c4f5e-6a1b-4b57-9c55-0d6ad1c1f6aa")


def a_battery(**changes: Any) -> Battery:
    """A 5 kW, 13.5 kWh battery at 95 % each way."""
    usual = Battery(
        max_charge_kw=5.0, max_discharge_kw=5.0, capacity_kwh=13.5, charge_efficiency=0.95, discharge_efficiency=0.95
    )
    return replace(usual, **changes)


def a_tariff(**changes: Any) -> Tariff:
    """Time of use with a peak from 16 to 21 h on weekdays; no demand charge."""
    usual = Tariff(
        name="tou",
        energy=(
            EnergyPeriod(name="peak", price_per_kwh=Decimal("0.48"), start_h=16, end_h=21, weekdays=(1, 2, 3, 4, 5)),
            EnergyPeriod(name="off_peak", price_per_kwh=Decimal("0.29")),
        ),
        export_price_per_kwh=Decimal("0.08"),
    )
    return replace(usual, **changes)


def a_demand_charge(**changes: Any) -> DemandCharge:
    """A charge on the period's highest import at any hour."""
    return replace(DemandCharge(name="any_time", price_per_kw=Decimal("18.00")), **changes)


def a_site(number: int = 1, **changes: Any) -> Site:
    """Site `s0001` and so on: a home in California with a reserve of 20 %, enrolled in `PROGRAM`."""
    usual = Site(
        id=f"s{number:04d}",
        tenant_id=TENANT,
        name=f"Site {number}",
        owner_id=f"o{number:04d}",
        utility_account=f"UA{number:06d}",
        time_zone=TIME_ZONE,
        device_id=number,
        adapter="sunspec",
        address=f"127.0.0.1:{20000 + number}/1",
        battery=a_battery(),
        import_limit_kw=20.0,
        export_limit_kw=10.0,
        reserve_soc=0.2,
        tariff=a_tariff(),
        programs=(ProgramEnrolment(program=PROGRAM, owner_share=Decimal("0.8")),),
    )
    return replace(usual, **changes)


def some_sites(count: int, **changes: Any) -> tuple[Site, ...]:
    """Sites 1 to `count`, alike but for their names, ordered by id."""
    return tuple(a_site(number, **changes) for number in range(1, count + 1))


def a_state(
    sites: Sequence[Site],
    *,
    at: datetime = NOON,
    soc: float | Sequence[float] = 0.8,
    battery_kw: float | Sequence[float] = 0.0,
    grid_kw: float | Sequence[float] = -1.0,
    islanded: bool | Sequence[bool] = False,
    quality: Quality | Sequence[Quality] = Quality.GOOD,
) -> FleetState:
    """A snapshot: one value for all sites, or one for each. By default each imports 1 kW at SOC 0.8."""
    shape = (len(sites),)
    return FleetState(
        at=at,
        site_ids=tuple(site.id for site in sites),
        soc=np.broadcast_to(np.asarray(soc, dtype=np.float64), shape),
        battery_kw=np.broadcast_to(np.asarray(battery_kw, dtype=np.float64), shape),
        grid_kw=np.broadcast_to(np.asarray(grid_kw, dtype=np.float64), shape),
        islanded=np.broadcast_to(np.asarray(islanded, dtype=np.bool_), shape),
        quality=np.broadcast_to(np.asarray(quality, dtype=np.int8), shape),
    )


def some_targets(
    *kw: float, start_at: datetime = NOON + timedelta(hours=4), step: timedelta = timedelta(hours=1)
) -> tuple[TargetInterval, ...]:
    """Contiguous targets [kW], one hour each, from 16 h local unless said otherwise."""
    starts = [start_at + n * step for n in range(len(kw))]
    return tuple(TargetInterval(Interval(at, at + step), power) for at, power in zip(starts, kw, strict=True))


def a_commitment(*kw: float, external_id: str = "event-1", **changes: Any) -> Commitment:
    """An accepted event: `a_commitment(10, 10, 5)` owes these powers [kW] for an hour each."""
    usual = Commitment(
        id=uuid5(_NAMESPACE, external_id),
        tenant_id=TENANT,
        program=PROGRAM,
        source="openadr2:test",
        external_id=external_id,
        modification_number=0,
        state=CommitmentState.ACCEPTED,
        targets=some_targets(*(kw or (10.0,))),
        revision=1,
        opt_in=True,
    )
    return replace(usual, **changes)
