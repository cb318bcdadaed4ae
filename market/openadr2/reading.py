"""Room openadr2: what VENs say, read for the VTN, each repeated poll only once. Called by `vtn`.

A VEN's unsigned oadrPoll says no more than its venID, so that it is the same bytes each time; what was found valid
once need not be parsed again.
"""

import hashlib
from collections import OrderedDict

from market.openadr2.codec import Decoded, Limits, Verifier, decode
from vpp.domain.openadr2 import Poll

MAX_POLLS = 20_000
_MAX_BYTES = 4096


class Reader:
    """Reads messages, and remembers unsigned polls by a digest of their bytes, the longest unused forgotten first."""

    def __init__(self, verifier: Verifier, limits: Limits, *, max_polls: int = MAX_POLLS) -> None:
        self._verifier, self._limits, self._max_polls = verifier, limits, max_polls
        self._polls: OrderedDict[bytes, Decoded] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many polls are remembered."""
        return len(self._polls)

    def read(self, body: bytes) -> Decoded:
        """Return what a message says.

        Raises:
            Refused: as `codec.decode`.
        """
        if len(body) > _MAX_BYTES:
            return decode(body, verify=self._verifier, limits=self._limits)
        digest = hashlib.sha256(body).digest()
        known = self._polls.get(digest)
        if known is not None:
            self._polls.move_to_end(digest)
            return known
        decoded = decode(body, verify=self._verifier, limits=self._limits)
        if isinstance(decoded.message, Poll) and decoded.signed_by is None:
            self._polls[digest] = decoded
            if len(self._polls) > self._max_polls:
                self._polls.popitem(last=False)
        return decoded
