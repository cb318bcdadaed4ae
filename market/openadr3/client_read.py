"""Room openadr3: objects a VTN gives out, read leniently into `vpp/domain/ven3.py`. Called by `client`.

Tolerated, each seen at a real server or in the definition's own examples: instants without T or zone
(read as UTC), instants that are no instants (dropped, where only the VTN's stamps are concerned),
`payLoadType`, targets as valuesMap (3.0.1) or as strings (3.1), nulls and missing defaults.
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from vpp.domain.ven3 import EventSeen, ProgramSeen, ReportIntervals, ReportWanted

MAX_DESCRIPTORS = 50
MAX_TARGETS = 1000
_STAMPS = ("createdDateTime", "modificationDateTime", "objectType", "id")


def instant_of(text: object) -> datetime | None:
    """Return an instant as UTC, None where it is none; without a zone it counts as UTC."""
    if not isinstance(text, str):
        return None
    try:
        at = datetime.fromisoformat(text.strip())
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def targets_of(found: object) -> tuple[str, ...]:
    """Return targets as strings: those of 3.1, or the values of a 3.0.1 valuesMap."""
    targets: list[str] = []
    for each in found if isinstance(found, list) else ():
        if isinstance(each, str):
            targets.append(each)
        elif isinstance(each, Mapping) and isinstance(each.get("values"), list):
            targets += [str(value) for value in each["values"]]
    return tuple(dict.fromkeys(targets))


def program_of(found: Mapping[str, Any]) -> ProgramSeen:
    """Return a programme; `found` has an id."""
    descriptors = found.get("payloadDescriptors")
    return ProgramSeen(
        program_id=str(found["id"]),
        name=str(found.get("programName") or ""),
        payload_descriptors=tuple(d for d in descriptors if isinstance(d, Mapping))
        if isinstance(descriptors, list)
        else (),
    )


def event_of(found: Mapping[str, Any]) -> EventSeen:
    """Return an event; `found` has an id. What its body means is read by others."""
    body = {key: value for key, value in found.items() if value is not None}
    for key in ("createdDateTime", "modificationDateTime"):
        at = instant_of(body.pop(key, None))
        if at is not None:
            body[key] = at.isoformat().replace("+00:00", "Z")
    said = {key: value for key, value in body.items() if key not in _STAMPS}
    canonical = json.dumps(said, sort_keys=True, separators=(",", ":"))
    return EventSeen(
        event_id=str(found["id"]),
        program_id=str(found.get("programID") or ""),
        body=body,
        digest=hashlib.sha256(canonical.encode()).hexdigest(),
        modified_at=instant_of(body.get("modificationDateTime")),
        reports=reports_of(body.get("reportDescriptors")),
    )


def reports_of(found: object) -> tuple[ReportWanted, ...]:
    """Return the reports asked for; a descriptor that names no type asks for nothing."""
    wanted = []
    for each in (found if isinstance(found, list) else [])[:MAX_DESCRIPTORS]:
        if not isinstance(each, Mapping):
            continue
        payload_type = each.get("payloadType") or each.get("payLoadType")
        if not isinstance(payload_type, str):
            continue
        intervals = each.get("reportIntervals")
        wanted.append(
            ReportWanted(
                payload_type=payload_type,
                reading_type=_text(each.get("readingType")),
                units=_text(each.get("units")),
                aggregate=each.get("aggregate") is True,
                start_interval=_whole(each.get("startInterval"), -1),
                interval_count=_whole(each.get("numIntervals"), -1),
                historical=each.get("historical") is not False,
                frequency=_whole(each.get("frequency"), -1),
                repeat=_whole(each.get("repeat"), 1),
                intervals=ReportIntervals(intervals)
                if intervals in list(ReportIntervals)
                else ReportIntervals.INTERVALS,
                targets=targets_of(each.get("targets"))[:MAX_TARGETS],
            )
        )
    return tuple(wanted)


def _text(found: object) -> str | None:
    return found if isinstance(found, str) and found else None


def _whole(found: object, default: int) -> int:
    """A number below -1 means nothing in the definition; it is taken as -1."""
    if isinstance(found, bool) or not isinstance(found, int):
        return default
    return max(-1, min(found, 2**31 - 1))
