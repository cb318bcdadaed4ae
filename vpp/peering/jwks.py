"""An OAuth server's signing keys, fetched and kept. Called by `external_tokens`.

Goal: its rotation is followed without a restart, and nobody can make us fetch in a loop by inventing key ids.
"""

import asyncio
import json
from collections.abc import Callable, Collection
from time import monotonic
from typing import Any

import httpx
import jwt
import structlog
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from vpp.peering.metrics import JWKS_FETCHES

FETCH_TIMEOUT_S = 5.0
KEEP_S = 3600.0
MIN_INTERVAL_S = 30.0
"""Between two fetches, whatever ids are asked for; `FAILED_INTERVAL_S` after one that failed."""
FAILED_INTERVAL_S = 5.0
_MAX_BYTES = 262_144
_MAX_KEYS = 100
_RSA_MIN_BITS = 2048

log = structlog.get_logger(__name__)


class KeySet:
    """The keys behind a JWKS address. Keys that were fetched once are kept while the server is away."""

    def __init__(self, url: str, algorithms: Collection[str], *, ticks: Callable[[], float] = monotonic) -> None:
        self._url, self._algorithms, self._ticks = url, frozenset(algorithms), ticks
        self._keys: dict[str | None, jwt.PyJWK] = {}
        self._next_s = self._fetched_s = float("-inf")
        self._fetching = asyncio.Lock()

    async def find(self, key_id: str | None) -> jwt.PyJWK | None:
        """The key with an id; a token that names none is taken where the server has one key only."""
        known = key_id in self._keys
        if self._must_fetch(key_id) and not (known and self._fetching.locked()):
            async with self._fetching:
                if self._must_fetch(key_id):
                    await self._fetch()
        if key_id is None:
            return next(iter(self._keys.values())) if len(self._keys) == 1 else None
        return self._keys.get(key_id)

    def _must_fetch(self, key_id: str | None) -> bool:
        if self._ticks() < self._next_s:
            return False
        unknown = not self._keys if key_id is None else key_id not in self._keys
        return unknown or self._ticks() - self._fetched_s > KEEP_S

    async def _fetch(self) -> None:
        try:
            async with asyncio.timeout(FETCH_TIMEOUT_S):
                found = _keys(await _download(self._url), self._algorithms)
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError, ValueError) as error:
            self._next_s = self._ticks() + FAILED_INTERVAL_S
            JWKS_FETCHES.labels("failed").inc()
            log.warning("keys of the OAuth server not fetched", url=self._url, error=str(error) or type(error).__name__)
            return
        JWKS_FETCHES.labels("fetched").inc()
        self._fetched_s, self._keys = self._ticks(), found
        self._next_s = self._fetched_s + MIN_INTERVAL_S


async def _download(url: str) -> bytes:
    body = b""
    async with httpx.AsyncClient(timeout=FETCH_TIMEOUT_S) as client, client.stream("GET", url) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"status {answer.status_code}")
        async for part in answer.aiter_bytes():
            body += part
            if len(body) > _MAX_BYTES:
                raise ValueError(f"more than {_MAX_BYTES} bytes")
    return body


def _keys(body: bytes, algorithms: frozenset[str]) -> dict[str | None, jwt.PyJWK]:
    """The keys of a JWKS document that can sign what we take; a secret key among them is nobody's business."""
    listed: Any = json.loads(body)
    listed = listed.get("keys") if isinstance(listed, dict) else None
    if not isinstance(listed, list):
        raise ValueError("no list of keys")
    found: dict[str | None, jwt.PyJWK] = {}
    for each in listed[:_MAX_KEYS]:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or each.get("kty") not in ("RSA", "EC"):
            continue
        try:
            key = jwt.PyJWK(each, algorithm=_algorithm(each, algorithms))
        except (jwt.PyJWTError, ValueError, TypeError):
            continue
        weak = isinstance(key.key, RSAPublicKey) and key.key.key_size < _RSA_MIN_BITS
        if key.algorithm_name in algorithms and not weak:
            found[each.get("kid")] = key
    return found


def _algorithm(each: dict[str, Any], algorithms: frozenset[str]) -> str | None:
    """The one algorithm a key is used with: its own word, else the first we take of its kind."""
    if "alg" in each:
        return str(each["alg"])
    kind = {"RSA": ("RS", "PS"), "EC": ("ES",)}[each["kty"]]
    return next((name for name in sorted(algorithms, reverse=True) if name.startswith(kind)), None)
