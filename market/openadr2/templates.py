"""Room openadr2: one event told to many VENs, its XML made once. Called by the VTN shell for every distribution.

The XML of an event with 96 intervals is made once per version and status; a VEN's message is then that text
between the VEN's own requestID and target, signed as a whole where messages are signed.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from market.openadr2.signing import Signer
from market.openadr2.targets import write_targets
from market.openadr2.write_events import distribution_around, write_event
from market.openadr2.xml_out import enveloped
from vpp.domain.grid_event import Target, TargetKind
from vpp.domain.openadr2 import DistributedEvent, Response

DEFAULT_CAPACITY = 512
_TARGET_MARK = "<ei:eiTarget></ei:eiTarget></ei:eiEvent>"


@dataclass(frozen=True, slots=True)
class EventTemplate:
    """An event's XML, open where its targets stand."""

    event_id: str
    modification_number: int
    status: str
    before: str
    after: str
    targets: tuple[Target, ...]

    @classmethod
    def of(cls, distributed: DistributedEvent) -> "EventTemplate":
        """Make the XML of an event.

        Raises:
            InvalidRequest: nothing of the event can be said in 2.0b.
        """
        before, _, after = write_event(distributed, targets=()).rpartition(_TARGET_MARK)
        event = distributed.event
        return cls(
            event_id=event.event_id,
            modification_number=event.modification_number,
            status=distributed.status.value,
            before=before,
            after=f"</ei:eiEvent>{after}",
            targets=event.targets,
        )

    def stamped(self, ven_id: str | None = None) -> str:
        """Return the event's XML; for one VEN, no other VEN is named among its targets."""
        if ven_id is None or not any(target.kind is TargetKind.VEN for target in self.targets):
            targets = self.targets
        else:
            others = (target for target in self.targets if target.kind is not TargetKind.VEN)
            targets = (*others, Target(TargetKind.VEN, ven_id))
        return f"{self.before}{write_targets('ei:eiTarget', targets)}{self.after}"


class TemplateCache:
    """Templates by event, version and status, the longest unused forgotten first.

    For one VTN, whose event ids are its own.
    """

    def __init__(self, capacity: int = DEFAULT_CAPACITY) -> None:
        self._capacity = capacity
        self._templates: OrderedDict[tuple[str, int, str], EventTemplate] = OrderedDict()

    def get(self, distributed: DistributedEvent) -> EventTemplate:
        """Return the template of an event, made where it is not known yet."""
        event = distributed.event
        key = (event.event_id, event.modification_number, distributed.status.value)
        template = self._templates.get(key)
        if template is None:
            template = self._templates[key] = EventTemplate.of(distributed)
            if len(self._templates) > self._capacity:
                self._templates.popitem(last=False)
        self._templates.move_to_end(key)
        return template


def render_distribution(
    templates: Sequence[EventTemplate],
    *,
    request_id: str,
    vtn_id: str,
    ven_id: str | None = None,
    response: Response | None = None,
    signer: Signer | None = None,
) -> bytes:
    """Return an oadrDistributeEvent of events whose XML is already made.

    Args:
        templates: the events, in the order they are told.
        request_id: of this message.
        vtn_id: ours.
        ven_id: whom it is for: other VENs among an event's targets are then not told.
        response: an eiResponse, in answer to an oadrRequestEvent.
        signer: signs the finished message.
    """
    events = "".join(template.stamped(ven_id) for template in templates)
    inner = distribution_around(events, request_id=request_id, vtn_id=vtn_id, response=response)
    return enveloped(inner, signer)
