"""Processes of a benchmark: started, spoken to over their pipes, and what they cost the machine."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
QUIET_SHARE = 0.03
"""Of a core: below this a server is taken to have finished what it was at."""


class Spoken:
    """A Python module in a process of its own that answers a line with a line."""

    def __init__(self, module: str, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def ask(self, **command: Any) -> dict[str, Any]:
        """Send a command and return its answer."""
        self.say(**command)
        return self.answer()

    def say(self, **command: Any) -> None:
        """Send a command."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def answer(self) -> dict[str, Any]:
        """Wait for the answer to a command.

        Raises:
            RuntimeError: the process has ended.
        """
        assert self.process.stdout is not None
        while line := self.process.stdout.readline():
            if line.startswith(b"{"):  # stock openleadr prints banners
                answer: dict[str, Any] = json.loads(line)
                return answer
        raise RuntimeError(f"{self.process.args!r} has ended")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate(timeout=30)  # closes the pipes


def cpu_s(pids: Sequence[int]) -> float:
    """CPU time these processes and their ended children have used [s]."""
    return sum(_ticks(pid) for pid in pids) / _TICKS_PER_S


def family(pid: int) -> list[int]:
    """A process and its children."""
    found = [pid]
    for each in Path("/proc").iterdir():
        if each.name.isdigit() and (fields := _fields(int(each.name))) and int(fields[1]) == pid:
            found.append(int(each.name))
    return found


def parent_of(pid: int) -> int:
    """The process that started another."""
    return int(_fields(pid)[1])


def rss_mib(pid: int) -> float:
    """Memory a process holds [MiB]."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ProcessLookupError(pid)


def settle(pids: Sequence[int], *, within_s: float = 8.0, every_s: float = 0.4) -> None:
    """Wait until processes have finished what they were at, so that the next server has the machine."""
    deadline_s, before_s, at_s = time.monotonic() + within_s, cpu_s(pids), time.monotonic()
    while time.monotonic() < deadline_s:
        time.sleep(every_s)
        now_s, spent_s = time.monotonic(), cpu_s(pids)
        if (spent_s - before_s) / (now_s - at_s) < QUIET_SHARE:
            return
        before_s, at_s = spent_s, now_s


def _ticks(pid: int) -> int:
    fields = _fields(pid)
    return sum(int(each) for each in fields[11:15]) if fields else 0


def _fields(pid: int) -> list[str]:
    """The fields of /proc/<pid>/stat after the name, the state first."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
