"""Room gateway: a distribution of events as notices, each a signal we understand or its refusal. Called by `ven`."""

from collections.abc import Mapping

from vpp.domain.grid_event import EventStatus, GridEvent, TargetKind
from vpp.domain.openadr2 import (
    INVALID_DATA,
    NOT_RECOGNIZED,
    TARGET_MISMATCH,
    DistributedEvent,
    DistributeEvents,
)
from vpp.domain.signal import EventSignal
from vpp.domain.ven import EventNotice, Refusal
from vpp.gateway.meaning import MAX_MODIFICATION, interpret, withdrawn


def read_notices(
    told: DistributeEvents, *, source: str, program_of: Mapping[str, str], ven_id: str
) -> tuple[EventNotice, ...]:
    """Turn a distribution into notices.

    Args:
        told: what the VTN listed.
        source: the peer it came from, as `openadr2:<name>`.
        program_of: our programme's name by market context.
        ven_id: who we are; an event that names VENs and not us is refused.
    """
    return tuple(_notice(entry, told.request_id, source, program_of, ven_id) for entry in told.events)


def _notice(
    entry: DistributedEvent, request_id: str, source: str, program_of: Mapping[str, str], ven_id: str
) -> EventNotice:
    event = entry.event
    completed = entry.status is EventStatus.COMPLETED
    refusal = _refusal(entry, program_of, ven_id)
    meant = refusal or interpret(event, source=source, program=program_of[event.program], request_id=request_id)
    meant = _overrun(event, meant) or meant
    # what cannot be read can still be cancelled
    if isinstance(meant, Refusal) and event.cancelled and event.modification_number <= MAX_MODIFICATION:
        meant = withdrawn(event.event_id, event.modification_number, source=source, request_id=request_id)
    return EventNotice(
        external_id=event.event_id,
        modification_number=event.modification_number,
        request_id=request_id,
        answer_wanted=event.answer_wanted,
        signal=None if completed or isinstance(meant, Refusal) else meant,
        refusal=meant if isinstance(meant, Refusal) and not completed else None,
        completed=completed,
        event=event,
        program=None if refusal else program_of[event.program],
    )


def _refusal(entry: DistributedEvent, program_of: Mapping[str, str], ven_id: str) -> Refusal | None:
    event: GridEvent = entry.event
    if entry.defect is not None:
        return Refusal(entry.defect.code, entry.defect.description)
    if event.program not in program_of:
        return Refusal(NOT_RECOGNIZED, f"market context {event.program!r} is none of our programmes")
    aimed_at = {target.value for target in event.targets if target.kind is TargetKind.VEN}
    if aimed_at and ven_id not in aimed_at:
        listed = ", ".join(sorted(aimed_at))[:200]
        return Refusal(TARGET_MISMATCH, f"the event is aimed at {listed}, not at {ven_id}")
    return None


def _overrun(event: GridEvent, meant: EventSignal | Refusal) -> Refusal | None:
    """Refuse a signal that goes on after its event (rule 8 of the profile): which of both holds nobody knows."""
    end_at = event.end_at
    if end_at is None or not isinstance(meant, EventSignal) or not meant.intervals:
        return None
    last_at = max(each.interval.end_at for each in meant.intervals)
    if last_at <= end_at:
        return None
    reason = f"an interval ends at {last_at.isoformat()}, after the event, which ends at {end_at.isoformat()}"
    return Refusal(INVALID_DATA, reason)
