"""Other processes that use embedded servers, for the tests of who starts, adopts and stops them."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from vpp.store.embedded.process import command_line

_PROGRAM = """
import signal, sys, time
from pathlib import Path
from vpp.config import Settings
from vpp.store.embedded import running_servers
signal.signal(signal.SIGINT, signal.default_int_handler)  # what starts in the background is told to ignore it
with running_servers(Settings(var_dir=Path(sys.argv[1]), database_url=None, redis_url=None)) as urls:
    print(urls.database_url, urls.redis_url, flush=True)
    time.sleep(100)
"""


@contextmanager
def another_user(var_dir: Path, *, wait: bool = True) -> Iterator[subprocess.Popen[str]]:
    """A process inside `running_servers`; the block starts when the servers answer. Killed at the end."""
    process = subprocess.Popen([sys.executable, "-c", _PROGRAM, str(var_dir)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        if wait:
            assert process.stdout.readline(), "the other process could not start the servers"
        yield process
    finally:
        process.kill()
        process.wait(30)
        process.stdout.close()


def processes_of(var_dir: Path) -> list[int]:
    """Pids of the servers whose command line names the folder."""
    pids = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    servers = ("postgres", "initdb", "valkey-server")
    lines = {pid: command_line(pid).split(" ") for pid in pids}
    return [
        pid
        for pid, (binary, *arguments) in lines.items()
        if binary.rpartition("/")[2] in servers and any(str(var_dir) in argument for argument in arguments)
    ]
