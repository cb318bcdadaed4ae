"""What of an event a VEN still has to be told: pure rules, no state. Called by `view`.

* A new version or a new status is told.
* Where an answer is wanted, a version is told on every poll until it is answered; so is a cancellation.
* A status alone (near, active, completed) is told until the VEN answers it, but at most `STATUS_TELLINGS`
  times: many VENs do not answer what they have answered before, and those that lost a reply ask again.
* Where no answer is wanted, each change is told once; oadrRequestEvent has it told again.
* A completed or cancelled event is left out once that is told, and if the VEN never heard of it.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vpp.domain.grid_event import EventStatus, GridEvent

STATUS_TELLINGS = 3


@dataclass(slots=True)
class Delivery:
    """How far one event is with one VEN; see the table `vtn2_delivery`."""

    told_modification: int | None = None
    told_status: EventStatus | None = None
    told_count: int = 0
    settled_modification: int | None = None
    settled_status: EventStatus | None = None

    def tell(self, modification_number: int, status: EventStatus) -> None:
        """Note that this was told once more."""
        again = self.told_modification == modification_number and self.told_status is status
        self.told_count = self.told_count + 1 if again else 1
        self.told_modification, self.told_status = modification_number, status

    def settle(self, modification_number: int, status: EventStatus | None) -> None:
        """Note that the VEN answered this version, which it had been told in this status."""
        if self.settled_modification is None or self.settled_modification <= modification_number:
            self.settled_modification, self.settled_status = modification_number, status

    def status_told_with(self, modification_number: int) -> EventStatus | None:
        """Return the status this version was last told in, None where it was not."""
        return self.told_status if self.told_modification == modification_number else None

    def knows(self, event: GridEvent, status: EventStatus) -> bool:
        """Whether this version was told in this status."""
        return self.status_told_with(event.modification_number) is status


def to_tell(event: GridEvent, status: EventStatus, delivery: Delivery | None) -> tuple[bool, bool]:
    """Return whether the event belongs in the VEN's list, and whether the VEN must be told the list for it."""
    over = status is EventStatus.COMPLETED or status is EventStatus.CANCELLED
    if delivery is None or delivery.told_modification is None:
        return not over, not over
    due = _is_due(event, status, delivery)
    return due or not over, due


def _is_due(event: GridEvent, status: EventStatus, delivery: Delivery) -> bool:
    number = event.modification_number
    if delivery.told_modification != number or delivery.told_status is not status:
        return True
    if not event.answer_wanted:
        return False
    if delivery.settled_modification == number and delivery.settled_status is status:
        return False
    if status is EventStatus.CANCELLED:
        return True
    unanswered = delivery.settled_modification != number and status is not EventStatus.COMPLETED
    return unanswered or delivery.told_count < STATUS_TELLINGS


def next_change_at(event: GridEvent, now: datetime) -> datetime | None:
    """Return when the event's status changes next, None where it never does."""
    if event.cancelled:
        return None
    near_at = event.start_at - (event.ramp_up or timedelta(0))
    for at in (near_at, event.start_at, event.end_at):
        if at is not None and at > now:
            return at
    return None
