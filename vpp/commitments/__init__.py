"""What we owe. Called by the gateway (signals in) and by the lifecycle (steps taken).

Never talks to a device or a solver: whether the fleet covers an event is asked through `Decide`.
"""

from vpp.commitments.receive import Decide, Decision, receive
from vpp.commitments.records import advance, due, in_force, load, next_due_at, note, overlapping, postpone

__all__ = [
    "Decide",
    "Decision",
    "advance",
    "due",
    "in_force",
    "load",
    "next_due_at",
    "note",
    "overlapping",
    "postpone",
    "receive",
]
