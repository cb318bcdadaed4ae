"""Room enrolment: the form one site is enrolled by, the same for a CSV line and an API entry.

Called by `csvfile`, `enrol` and the portal. Each field's description says what is allowed and is
what a refusal shows.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date
from decimal import Decimal
from functools import cache
from typing import Annotated, Any
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PrivateAttr, ValidationError, field_validator
from pydantic_core import ErrorDetails
from pydantic_core.core_schema import ValidationInfo

from vpp.enrolment.problems import EnrolmentRefused, Problem, shown
from vpp.enrolment.tariffs import TariffForm, refuse_bool

ID_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
ID_ALLOWED = "1-64 letters, digits, '.', '_' or '-', beginning with a letter or digit"
EMAIL_PATTERN = r"^[^@\s,;]+@[^@\s,;]+\.[^@\s,;.]+$"


def _share(value: Any) -> Any:
    refuse_bool(value)
    try:
        number = float(value)
    except (TypeError, ValueError):
        return value
    if 1 < number <= 100:
        raise ValueError(f"a share from 0 to 1; {number:g} percent is written {number / 100:g}")
    return value


Kw = Annotated[
    float,
    BeforeValidator(refuse_bool),
    Field(ge=0, le=1e6, allow_inf_nan=False, description="a power in kW from 0 to 1000000, with a decimal point"),
]
Share = Annotated[
    float, BeforeValidator(_share), Field(ge=0, le=1, allow_inf_nan=False, description="a share from 0 to 1")
]
Efficiency = Annotated[
    float,
    BeforeValidator(_share),
    Field(gt=0, le=1, allow_inf_nan=False, description="a share above 0 up to 1, as 0.95"),
]
Identifier = Annotated[str, Field(pattern=ID_PATTERN, description=ID_ALLOWED)]


class BatteryForm(BaseModel):
    """A battery at its AC terminals; powers are magnitudes, efficiencies one way."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_charge_kw: Kw
    max_discharge_kw: Kw
    capacity_kwh: Annotated[float, BeforeValidator(refuse_bool)] = Field(
        gt=0, le=1e7, allow_inf_nan=False, description="usable energy in kWh above 0, with a decimal point"
    )
    charge_efficiency: Efficiency
    discharge_efficiency: Efficiency


class ProgramForm(BaseModel):
    """A programme the site takes part in and the owner's share of its revenue."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    program: Identifier
    owner_share: Annotated[Decimal, BeforeValidator(_share)] = Field(
        ge=0,
        le=1,
        max_digits=6,
        decimal_places=5,
        allow_inf_nan=False,
        description="a share from 0 to 1, up to 5 decimals",
    )

    @field_validator("program")
    @classmethod
    def _known(cls, value: str, info: ValidationInfo) -> str:
        return _one_of(value, info, "programs", "programme")


class SiteForm(BaseModel):
    """One site as its operator enrols it. `name` and `owner_name` default to the ids."""

    model_config = ConfigDict(extra="forbid", frozen=True, str_strip_whitespace=True)

    site: Identifier
    name: str = Field("", max_length=200, description="a name of up to 200 characters")
    owner: Identifier
    owner_name: str = Field("", max_length=200, description="a name of up to 200 characters")
    owner_email: str = Field(
        pattern=EMAIL_PATTERN, max_length=254, description="an e-mail address, as owner@example.com"
    )
    utility_account: str = Field(
        pattern=r"^[^\s]{1,64}$", description="the utility's account number, 1-64 characters without space"
    )
    time_zone: str = Field(description="an IANA time zone, as America/Los_Angeles")
    programs: tuple[ProgramForm, ...] = Field(
        (), max_length=20, description="programmes with the owner's share, as 'elrp=0.8'"
    )
    battery: BatteryForm
    import_limit_kw: Kw
    export_limit_kw: Kw
    reserve_soc: Share
    tariff: TariffForm
    billing_start: date | None = Field(
        None, validate_default=True, description="the first day of the billing period, as 2026-08-01"
    )
    peaks_so_far_kw: dict[str, Kw] = Field(
        default_factory=dict,
        validate_default=True,
        description="the billing period's highest import per demand charge in kW, as 'summer=12.5'",
    )
    adapter: str = Field(min_length=1, max_length=64, description="the name of an adapter")
    address: str = Field(
        min_length=1, max_length=500, description="how the adapter reaches the device, 1-500 characters"
    )

    _line: int = PrivateAttr(default=0)

    @property
    def line(self) -> int:
        """Where it was read: the file's line from 1, or the API entry's place from 0."""
        return self._line

    def at_line(self, line: int) -> "SiteForm":
        """The same form, remembering where it came from."""
        self._line = line
        return self

    @field_validator("time_zone")
    @classmethod
    def _real_zone(cls, value: str) -> str:
        if value not in _time_zones():
            raise ValueError("an IANA time zone, as America/Los_Angeles")
        return value

    @field_validator("adapter")
    @classmethod
    def _known_adapter(cls, value: str, info: ValidationInfo) -> str:
        return _one_of(value, info, "adapters", "adapter")

    @field_validator("programs")
    @classmethod
    def _programs_once(cls, value: tuple[ProgramForm, ...]) -> tuple[ProgramForm, ...]:
        names = [entry.program for entry in value]
        if len(set(names)) != len(names):
            raise ValueError("each programme once")
        return value

    @field_validator("billing_start")
    @classmethod
    def _billing_with_demand(cls, value: date | None, info: ValidationInfo) -> date | None:
        tariff = info.data.get("tariff")
        if value is None and tariff is not None and tariff.demand:
            raise ValueError("the first day of the billing period, because the tariff has demand charges")
        return value

    @field_validator("peaks_so_far_kw")
    @classmethod
    def _one_peak_per_charge(cls, value: dict[str, float], info: ValidationInfo) -> dict[str, float]:
        tariff = info.data.get("tariff")
        if tariff is not None and set(value) != {charge.name for charge in tariff.demand}:
            names = "; ".join(f"{charge.name}=<kW>" for charge in tariff.demand)
            raise ValueError(
                f"one value for each demand charge of the tariff: {names or 'none, as it has no demand charge'}"
            )
        return value


@cache
def _time_zones() -> frozenset[str]:
    return frozenset(available_timezones() - {"Factory", "localtime", "posixrules"})


def _one_of(value: str, info: ValidationInfo, key: str, what: str) -> str:
    known: Collection[str] | None = (info.context or {}).get(key)
    if known is not None and value not in known:
        raise ValueError(f"a known {what}: {', '.join(sorted(known)) or 'none is set up'}")
    return value


def known_names(
    adapters: Collection[str] | None, programs: Collection[str] | None
) -> dict[str, Collection[str] | None]:
    """The context forms are checked in; None accepts any name."""
    return {"adapters": adapters, "programs": programs}


def allowed_by(error: ErrorDetails) -> str:
    """What would be right, for one error of pydantic: our own words, the field's description, else pydantic's."""
    if error["type"] == "value_error":
        return str(error["ctx"]["error"])
    if error["type"] == "extra_forbidden":
        return "no such field"
    described = _description(tuple(part for part in error["loc"] if isinstance(part, str)))
    return described or error["msg"].lower()


def _description(path: Sequence[str]) -> str:
    model: type[BaseModel] | None = SiteForm
    described = ""
    for name in path:
        field = model.model_fields.get(name) if model is not None else None
        if field is None:
            return described
        described = field.description or described
        inner = [a for a in (field.annotation, *getattr(field.annotation, "__args__", ())) if isinstance(a, type)]
        model = next((a for a in inner if issubclass(a, BaseModel)), None)
    return described


def read_site_forms(
    entries: Iterable[Any], *, adapters: Collection[str] | None = None, programs: Collection[str] | None = None
) -> list[SiteForm]:
    """Check a list of entries as the API gets them.

    Raises:
        EnrolmentRefused: at least one entry is wrong; `line` is the entry's place from 0, `column` its field's path.
    """
    forms: list[SiteForm] = []
    problems: list[Problem] = []
    for place, entry in enumerate(entries):
        if not isinstance(entry, Mapping):
            problems.append(Problem(place, "", shown(entry), "an object with the fields of a site"))
            continue
        try:
            forms.append(SiteForm.model_validate(entry, context=known_names(adapters, programs)).at_line(place))
        except ValidationError as refused:
            for error in refused.errors(include_url=False):
                path = ".".join(str(part) for part in error["loc"])
                missing = error["type"] == "missing"
                problems.append(Problem(place, path, "" if missing else shown(error["input"]), allowed_by(error)))
    problems += repeated(forms, lambda line: f"entry {line}")
    if problems:
        raise EnrolmentRefused(problems)
    return forms


def repeated(forms: Iterable[SiteForm], place: Any) -> list[Problem]:
    """Problems between the forms of one import: a site or utility account twice, an owner told differently."""
    problems: list[Problem] = []
    seen: dict[tuple[str, str], SiteForm] = {}
    for form in forms:
        for column in ("site", "utility_account"):
            first = seen.setdefault((column, getattr(form, column)), form)
            if first is not form:
                allowed = f"each {column} once; it is also on {place(first.line)}"
                problems.append(Problem(form.line, column, getattr(form, column), allowed))
        first = seen.setdefault(("owner", form.owner), form)
        for column in ("owner_name", "owner_email"):
            if getattr(first, column) != getattr(form, column):
                allowed = f"what {place(first.line)} says of owner {form.owner}: {getattr(first, column)!r}"
                problems.append(Problem(form.line, column, getattr(form, column), allowed))
    return problems
