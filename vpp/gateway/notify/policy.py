"""How often and how long we try to tell something. Called by `outbox.py`, `webhooks.py` and `publisher.py`."""

import random
from dataclasses import dataclass, field
from datetime import timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """Waits grow by two from `first_wait` to `longest_wait`, each cut by up to half at random.

    Attributes:
        broken_after, broken_for: a channel is broken after so many failures in a row over so long a time.
        broken_wait: how long a broken channel is left alone before it is tried again.
        max_age, max_attempts: a message older, or tried as often, is given up.
        most_waiting: messages kept for one channel; the oldest are given up.
        at_once: callbacks on the way at one time, of one worker.
    """

    first_wait: timedelta = timedelta(seconds=5)
    longest_wait: timedelta = timedelta(minutes=5)
    broken_after: int = 6
    broken_for: timedelta = timedelta(minutes=10)
    broken_wait: timedelta = timedelta(hours=1)
    max_age: timedelta = timedelta(hours=24)
    max_attempts: int = 100
    most_waiting: int = 1000
    at_once: int = 16
    chance: random.Random = field(default_factory=random.Random)

    def wait(self, failures: int, *, broken: bool) -> timedelta:
        """How long to wait after so many failures in a row."""
        if broken:
            return self.broken_wait
        doubled = self.first_wait * (1 << min(failures - 1, 20))
        return min(doubled, self.longest_wait) * self.chance.uniform(0.5, 1.0)

    def is_broken(self, failures: int, lasting: timedelta) -> bool:
        """Whether so many failures in a row over so long a time mean that nobody is there."""
        return failures >= self.broken_after and lasting >= self.broken_for
