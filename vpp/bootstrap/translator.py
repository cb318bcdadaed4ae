"""Room bootstrap: the one place where OpenADR 2.0b and 3 meet, as `vpp.ports.EventTranslator`."""

from collections.abc import Mapping, Sequence
from typing import Any

from market.openadr2.sayable import unsaid_in_openadr2
from market.openadr3.events import from_openadr3, request_of, to_openadr3
from vpp.domain.grid_event import GridEvent, Unsaid


class Translator:
    """Events in the words of either protocol; what has none comes back beside them."""

    def to_openadr3(self, event: GridEvent, *, program_id: str) -> tuple[dict[str, Any], tuple[Unsaid, ...]]:
        """Return the body of an OpenADR 3.1 request, and what of the event it does not say."""
        body, unsaid = to_openadr3(event, program_id=program_id)
        return request_of(body), unsaid

    def from_openadr3(
        self,
        body: Mapping[str, Any],
        *,
        modification_number: int,
        descriptors: Sequence[Mapping[str, Any]] = (),
    ) -> tuple[GridEvent, tuple[Unsaid, ...]]:
        """Return the event an OpenADR 3 body states, and what of the body it does not say.

        Raises:
            InvalidRequest: the body is no event.
        """
        return from_openadr3(body, modification_number=modification_number, descriptors=descriptors)

    def unsaid_in_openadr2(self, event: GridEvent) -> tuple[Unsaid, ...]:
        """Return what of the event OpenADR 2.0b has no words for."""
        return unsaid_in_openadr2(event)
