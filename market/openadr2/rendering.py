"""Room openadr2: what the VTN says, as bytes: an event's XML is made once and stamped for each VEN. Called by `vtn`."""

from functools import lru_cache

from market.openadr2.codec import EventTemplate, Signer, TemplateCache, encode
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent
from vpp.domain.openadr2 import Acknowledge, DistributedEvent, DistributeEvents, Openadr2Message, Response

_MAX_IDLE = 20_000


class Renderer:
    """Turns answers into bytes.

    Args:
        signer: signs those that are to be signed; None signs none.
    """

    def __init__(self, signer: Signer | None = None) -> None:
        self._signer = signer
        self._templates = TemplateCache()

    @property
    def can_sign(self) -> bool:
        """Whether there is a key to sign with."""
        return self._signer is not None

    def render(self, message: Openadr2Message, *, sign: bool) -> bytes:
        """Return a message as it goes out.

        Raises:
            InvalidRequest: it holds what 2.0b cannot say.
        """
        signer = self._signer if sign else None
        if isinstance(message, DistributeEvents):
            return self._templates.encode(message, signer=signer)
        return encode(message, signer=signer)

    def idle(self, ven_id: str, *, sign: bool) -> bytes:
        """Return the answer to a poll that found nothing; the same bytes each time, unless it is signed."""
        return self.render(_nothing(ven_id), sign=True) if sign else _idle(ven_id)


def _nothing(ven_id: str) -> Acknowledge:
    return Acknowledge(response=Response(), ven_id=ven_id)


@lru_cache(maxsize=_MAX_IDLE)
def _idle(ven_id: str) -> bytes:
    return encode(_nothing(ven_id))


def can_say(event: GridEvent) -> bool:
    """Whether 2.0b has words for at least one signal of an event, so that it can be told."""
    try:
        EventTemplate.of(DistributedEvent(event=event, status=EventStatus.FAR))
    except InvalidRequest:
        return False
    return True
