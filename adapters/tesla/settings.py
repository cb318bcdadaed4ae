"""Which settings an event needs and in which order they are written; pure, called by the adapter only."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from adapters.tesla import tariff, wire
from vpp.domain.device import Command
from vpp.domain.errors import Busy, Unsupported
from vpp.domain.site import Site

_BEFORE_DISCHARGE = (wire.RESERVE, wire.EXPORT_RULE, wire.NO_GRID_CHARGE, wire.TARIFF, wire.MODE)
_AFTER_DISCHARGE = (wire.MODE, wire.TARIFF, wire.EXPORT_RULE, wire.NO_GRID_CHARGE)


def event_settings(site: Site, command: Command, present: wire.Json, now: datetime) -> dict[str, Any]:
    """What a site must hold to discharge until the command expires; None is left as it is.

    The backup reserve is only ever raised: to the owner's floor where the site stands below it. The
    export rule is opened only where the interconnection allows export.
    """
    standing = present.get(wire.TARIFF)
    covered = tariff.covers(standing, now, command.expires_at, site.time_zone)
    may_export = site.export_limit_kw > 0 and present.get(wire.EXPORT_RULE) is not None
    floor_percent = wire.reserve_percent(max(command.reserve_soc, site.reserve_soc))
    reserve_percent = present.get(wire.RESERVE)
    return {
        wire.MODE: wire.AUTONOMOUS,
        wire.RESERVE: floor_percent if reserve_percent is None or reserve_percent < floor_percent else None,
        wire.EXPORT_RULE: wire.BATTERY_OK if may_export else None,
        wire.NO_GRID_CHARGE: present.get(wire.NO_GRID_CHARGE),
        wire.TARIFF: standing
        if covered
        else tariff.event_tariff(standing or {}, now, command.expires_at, site.time_zone),
    }


def check_restorable(site: Site, settings: wire.Json) -> None:
    """Refuse to take settings for the owner's that are not, or that could not be put back.

    Raises:
        Busy: an earlier event's settings still stand.
        Unsupported: there is no tariff to come back to, and Tesla has no call that removes one.
    """
    if tariff.is_ours(settings.get(wire.TARIFF)):
        raise Busy(f"site {site.id}: settings of an earlier event still stand; release it with those saved then")
    if not settings.get(wire.TARIFF):
        raise Unsupported(f"site {site.id} has no tariff to come back to; the owner sets one in the Tesla app")


def discharge_order(wanted: wire.Json, present: wire.Json) -> list[str]:
    """Settings to write: reserve first, mode last, so nothing discharges before its floor stands."""
    return _ordered(_BEFORE_DISCHARGE, wanted, present)


def release_order(wanted: wire.Json, present: wire.Json) -> list[str]:
    """Settings to write: the reserve is raised before anything and lowered after everything."""
    raising = (wanted.get(wire.RESERVE) or 0) > (present.get(wire.RESERVE) or 0)
    names = (wire.RESERVE, *_AFTER_DISCHARGE) if raising else (*_AFTER_DISCHARGE, wire.RESERVE)
    return _ordered(names, wanted, present)


def seen(present: wire.Json) -> dict[str, Any]:
    """Settings for a receipt; of a tariff its code is enough."""
    content = present.get(wire.TARIFF)
    return {**present, wire.TARIFF: content.get("code") if isinstance(content, Mapping) else None}


def describe_differences(wanted: wire.Json, present: wire.Json) -> str:
    """In words, which settings read otherwise than wanted."""
    asked, read = seen(wanted), seen(present)
    names = wire.differences(wanted, present)
    return "; ".join(f"{name} reads {read.get(name)!r}, wanted {asked.get(name)!r}" for name in names)


def _ordered(names: tuple[str, ...], wanted: wire.Json, present: wire.Json) -> list[str]:
    """Of `names` those that differ, with settings that travel in one request once."""
    different = wire.differences(wanted, present)
    chosen: dict[str, str] = {}
    for name in names:
        if name in different:
            chosen.setdefault(wire.write_of(name, wanted)[0], name)
    return list(chosen.values())
