"""Our own child processes: started, watched, started again if they die, and stopped in good order.

Used by `vpp up` and `vpp demo`. In a cluster the orchestrator does this instead.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from vpp.domain.errors import NotReady

log = structlog.get_logger()

STOP_WITHIN_S = 15.0
RESTART_PAUSE_S = 0.2
FAILURES_IN_A_ROW = 4
LIVED_WELL_S = 5.0


@dataclass(slots=True)
class _Child:
    name: str
    arguments: tuple[str, ...]
    log_path: Path
    environment: Mapping[str, str]
    process: asyncio.subprocess.Process | None = None
    watcher: asyncio.Task[None] | None = None
    failures: int = 0


@dataclass(slots=True)
class Processes:
    """A set of `vpp` commands run as children, each with a log file of its own."""

    log_dir: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    _children: dict[str, _Child] = field(default_factory=dict)

    async def start(self, name: str, arguments: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        """Start `vpp <arguments>` and keep it running; `environment` is for this one only."""
        self.log_dir.mkdir(parents=True, exist_ok=True)
        child = _Child(name, tuple(arguments), self.log_dir / f"{name}.log", environment or {})
        self._children[name] = child
        await self._spawn(child)
        child.watcher = asyncio.create_task(self._watch(child), name=f"watch {name}")

    def pid(self, name: str) -> int:
        """The child's process id.

        Raises:
            NotReady: it is not running at this moment.
        """
        process = self._children[name].process
        if process is None or process.returncode is not None:
            raise NotReady(f"{name} is not running")
        return process.pid

    def kill(self, name: str) -> None:
        """`kill -9` it; it is started again at once."""
        os.kill(self.pid(name), signal.SIGKILL)

    def check(self) -> None:
        """Raise if a child could not be kept running.

        Raises:
            NotReady: names the child and its log.
        """
        for child in self._children.values():
            if child.watcher is not None and child.watcher.done() and not child.watcher.cancelled():
                raise NotReady(f"{child.name} keeps failing; its last words are in {child.log_path}")

    async def stop(self) -> None:
        """Ask every child to stop, the last started first, and kill what does not."""
        for child in reversed(self._children.values()):
            if child.watcher is not None:
                child.watcher.cancel()
            await _stop(child)
        self._children.clear()

    async def _spawn(self, child: _Child) -> None:
        with child.log_path.open("ab") as output:
            child.process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "vpp",
                "--debug",  # nobody watches a child's terminal: its log holds the whole trace
                *child.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={**os.environ, **self.environment, **child.environment},
                start_new_session=True,
            )

    async def _watch(self, child: _Child) -> None:
        loop = asyncio.get_running_loop()
        while child.failures < FAILURES_IN_A_ROW and child.process is not None:
            started = loop.time()
            code = await child.process.wait()
            child.failures = 0 if loop.time() - started > LIVED_WELL_S else child.failures + 1
            log.warning("process ended, starting it again", name=child.name, code=code)
            await asyncio.sleep(RESTART_PAUSE_S)
            await self._spawn(child)


async def _stop(child: _Child) -> None:
    process = child.process
    if process is None or process.returncode is not None:
        return
    with suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(STOP_WITHIN_S):
            await process.wait()
    except TimeoutError:
        log.warning("process did not stop in time, killed", name=child.name)
        with suppress(ProcessLookupError):
            process.kill()
        await process.wait()
