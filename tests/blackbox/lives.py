"""Lives of peers side by side: each is driven in a thread of its own, and its tests look at what came of it."""

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.blackbox.environments import Unavailable

LIFE_S = 150.0


@contextmanager
def living(request: pytest.FixtureRequest, lives: Mapping[str, Callable[[], Any]]) -> Iterator[Callable[[str], Any]]:
    """Start those lives, by their fixtures' names, that selected tests of the module need; return the way to each."""
    module = request.node.path
    wanted = {
        name
        for item in request.session.items
        if item.path == module
        for name in getattr(item, "fixturenames", ())
        if name in lives
    }
    pool = ThreadPoolExecutor(max_workers=max(1, len(wanted)), thread_name_prefix="life")
    running: dict[str, Future[Any]] = {name: pool.submit(lives[name]) for name in sorted(wanted)}

    def outcome(name: str) -> Any:
        try:
            return running[name].result(LIFE_S)
        except Unavailable as reason:
            pytest.skip(str(reason))

    try:
        yield outcome
    finally:
        pool.shutdown(cancel_futures=True)
