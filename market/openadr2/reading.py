"""Room openadr2: what VENs say, read for the VTN, each repeated poll only once. Called by `vtn`.

A VEN's unsigned oadrPoll says no more than its venID, so that it is the same bytes each time; what was found valid
once need not be parsed again. A megabyte of nonsense takes a second to find wrong, in which no other VEN is heard:
so each address may take up only so much time with messages that are long to read.
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable

from market.openadr2.buckets import Debts
from market.openadr2.codec import Decoded, Limits, Verifier, decode
from vpp.domain.openadr2 import Poll

MAX_POLLS = 20_000
_MAX_BYTES = 4096
SLOW_S = 0.02
"""What takes longer to read than this counts."""


class Reader:
    """Reads messages, and remembers unsigned polls by a digest of their bytes, the longest unused forgotten first.

    Args:
        slow_s_per_s: seconds in each second that one address may take up with messages slow to read, ten times
            that at once; 0 is no limit.
        elapsed_s: seconds since any fixed moment.
    """

    def __init__(
        self,
        verifier: Verifier,
        limits: Limits,
        *,
        max_polls: int = MAX_POLLS,
        slow_s_per_s: float = 0.0,
        elapsed_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._verifier, self._limits, self._max_polls = verifier, limits, max_polls
        self._debts, self._elapsed_s = Debts(slow_s_per_s, 10 * slow_s_per_s), elapsed_s
        self._polls: OrderedDict[bytes, Decoded] = OrderedDict()

    @property
    def remembered(self) -> int:
        """How many polls are remembered."""
        return len(self._polls)

    def waits_s(self, body: bytes, address: str) -> float:
        """Return how long an address has to wait with a message [s]; 0.0 where it is read now, as short ones are."""
        return self._debts.waits_s(address, self._elapsed_s()) if len(body) > _MAX_BYTES else 0.0

    def read(self, body: bytes, address: str = "") -> Decoded:
        """Return what a message says.

        Raises:
            Refused: as `codec.decode`.
        """
        if len(body) > _MAX_BYTES:
            begun_s = time.perf_counter()
            try:
                return decode(body, verify=self._verifier, limits=self._limits)
            finally:
                if (took_s := time.perf_counter() - begun_s) > SLOW_S:
                    self._debts.add(address, took_s, self._elapsed_s())
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
