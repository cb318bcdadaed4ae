"""Room openadr2: what the VTN says, as bytes: an event's XML is made once and stamped for each VEN. Called by `vtn`."""

from market.openadr2.codec import Signer, TemplateCache, encode
from market.openadr2.targets import write_targets
from market.openadr2.write_events import distribution_around
from market.openadr2.xml_out import enveloped
from vpp.domain.openadr2 import DistributedEvent, DistributeEvents, Openadr2Message


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
        if not isinstance(message, DistributeEvents):
            return encode(message, signer=signer)
        events = "".join(map(self._stamped, message.events))
        inner = distribution_around(
            events, request_id=message.request_id, vtn_id=message.vtn_id, response=message.response
        )
        return enveloped(inner, signer)

    def _stamped(self, told: DistributedEvent) -> str:
        template = self._templates.get(told)
        targets = template.targets if told.targets is None else told.targets
        return f"{template.before}{write_targets('ei:eiTarget', targets)}{template.after}"
