"""Who calls, how often, and with which scopes. Called by `app.py` for every request.

What a token says is remembered by the `Authority`, which knows when to forget it; nothing is remembered here.
"""

from collections import OrderedDict
from collections.abc import Callable
from time import monotonic

from market.openadr3.vtn.problems import FAILED, FORBIDDEN, Problem, missing_token
from vpp.domain.peer import Caller
from vpp.ports import Authority

_TOKEN_MAX_CHARS = 8192


async def caller_of(authority: Authority, authorization: str | None) -> tuple[Caller, str]:
    """Return who an Authorization header speaks for, and the token it shows.

    Raises:
        Problem: 401, it shows no token that is in force.
    """
    token = _bearer(authorization)
    caller = await authority.caller(token) if token is not None else None
    if token is None or caller is None:
        raise missing_token()
    return caller, token


class RateLimit:
    """So many requests a second for each key, with a burst; a bucket for each of the latest keys."""

    def __init__(
        self,
        per_second: float,
        burst: int,
        *,
        keys_max: int = 10_000,
        elapsed_s: Callable[[], float] = monotonic,
    ) -> None:
        self._per_second = per_second
        self._burst = burst
        self._keys_max = keys_max
        self._elapsed_s = elapsed_s
        self._buckets: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, key: str, cost: float = 1.0) -> None:
        """Count a request; one that costs more than is left is let through, and those after it wait the longer.

        Raises:
            Problem: there were too many of this key.
        """
        now_s = self._elapsed_s()
        left, at_s = self._buckets.get(key, (float(self._burst), now_s))
        left = min(float(self._burst), left + (now_s - at_s) * self._per_second)
        allowed = left >= 1
        self._buckets[key] = (left - cost if allowed else left, now_s)
        self._buckets.move_to_end(key)
        if len(self._buckets) > self._keys_max:
            self._buckets.popitem(last=False)
        if not allowed:
            raise Problem(
                FAILED,
                f"more than {self._per_second:g} requests a second; try again in a second",
                title="Too Many Requests",
                headers={"retry-after": "1"},
            )


def require_scope(caller: Caller, scopes: frozenset[str]) -> None:
    """Let a caller through that holds any of some scopes.

    Raises:
        Problem: 403, it holds none.
    """
    if not scopes & caller.scopes:
        wanted = " or ".join(sorted(scopes))
        raise Problem(
            FORBIDDEN,
            f"the token lacks the scope {wanted}",
            headers={"www-authenticate": f'Bearer error="insufficient_scope", scope="{" ".join(sorted(scopes))}"'},
        )


def _bearer(authorization: str | None) -> str | None:
    if authorization is None or len(authorization) > _TOKEN_MAX_CHARS:
        return None
    scheme, _, token = authorization.partition(" ")
    token = token.strip()
    return token if scheme.lower() == "bearer" and token and token.isascii() else None
