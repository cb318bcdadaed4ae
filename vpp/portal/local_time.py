"""A time somebody typed, on the fleet's clock, as one instant. Called by the event form.

A clock that is put forward skips an hour, and one that is put back shows an hour twice: the first is refused,
the second asks which is meant.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from vpp.domain.errors import InvalidRequest


class TwiceOnTheClock(InvalidRequest):
    """The clock shows this time twice; `fold` 0 or 1 says which is meant."""


def instant_of(text: str, zone: str, field: str, *, fold: str = "") -> datetime:
    """Return the instant when the clock in `zone` shows `text`.

    Args:
        fold: "0" for the earlier, "1" for the later of two; else the time must be one only.

    Raises:
        InvalidRequest: no date and time, or the clock never shows it.
        TwiceOnTheClock: it shows it twice, and nobody said which is meant.
    """
    try:
        naive = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise InvalidRequest(field, text[:40], "a date and time, as 2026-08-19T16:00") from error
    if naive.tzinfo is not None:
        raise InvalidRequest(field, text[:40], f"a date and time on the clock of {zone}, without a zone")
    place = ZoneInfo(zone)
    both = [naive.replace(tzinfo=place, fold=which) for which in (0, 1)]
    try:
        instants = [each.astimezone(UTC) for each in both]
    except OverflowError as error:
        raise InvalidRequest(field, text[:40], "a date of the calendar") from error
    if all(each.astimezone(place).replace(tzinfo=None) != naive for each in instants):
        skipped = naive + timedelta(hours=1)
        raise InvalidRequest(field, text, f"a time the clock shows: it is put forward then, to about {skipped:%H:%M}")
    if instants[0] == instants[1]:
        return instants[0]
    if fold not in ("0", "1"):
        names = " or ".join(f"{each:%H:%M %Z}" for each in both)
        raise TwiceOnTheClock(field, text, f"one of two: the clock is put back then. Say which is meant, {names}")
    return instants[int(fold)]


def typed(at: datetime, zone: str) -> tuple[str, str]:
    """Return an instant as a form shows it, and the fold where the clock shows it twice ("" where not)."""
    local = at.astimezone(ZoneInfo(zone))
    other = local.replace(fold=1 - local.fold).astimezone(UTC)
    shown = local.replace(tzinfo=None).isoformat(timespec="seconds" if local.second else "minutes")
    return shown, "" if other == at.astimezone(UTC) else str(local.fold)
