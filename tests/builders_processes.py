"""Our own processes, as an operator starts them, for the tests of what they live through."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def vpp_process(*arguments: str, log: Path, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """`vpp <arguments>` with these settings (`database_url=...` is `VPP_DATABASE_URL`). Killed at the end."""
    environment: Mapping[str, str] = {f"VPP_{name.upper()}": str(value) for name, value in settings.items()}
    with log.open("ab") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "vpp", "--debug", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **environment},
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(30)


async def eventually(condition: Callable[[], Awaitable[bool]], within_s: float) -> bool:
    """Ask until it is so; False if it is not within `within_s`."""
    deadline_s = time.monotonic() + within_s
    while not await condition():
        if time.monotonic() > deadline_s:
            return False
        await asyncio.sleep(0.05)
    return True


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
