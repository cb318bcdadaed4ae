"""How a request of OpenADR 2.0b is refused with a code, by either end. Called by `consumer` and the VTN's desk."""

from collections.abc import Iterable

from vpp.domain.openadr2 import INVALID_DATA, Response

MAX_ID = 500


class Refused(Exception):
    """A request that is answered with a response code of OpenADR; never leaves the room."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code
        self.description = description


def check_ids(ids: Iterable[str]) -> None:
    """Refuse an id that no index takes, before the database does.

    Raises:
        Refused: one is longer than any id has reason to be.
    """
    for each in ids:
        if len(each) > MAX_ID:
            raise Refused(INVALID_DATA, f"{each[:40]}… has {len(each)} characters; an id has {MAX_ID} at most")


def good(request_id: str) -> Response:
    """Return a response of success."""
    return Response(200, "OK", request_id)
