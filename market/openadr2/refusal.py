"""Room openadr2: why a message is not taken. Raised by `codec.decode`, answered by the VTN or VEN shell."""

from vpp.domain.errors import InvalidRequest

Element = object
"""An lxml element; lxml carries no types."""

MAX_REASON_CHARS = 300


class Refused(InvalidRequest):
    """A message that cannot be acted on.

    Args:
        code: OpenADR's response code: 453 not a message of this profile, 454 a value that is not allowed,
            459 not built as the schema says or harmful, 463 not signed as it must be, 469 beyond our bounds.
        reason: one sentence for the sender.
        request_id: the message's requestID, "" where it has none or could not be read.
    """

    def __init__(self, code: int, reason: str, request_id: str = "") -> None:
        super().__init__("message", code, reason)
        self.code = code
        self.reason = reason[:MAX_REASON_CHARS]
        self.request_id = request_id

    def __str__(self) -> str:
        return f"{self.code}: {self.reason}"
