"""Room simulation: who may call the virtual Tesla cloud, and how often: tokens and budgets.

Called by `tesla_server`. Times are virtual, as everything that counts by the day must be.
"""

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime, timedelta

FIRST_REFRESH_TOKEN = "simulated-refresh-token"  # noqa: S105 - opens nothing but the simulation
ACCESS_LIFE = timedelta(hours=8)
DAY = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a refresh hands out."""

    access_token: str
    refresh_token: str
    expires_in_s: int


class Account:
    """One developer account. A refresh token works once; the one before still works until its successor is used,
    so that an answer lost on the way locks nobody out.
    """

    def __init__(self, first_refresh_token: str = FIRST_REFRESH_TOKEN) -> None:
        self._newest = first_refresh_token
        self._before: str | None = None
        self._access: dict[str, datetime] = {}
        self._count = 0

    def refresh(self, refresh_token: str, at: datetime) -> Tokens | None:
        """New tokens for a valid refresh token, else None."""
        if refresh_token == self._newest:
            self._before = refresh_token
        elif refresh_token != self._before:
            return None
        self._count += 1
        self._newest = f"{FIRST_REFRESH_TOKEN}-{self._count}"
        access_token = f"simulated-access-token-{self._count}"
        self._access = {token: until for token, until in self._access.items() if until > at}
        self._access[access_token] = at + ACCESS_LIFE
        return Tokens(access_token, self._newest, int(ACCESS_LIFE.total_seconds()))

    def allows(self, authorization: str, at: datetime) -> bool:
        """Whether an Authorization header carries a token that has not expired."""
        scheme, _, token = authorization.partition(" ")
        until = self._access.get(token)
        return scheme.lower() == "bearer" and until is not None and at < until

    def revoke_access(self) -> None:
        """Let every access token expire now; for tests of the refresh."""
        self._access.clear()


@dataclass(slots=True)
class Budget:
    """At most `most` calls within `within`; None means no limit."""

    most: int | None
    within: timedelta
    _calls: deque[datetime] = field(default_factory=deque)

    def spend(self, at: datetime) -> float:
        """Count a call: 0 if it is within the budget, else the seconds until one is free."""
        if self.most is None:
            return 0.0
        while self._calls and self._calls[0] <= at - self.within:
            self._calls.popleft()
        if len(self._calls) < self.most:
            self._calls.append(at)
            return 0.0
        if not self._calls:
            return self.within.total_seconds()
        return max(1.0, (self._calls[0] + self.within - at).total_seconds())
