"""Jinja templates to answers, and the words and units numbers are shown in. Called by every page router."""

import hashlib
import re
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from vpp.domain.units import mw_from_kw, percent_from_fraction
from vpp.portal.auth import session_cookie
from vpp.portal.credentials import Subject, csrf_token

HERE = Path(__file__).parent
BUNDLE = HERE / "static" / "bundle"
UNKNOWN = "unknown"
_SYMBOLS = {"USD": "$", "EUR": "€", "GBP": "£"}
_METHODS = {"submeter": "sub-meter", "caiso_10_in_10": "CAISO 10-in-10 baseline"}
_THIN = "\u202f"


def page(
    request: Request,
    template: str,
    values: dict[str, Any],
    status: int = 200,
    headers: dict[str, str] | None = None,
    *,
    subject: Subject | None = None,
) -> HTMLResponse:
    """Render a template; `subject` fills the header of the page and gives its forms their CSRF token."""
    everywhere = {
        "subject": subject,
        "csrf": csrf_token(session_cookie(request) or "") if subject else "",
        "version": bundle_version(),
        "path": request.url.path,
    }
    return HTMLResponse(_environment().get_template(template).render({**everywhere, **values}), status, headers)


@cache
def bundle_version() -> str:
    """Changes with the bundle, so that browsers may keep its files; `none` where it was not built."""
    stamp = BUNDLE / "sources.sha256"
    return hashlib.sha256(stamp.read_bytes()).hexdigest()[:10] if stamp.is_file() else "none"


def number(value: float | None, digits: int = 0) -> str:
    """Group thousands with a thin space; a real minus sign; `unknown` for what nobody measured."""
    if value is None:
        return UNKNOWN
    text = f"{value:,.{digits}f}".replace(",", _THIN)
    if float(text.replace(_THIN, "")) == 0:
        text = text.removeprefix("-")
    return text.replace("-", "\u2212")


def power(power_kw: float | None) -> str:
    """kW with one digit below 100 kW, none below 10 MW, then MW with two."""
    if power_kw is None:
        return UNKNOWN
    if abs(power_kw) >= 10_000:
        return f"{number(mw_from_kw(power_kw), 2)} MW"
    return f"{number(power_kw, 1 if abs(power_kw) < 100 else 0)} kW"


def megawatts(power_kw: float | None) -> str:
    """MW with three digits, as the utility counts."""
    return UNKNOWN if power_kw is None else f"{number(mw_from_kw(power_kw), 3)} MW"


def mw(power_kw: float) -> str:
    """MW with three digits, for a column whose head names the unit."""
    return number(mw_from_kw(power_kw), 3)


def energy(energy_kwh: float | None) -> str:
    """kWh with as many digits as make sense."""
    if energy_kwh is None:
        return UNKNOWN
    digits = 2 if abs(energy_kwh) < 10 else 1 if abs(energy_kwh) < 100 else 0
    return f"{number(float(energy_kwh), digits)} kWh"


def figure(value: float) -> str:
    """A number with the digits that count, at most three behind the point."""
    return number(value, 3).rstrip("0").rstrip(".")


def percent(fraction: float | None, digits: int = 0) -> str:
    """A share of one as percent."""
    return UNKNOWN if fraction is None else f"{number(percent_from_fraction(float(fraction)), digits)}{_THIN}%"


def money(cents: int | None, currency: str = "USD") -> str:
    """Cents as an amount."""
    if cents is None:
        return UNKNOWN
    sign = "\u2212" if cents < 0 else ""
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    return f"{sign}{symbol}{abs(cents) // 100:,}.{abs(cents) % 100:02d}"


def price(amount: Decimal, currency: str = "USD") -> str:
    """A price with all its digits, at least two."""
    digits = max(2, -int(amount.normalize().as_tuple().exponent))
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    return f"{symbol}{amount:,.{digits}f}"


def per_kwh(price_per_kwh: float | None, currency: str = "USD") -> str:
    """A price per kWh with as many digits as tell it apart; a dash where there is none."""
    if price_per_kwh is None:
        return "\u2013"
    symbol = _SYMBOLS.get(currency, f"{currency} ")
    sign = "\u2212" if round(price_per_kwh, 3) < 0 else ""
    return f"{sign}{symbol}{number(abs(price_per_kwh), 2 if abs(price_per_kwh) >= 0.1 or price_per_kwh == 0 else 3)}"


def plain(value: Decimal) -> str:
    """A figure of a statement with every digit that counts, so that it can be computed with."""
    return f"{value:f}".replace("-", "\u2212")


def as_energy(value: Decimal | None) -> str:
    """A statement's energy with every digit."""
    return UNKNOWN if value is None else f"{plain(value)} kWh"


def method(name: str | None) -> str:
    """How delivery was measured, as people say it; a name nobody has put in words stays as it is."""
    return _METHODS.get(name, name.replace("_", " ")) if name else UNKNOWN


def days(listed: Sequence[date]) -> str:
    """`3, 4, 5 Aug` with each month named once."""
    by_month = groupby(listed, key=lambda day: day.strftime("%b"))
    return ", ".join(f"{', '.join(str(day.day) for day in some)} {name}" for name, some in by_month)


def month(at: datetime, zone: str) -> str:
    """`2026-08` on the local calendar."""
    return at.astimezone(ZoneInfo(zone)).strftime("%Y-%m")


def local(at: datetime | None, zone: str, form: str = "%a %d %b %Y, %H:%M") -> str:
    """An instant on the local clock, with the zone's abbreviation."""
    if at is None:
        return UNKNOWN
    here = at.astimezone(ZoneInfo(zone))
    return f"{here.strftime(form)} {here.strftime('%Z')}"


def clock(at: datetime, zone: str) -> str:
    """`16:00`, for a column whose zone is named beside it."""
    return at.astimezone(ZoneInfo(zone)).strftime("%H:%M")


def tick(at: datetime, zone: str, length: timedelta) -> str:
    """`16:00` below a chart of at most two days, `19 Aug` below a longer one."""
    return at.astimezone(ZoneInfo(zone)).strftime("%H:%M" if length <= timedelta(days=2) else "%d %b")


def window(start_at: datetime, end_at: datetime, zone: str) -> str:
    """`Wed 19 Aug 2026, 16:00 to 20:00 PDT`; the date again where the end is on another day."""
    start, end = start_at.astimezone(ZoneInfo(zone)), end_at.astimezone(ZoneInfo(zone))
    last = "%H:%M" if start.date() == end.date() else "%a %d %b, %H:%M"
    return f"{start:%a %d %b %Y, %H:%M} to {end.strftime(last)} {end:%Z}"


def field_words(path: str) -> str:
    """`series[1].unit` of an event as a person reads it: `signal 2, unit`."""
    path = re.sub(r"series\[(\d+)\]", lambda found: f"signal {int(found[1]) + 1}", path.removeprefix("extras."))
    return path.replace(".", ", ").replace("_", " ")


def age(seconds: float | None) -> str:
    """`40 s`, `12 min`, `3 h`, `5 days`."""
    if seconds is None:
        return "never"
    for size, name in ((86_400, "days"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{max(0.0, seconds):.0f} s"


_FILTERS = (
    number, power, megawatts, mw, energy, as_energy, figure, percent, money, price, per_kwh, plain,
    method, days, month, local, clock, tick, window, field_words, age,
)  # fmt: skip


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=select_autoescape(default=True),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for shown in _FILTERS:
        environment.filters[shown.__name__] = shown
    return environment
