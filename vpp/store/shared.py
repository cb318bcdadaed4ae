"""Small things several processes must agree on, kept in Valkey: how many calls a vendor still allows today."""

from datetime import date

from redis.asyncio import Redis

_KEEP_BUDGET_S = 3 * 24 * 3600
_TAKE = """
local taken = tonumber(redis.call('GET', KEYS[1]) or '0') + tonumber(ARGV[1])
if ARGV[2] ~= '' and taken > tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], taken, 'EX', ARGV[3])
return 1
"""


class SharedCallBudget:
    """Calls a vendor limits by the day, counted once for all workers."""

    def __init__(self, redis: Redis, vendor: str) -> None:
        self._redis, self._vendor = redis, vendor
        self._take = redis.register_script(_TAKE)

    async def take(self, key: str, day: date, count: int, limit: int | None) -> bool:
        """Add `count` in one step unless that would exceed `limit`; whether they were added."""
        name = f"vpp:budget:{self._vendor}:{day.isoformat()}:{key}"
        taken = await self._take(keys=[name], args=[count, "" if limit is None else limit, _KEEP_BUDGET_S])
        return bool(taken)
