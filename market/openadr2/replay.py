"""Room openadr2: what stops a signed message from being played again. Called by `signing.Verifier`.

A VTN of several processes brings its own guard (a table with a unique key); this one serves one process.
"""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Protocol

REPLAY_WINDOW = timedelta(minutes=5)
MAX_REMEMBERED = 100_000


class ReplayGuard(Protocol):
    """Remembers which signed messages were seen."""

    def first_time(self, nonce: str, at: datetime) -> bool:
        """Return whether this is new, and remember it. Called only for messages whose signature holds.

        Args:
            nonce: 64 hexadecimal digits that stand for signer, timestamp and nonce together.
            at: the message's own timestamp; after twice the verifier's window it may be forgotten.
        """
        ...


class MemoryReplayGuard:
    """A guard for one process, of a bounded number of nonces, the oldest forgotten first."""

    def __init__(self, max_entries: int = MAX_REMEMBERED, window: timedelta = REPLAY_WINDOW) -> None:
        self._max_entries = max_entries
        self._window = window
        self._seen: OrderedDict[str, datetime] = OrderedDict()

    def first_time(self, nonce: str, at: datetime) -> bool:
        """Return whether this nonce is new, and remember it."""
        if nonce in self._seen:
            return False
        self._forget_before(at - 2 * self._window)
        self._seen[nonce] = at
        return True

    def forget(self, nonce: str) -> None:
        """Let a message come again that was not taken after all."""
        self._seen.pop(nonce, None)

    def _forget_before(self, at: datetime) -> None:
        while self._seen:
            oldest = next(iter(self._seen.values()))
            if oldest >= at and len(self._seen) < self._max_entries:
                return
            self._seen.popitem(last=False)
