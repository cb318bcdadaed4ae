"""Room enrolment: the small notations of CSV cells that hold more than one value, both ways.

Called by `csvfile`. Entries are separated by ';'. Their names hold no space, ';' or '='.

    programs          elrp=0.8; coned_csrp=0.75               programme=owner's share
    peaks_so_far_kw   summer=12.5; any=20                     demand charge=kW
    energy_prices     peak 0.45 16-21 mon-fri; rest 0.20      name price [hours] [days]
    demand_charges    summer 18.50 16-21 mon-fri; any 5       name price [hours] [days]

Hours are local clock hours `from-to` (0-24 if left out). Days are `mon`, `mon-fri` or parts joined
by '+', as `mon-wed+sat` (every day if left out). Where periods overlap, the first one applies.
"""

from collections.abc import Iterable
from typing import Any

from vpp.enrolment.tariffs import DAY_NAMES, EVERY_DAY, DemandChargeForm, EnergyPeriodForm

PAIRS_ALLOWED = "entries as 'name=value', separated by ';'"
PERIODS_ALLOWED = "entries as 'name price [from-to] [mon-fri]', separated by ';'"
DAYS_ALLOWED = "days as 'mon', 'mon-fri' or 'mon-wed+sat'"


def split_entries(cell: str) -> list[str]:
    """The entries of a cell, without the empty ones."""
    return [entry.strip() for entry in cell.split(";") if entry.strip()]


def read_pairs(cell: str) -> dict[str, str]:
    """Read 'name=value; name=value'.

    Raises:
        ValueError: what is allowed instead.
    """
    pairs: dict[str, str] = {}
    for entry in split_entries(cell):
        name, equals, value = (part.strip() for part in entry.partition("="))
        if not (name and equals and value):
            raise ValueError(f"{PAIRS_ALLOWED}; {entry!r} is not one")
        if name in pairs:
            raise ValueError(f"each name once; {name!r} is given twice")
        pairs[name] = value
    return pairs


def write_pairs(pairs: Iterable[tuple[str, object]]) -> str:
    """Write what `read_pairs` reads."""
    return "; ".join(f"{name}={value}" for name, value in pairs)


def read_periods(cell: str, price_field: str) -> list[dict[str, Any]]:
    """Read 'name price [hours] [days]' entries into the fields of a period form.

    Raises:
        ValueError: what is allowed instead.
    """
    periods: list[dict[str, Any]] = []
    for entry in split_entries(cell):
        words = entry.split()
        if not 2 <= len(words) <= 4:
            raise ValueError(f"{PERIODS_ALLOWED}; {entry!r} is not one")
        period: dict[str, Any] = {"name": words[0], price_field: words[1]}
        for word in words[2:]:
            if word[0].isdigit() and "start_h" not in period:
                start, dash, end = word.partition("-")
                if not (dash and start.isdecimal() and end.isdecimal()):
                    raise ValueError(f"hours as '16-21'; {word!r} is not")
                period |= {"start_h": int(start), "end_h": int(end)}
            elif "weekdays" not in period:
                period["weekdays"] = read_days(word)
            else:
                raise ValueError(f"{PERIODS_ALLOWED}; {entry!r} is not one")
        periods.append(period)
    return periods


def write_periods(periods: Iterable[EnergyPeriodForm | DemandChargeForm]) -> str:
    """Write what `read_periods` reads."""
    entries = []
    for period in periods:
        price = period.price_per_kwh if isinstance(period, EnergyPeriodForm) else period.price_per_kw
        words = [period.name, f"{price:f}"]
        if (period.start_h, period.end_h) != (0, 24):
            words.append(f"{period.start_h}-{period.end_h}")
        if period.weekdays != EVERY_DAY:
            words.append("+".join(DAY_NAMES[day - 1] for day in period.weekdays))
        entries.append(" ".join(words))
    return "; ".join(entries)


def read_days(word: str) -> list[int]:
    """Read 'mon-fri+sun' into ISO weekdays.

    Raises:
        ValueError: what is allowed instead.
    """
    days: list[int] = []
    for part in word.lower().split("+"):
        first, dash, last = part.partition("-")
        if first not in DAY_NAMES or (dash and last not in DAY_NAMES):
            raise ValueError(f"{DAYS_ALLOWED}; {word!r} is not")
        start, end = DAY_NAMES.index(first), DAY_NAMES.index(last if dash else first)
        if end < start:
            raise ValueError(f"{DAYS_ALLOWED}, in the order of the week; {word!r} is not")
        days += range(start + 1, end + 2)
    return days
