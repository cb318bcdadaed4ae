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
from market.openadr2.xml_out import check_valid, enveloped
from vpp.domain.grid_event import GridEvent, Target, TargetKind
from vpp.domain.openadr2 import DistributedEvent, DistributeEvents, Response

MAX_ENTRIES = 512
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
            InvalidRequest: nothing of the event can be said in 2.0b, or the schema would refuse it.
        """
        written = write_event(distributed, targets=())
        check_valid(distribution_around(written, request_id="", vtn_id="", response=None))
        before, _, after = written.rpartition(_TARGET_MARK)
        event = distributed.event
        return cls(
            event_id=event.event_id,
            modification_number=event.modification_number,
            status=distributed.status.value,
            before=before,
            after=f"</ei:eiEvent>{after}",
            targets=event.targets if distributed.targets is None else distributed.targets,
        )

    def stamped(self, ven_id: str | None = None, targets: tuple[Target, ...] | None = None) -> str:
        """Return the event's XML.

        Args:
            ven_id: whom it is for: no other VEN is then named among its targets.
            targets: told instead of the event's own.
        """
        told = self.targets if targets is None else targets
        if ven_id is not None and any(target.kind is TargetKind.VEN for target in told):
            told = (*(target for target in told if target.kind is not TargetKind.VEN), Target(TargetKind.VEN, ven_id))
        return f"{self.before}{write_targets('ei:eiTarget', told)}{self.after}"


class TemplateCache:
    """Templates by event, version and status, the longest unused forgotten first."""

    def __init__(self, max_entries: int = MAX_ENTRIES) -> None:
        self._max_entries = max_entries
        self._templates: OrderedDict[tuple[str, int, str], tuple[GridEvent, EventTemplate]] = OrderedDict()

    def get(self, distributed: DistributedEvent) -> EventTemplate:
        """Return the template of an event, made where it is not known yet.

        Its targets are those of the first that was asked for: stamp those of this VEN.
        """
        event = distributed.event
        key = (event.event_id, event.modification_number, distributed.status.value)
        known = self._templates.get(key)
        # a comparison costs a tenth of a rendering, and two VTNs may give one id to two events
        if known is not None and (known[0] is event or known[0] == event):
            self._templates.move_to_end(key)
            return known[1]
        template = EventTemplate.of(distributed)
        self._templates[key] = (event, template)
        self._templates.move_to_end(key)
        if len(self._templates) > self._max_entries:
            self._templates.popitem(last=False)
        return template

    def encode(self, distribution: DistributeEvents, *, signer: Signer | None = None) -> bytes:
        """Write an oadrDistributeEvent, each event's XML made only once; the same text `codec.encode` writes.

        Raises:
            InvalidRequest: nothing of an event can be said in 2.0b.
        """
        events = "".join(
            self.get(one).stamped(targets=one.event.targets if one.targets is None else one.targets)
            for one in distribution.events
        )
        inner = distribution_around(
            events,
            request_id=distribution.request_id,
            vtn_id=distribution.vtn_id,
            response=distribution.response,
        )
        return enveloped(inner, signer)


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
