"""Room openadr3: every object of a list that a VTN gives out in pages. Called by `client`."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from vpp.domain.errors import PeerUnreachable

LIMIT = 50
"""The most the definition lets us ask for at once."""
MAX_OBJECTS = 20_000
LIKELY_CAPS = (10, 20, 25, 30, 40)
"""A page of so many may be all the VTN gives out at once: one more is asked for."""

FetchPage = Callable[[int, int], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Listing:
    """Objects by id, in the order told; not `complete` where the VTN may have more of them."""

    objects: tuple[dict[str, Any], ...]
    complete: bool


async def read_all(fetch: FetchPage) -> Listing:
    """Read pages until a short one. `fetch(skip, limit)` returns what one request answers.

    A VTN that ignores `skip` tells the first page over and over: reading ends where a page brings nothing
    new, and there may be objects we cannot get at. One that ignores `limit` as well
    has told everything with the first page.

    Raises:
        PeerUnreachable: an answer is no list.
    """
    found: dict[str, dict[str, Any]] = {}
    skip = 0
    while skip < MAX_OBJECTS:
        page = await fetch(skip, LIMIT)
        if not isinstance(page, list):
            raise PeerUnreachable("a list was asked for, the answer is none")
        known = len(found)
        for each in page:
            if isinstance(each, dict) and isinstance(each.get("id"), str) and each["id"]:
                found[each["id"]] = each
        skip += len(page)
        if len(page) > LIMIT or (len(page) < LIMIT and len(page) not in LIKELY_CAPS):
            return Listing(tuple(found.values()), True)
        if len(found) == known:
            return Listing(tuple(found.values()), not page)
    return Listing(tuple(found.values()), False)
