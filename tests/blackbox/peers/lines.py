"""What every peer's script has in common: its arguments, its commands and what it says, as lines of JSON."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any


def arguments() -> dict[str, Any]:
    """What the test gave."""
    given: dict[str, Any] = json.loads(sys.argv[1])
    return given


def say(what: str, **facts: Any) -> None:
    """Tell the test."""
    sys.stdout.write(json.dumps({"what": what, **facts}, default=str) + "\n")
    sys.stdout.flush()


def commands() -> Iterator[dict[str, Any]]:
    """What the test asks for, until it hangs up."""
    for line in sys.stdin:
        yield json.loads(line)


async def later_commands() -> AsyncIterator[dict[str, Any]]:
    """The same for scripts with an event loop."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        yield json.loads(line)
