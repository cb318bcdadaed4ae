"""Room openadr2: how often somebody may ask. Called by the VTN's shell for every request.

A token bucket for each name. Names are bounded: the one longest silent is forgotten first, and would be full
again anyway unless far more of them ask at once than are meant to.
"""

from collections import OrderedDict

MAX_NAMES = 50_000


class Buckets:
    """Token buckets of one size.

    Args:
        per_s: how many requests a name may make each second, on average; 0 is no limit.
        burst: how many at once.
    """

    def __init__(self, per_s: float, burst: float, *, max_names: int = MAX_NAMES) -> None:
        self._per_s, self._burst, self._max_names = per_s, burst, max_names
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, now_s: float) -> float:
        """Return 0.0 where the name may ask now, else how long it has to wait [s].

        Args:
            now_s: seconds since any fixed moment.
        """
        if not self._per_s:
            return 0.0
        left, since_s = self._left.get(name, (self._burst, now_s))
        left = min(self._burst, left + (now_s - since_s) * self._per_s)
        waits_s = 0.0 if left >= 1.0 else (1.0 - left) / self._per_s
        self._left[name] = (left - 1.0 if left >= 1.0 else left, now_s)
        self._left.move_to_end(name)
        if len(self._left) > self._max_names:
            self._left.popitem(last=False)
        return waits_s


class Debts:
    """What names have cost, known only afterwards: who has cost too much waits until that is worn off.

    Args:
        per_s: how much of it wears off each second; 0 is no limit.
        most: how much a name may have cost and still go on.
    """

    def __init__(self, per_s: float, most: float, *, max_names: int = MAX_NAMES) -> None:
        self._per_s, self._most, self._max_names = per_s, most, max_names
        self._owed: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def waits_s(self, name: str, now_s: float) -> float:
        """Return 0.0 where the name may go on, else how long it has to wait [s]."""
        over = self._left(name, now_s) - self._most
        return over / self._per_s if self._per_s and over > 0 else 0.0

    def add(self, name: str, cost: float, now_s: float) -> None:
        """Note what a name has cost."""
        if not self._per_s:
            return
        self._owed[name] = (self._left(name, now_s) + cost, now_s)
        self._owed.move_to_end(name)
        if len(self._owed) > self._max_names:
            self._owed.popitem(last=False)

    def _left(self, name: str, now_s: float) -> float:
        owed, since_s = self._owed.get(name, (0.0, now_s))
        return max(0.0, owed - (now_s - since_s) * self._per_s)
