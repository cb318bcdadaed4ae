"""What we owe. Called by the gateway (signals in) and by the lifecycle (steps taken).

Never talks to a device or a solver: whether the fleet covers an event is asked through `Decide`.
"""

from vpp.commitments.receive import DECLINED_CHANGE, MODIFIED, Decide, Decision, receive
from vpp.commitments.reconsider import change_answer, would_be_answered
from vpp.commitments.records import (
    advance,
    due,
    find,
    in_force,
    load,
    next_due_at,
    note,
    overlapping,
    postpone,
    taken_part,
)

__all__ = [
    "DECLINED_CHANGE",
    "MODIFIED",
    "Decide",
    "Decision",
    "advance",
    "change_answer",
    "due",
    "find",
    "in_force",
    "load",
    "next_due_at",
    "note",
    "overlapping",
    "postpone",
    "receive",
    "taken_part",
    "would_be_answered",
]
