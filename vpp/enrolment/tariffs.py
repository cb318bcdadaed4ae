"""Room enrolment: a tariff as a form, and the codec between `Tariff` and the JSON column `site.tariff`.

Called by `forms` (what an operator may write) and by `sites` and `enrol` (what is stored).
"""

from decimal import Decimal
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from vpp.domain.site import DemandCharge, EnergyPeriod, Tariff

DAY_NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
EVERY_DAY = (1, 2, 3, 4, 5, 6, 7)
PRICE_ALLOWED = "a price in whole currency units per kWh from -1 to 10, as 0.32"
NAME_PATTERN = r"^[^\s;=]{1,40}$"


def refuse_bool(value: Any) -> Any:
    """Refuse true and false where a number is wanted; Python would take them for 1 and 0."""
    if isinstance(value, bool):
        raise ValueError("a number, not true or false")
    return value


Hour = Annotated[int, BeforeValidator(refuse_bool), Field(ge=0, le=24, description="a local clock hour from 0 to 24")]
PeriodName = Annotated[
    str, Field(pattern=NAME_PATTERN, description="a name of 1-40 characters without space, ';' or '='")
]
EnergyPrice = Annotated[
    Decimal, BeforeValidator(refuse_bool), Field(ge=-1, le=10, allow_inf_nan=False, description=PRICE_ALLOWED)
]
DemandPrice = Annotated[
    Decimal,
    BeforeValidator(refuse_bool),
    Field(
        ge=0,
        le=1000,
        allow_inf_nan=False,
        description="a price in whole currency units per kW from 0 to 1000, as 18.50",
    ),
]


class _PeriodForm(BaseModel):
    """Local clock hours `[start_h, end_h)` on ISO weekdays (Monday 1)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: PeriodName
    start_h: Hour = 0
    end_h: Hour = 24
    weekdays: tuple[int, ...] = Field(EVERY_DAY, description="ISO weekdays from 1 (Monday) to 7 (Sunday)")

    @field_validator("weekdays")
    @classmethod
    def _known_weekdays(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        days = tuple(sorted(set(value)))
        if not days or days[0] < 1 or days[-1] > 7:
            raise ValueError("ISO weekdays from 1 (Monday) to 7 (Sunday), at least one")
        return days

    @model_validator(mode="after")
    def _not_over_midnight(self) -> "_PeriodForm":
        if self.end_h <= self.start_h:
            raise ValueError(
                f"hours whose end is after their start; write {self.start_h}-{self.end_h} over midnight "
                f"as two periods {self.start_h}-24 and 0-{self.end_h}"
            )
        return self


class EnergyPeriodForm(_PeriodForm):
    """A price of imported energy."""

    price_per_kwh: EnergyPrice


class DemandChargeForm(_PeriodForm):
    """A price on the billing period's highest 15-minute import."""

    price_per_kw: DemandPrice


class TariffForm(BaseModel):
    """What the site pays its utility. Energy periods must price every hour of the week."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1, max_length=100, description="the tariff's name, 1-100 characters")
    energy: tuple[EnergyPeriodForm, ...] = Field(
        min_length=1, max_length=50, description="at least one energy period, as 'peak 0.45 16-21 mon-fri; rest 0.20'"
    )
    export_price_per_kwh: EnergyPrice = Decimal(0)
    demand: tuple[DemandChargeForm, ...] = Field(
        (), max_length=20, description="demand charges, as 'summer 18.50 16-21'"
    )

    @field_validator("energy")
    @classmethod
    def _price_for_every_hour(cls, value: tuple[EnergyPeriodForm, ...]) -> tuple[EnergyPeriodForm, ...]:
        for day in EVERY_DAY:
            for hour in range(24):
                if not any(day in p.weekdays and p.start_h <= hour < p.end_h for p in value):
                    raise ValueError(
                        f"a price for every hour of the week; none holds {DAY_NAMES[day - 1]} {hour}-{hour + 1}"
                    )
        return value

    @field_validator("demand")
    @classmethod
    def _names_differ(cls, value: tuple[DemandChargeForm, ...]) -> tuple[DemandChargeForm, ...]:
        names = [charge.name for charge in value]
        if len(set(names)) != len(names):
            raise ValueError("demand charges with different names")
        return value

    def tariff(self) -> Tariff:
        """The form as the domain's value."""
        return Tariff(
            name=self.name,
            energy=tuple(EnergyPeriod(**period.model_dump()) for period in self.energy),
            export_price_per_kwh=self.export_price_per_kwh,
            demand=tuple(DemandCharge(**charge.model_dump()) for charge in self.demand),
        )


def tariff_to_json(tariff: Tariff) -> dict[str, Any]:
    """Return what `site.tariff` stores: prices as text, so that no cent passes through a float."""
    return {
        "name": tariff.name,
        "energy": [{"name": p.name, "price_per_kwh": str(p.price_per_kwh), **_hours(p)} for p in tariff.energy],
        "export_price_per_kwh": str(tariff.export_price_per_kwh),
        "demand": [{"name": c.name, "price_per_kw": str(c.price_per_kw), **_hours(c)} for c in tariff.demand],
    }


def _hours(period: EnergyPeriod | DemandCharge) -> dict[str, Any]:
    return {"start_h": period.start_h, "end_h": period.end_h, "weekdays": list(period.weekdays)}


def tariff_from_json(stored: dict[str, Any]) -> Tariff:
    """Return the tariff that `tariff_to_json` stored. Trusts the store; forms are checked on the way in."""
    return Tariff(
        name=stored["name"],
        energy=tuple(
            EnergyPeriod(
                name=p["name"],
                price_per_kwh=Decimal(p["price_per_kwh"]),
                start_h=p["start_h"],
                end_h=p["end_h"],
                weekdays=tuple(p["weekdays"]),
            )
            for p in stored["energy"]
        ),
        export_price_per_kwh=Decimal(stored["export_price_per_kwh"]),
        demand=tuple(
            DemandCharge(
                name=c["name"],
                price_per_kw=Decimal(c["price_per_kw"]),
                start_h=c["start_h"],
                end_h=c["end_h"],
                weekdays=tuple(c["weekdays"]),
            )
            for c in stored["demand"]
        ),
    )
