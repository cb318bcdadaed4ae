"""Room openadr2: instants, durations, numbers and yes/no as 2.0b writes them. Called by readers and writers.

Texts arrive schema-valid, yet may lie outside what we can hold: then `InvalidRequest`.
"""

import math
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import as_utc

_INSTANT = re.compile(r"(\d{4})-(\d{2})-(\d{2})T(\d{2}):(\d{2}):(\d{2})(?:\.(\d*))?Z?", re.ASCII)
_DURATION = re.compile(r"([+-])?P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)D)?T?(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?|(\d+)W", re.ASCII)
_DAYS_OF = {"Y": 365, "M": 30}
MAX_DURATION = timedelta(days=3660)
MAX_MAGNITUDE = 1e15
_SCALE = {"p": -12, "n": -9, "micro": -6, "m": -3, "c": -2, "d": -1, "none": 0, "k": 3, "M": 6, "G": 9, "T": 12}


def read_instant(text: str, field: str) -> datetime:
    """Return an instant; without a zone it is UTC, as the profile has all times in UTC."""
    match = _INSTANT.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(field, text, "a date and time in UTC, as 2026-08-19T23:00:00Z")
    year, month, day, hour, minute, second = (int(group) for group in match.groups()[:6])
    micros = int((match[7] or "0")[:6].ljust(6, "0"))
    try:
        at = datetime(year, month, day, 0 if hour == 24 else hour, minute, second, micros, tzinfo=UTC)
        return at + timedelta(days=1) if hour == 24 else at
    except (ValueError, OverflowError) as error:
        raise InvalidRequest(field, text, "a date and time of the calendar") from error


def read_duration(text: str, field: str) -> timedelta:
    """Return a length of time, zero or more; a year counts 365 days and a month 30 (also in openleadr).

    openleadr's "P" for zero is valid by the schema, and is zero.
    """
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise InvalidRequest(field, text, "a duration, as PT15M")
    sign, *parts, weeks = match.groups()
    years, months, days, hours, minutes, seconds = (_whole(part, field) for part in parts)
    days += years * _DAYS_OF["Y"] + months * _DAYS_OF["M"] + 7 * _whole(weeks, field)
    try:
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
    except OverflowError as error:
        raise InvalidRequest(field, text, f"at most {MAX_DURATION.days} days") from error
    if length > MAX_DURATION or (sign == "-" and length):
        raise InvalidRequest(field, text, f"zero to {MAX_DURATION.days} days")
    return length


def _whole(digits: str | None, field: str) -> int:
    if digits is not None and len(digits) > 12:
        raise InvalidRequest(field, digits[:20], "a duration of a reasonable length")
    return int(digits or 0)


def read_number(text: str, field: str, scale: str = "none") -> float:
    """Return a finite number, shifted by a siScaleCode without rounding: `5000` of W is `5.0` with scale -3.

    Args:
        text: an xs:float.
        field: its name, for errors.
        scale: siScaleCode of the value; the result is in the base unit.
    """
    return read_scaled(text, field, _SCALE[scale])


def read_scaled(text: str, field: str, exponent: int) -> float:
    """Return a finite number times a power of ten."""
    try:
        number = Decimal(text.strip())
        value = float(number.scaleb(exponent)) if number.is_finite() else math.nan
    except (ArithmeticError, ValueError) as error:
        raise InvalidRequest(field, text[:40], "a number") from error
    if not math.isfinite(value) or abs(value) > MAX_MAGNITUDE:
        raise InvalidRequest(field, text[:40], f"a finite number of at most {MAX_MAGNITUDE:g}")
    return value


def exponent_of(scale: str) -> int:
    """Return the power of ten of a siScaleCode; 0 for one that is not in the list."""
    return _SCALE.get(scale, 0)


def read_flag(text: str) -> bool:
    """Return an xs:boolean."""
    return text.strip() in ("true", "1")


def instant_text(at: datetime) -> str:
    """Write an instant in UTC, to the microsecond where it has one."""
    return as_utc(at).isoformat(timespec="microseconds" if at.microsecond else "seconds").replace("+00:00", "Z")


def duration_text(length: timedelta) -> str:
    """Write a duration in whole seconds, rounded up: the schema allows no fraction."""
    if length < timedelta(0):
        raise InvalidRequest("duration", str(length), "no less than nothing")
    days, rest = length.days, length.seconds + (1 if length.microseconds else 0)
    hours, rest = divmod(rest, 3600)
    minutes, seconds = divmod(rest, 60)
    clock = "".join(f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number)
    if not clock and not days:
        return "PT0S"
    return f"P{f'{days}D' if days else ''}{f'T{clock}' if clock else ''}"


def number_text(value: float) -> str:
    """Write a number so that reading it gives the same one."""
    if not math.isfinite(value):
        raise InvalidRequest("value", value, "a finite number")
    return repr(float(value))


def flag_text(value: bool) -> str:
    """Write an xs:boolean."""
    return "true" if value else "false"
