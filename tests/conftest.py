"""Fixtures for every test: real PostgreSQL and Valkey, a database of its own for each test, a fixed clock.

Each pytest process has its own servers in its own folder, so several may run side by side.
"""

import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import hypothesis
import psycopg
import pytest
from redis import Redis

from tests.clock import FixedClock
from tests.databases import Databases
from vpp.config import Settings
from vpp.store.embedded import ServerUrls, running_servers, stop_servers
from vpp.store.embedded.process import is_held
from vpp.store.engine import Store
from vpp.store.migrate import migrate

_LONGEST_FIRST = (
    "tests/simulation/test_kill_matrix.py",
    "tests/integration/test_allocation_dask.py",
    "tests/simulation/test_event_lives.py",
    "tests/blackbox/",
    "tests/browser/",
    "tests/integration/",
)
_PREFIX = "vpp-test-"

# CI tries the same examples in every property test each time, so that a change is judged by what it changed; anywhere
# else each run tries new ones, and one that failed again.
hypothesis.settings.register_profile("ci", derandomize=True)
if os.environ.get("VPP_REQUIRE_ALL") == "1":
    hypothesis.settings.load_profile("ci")


def pytest_configure(config: pytest.Config) -> None:
    """Compile each module once, whatever the environment says: tests start hundreds of processes, and one that has to
    compile all it imports takes twice as long to start."""
    assert config.cache is not None
    compiled = str(config.cache.mkdir("bytecode"))
    sys.dont_write_bytecode, sys.pycache_prefix = False, compiled
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    os.environ["PYTHONPYCACHEPREFIX"] = compiled


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """The whole suite runs in two processes; a few files, as while working on them, in this one."""
    return 2 if config.args == config.getini("testpaths") else 0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files first, so that no process ends up alone with one of them.

    The two longest, which wait much, run one after the other (files are handed out in turn), while the other process
    has what only computes.
    """

    def rank(item: pytest.Item) -> int:
        folders = (i for i, folder in enumerate(_LONGEST_FIRST) if item.nodeid.startswith(folder))
        return next(folders, len(_LONGEST_FIRST))

    items.sort(key=rank)


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerUrls]:
    """Embedded servers for this pytest process. The folder's path is short: sockets live in it."""
    _sweep()
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX))
    try:
        with running_servers(Settings(var_dir=folder, database_url=None, redis_url=None)) as urls:
            for setting in ("fsync", "full_page_writes"):  # what these servers hold ends with them
                _administer(urls, f"alter system set {setting} = off")
            _administer(urls, "select pg_reload_conf()")
            yield urls
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def template_database(servers: ServerUrls) -> str:
    """The name of a migrated database nobody connects to, to be cloned."""
    _administer(servers, "create database vpp_template")
    migrate(urlsplit(servers.database_url)._replace(path="/vpp_template").geturl())
    return "vpp_template"


@pytest.fixture(scope="session")
def databases(servers: ServerUrls, template_database: str) -> Databases:
    """Migrated databases, to be lent to one test or module after the other."""
    return Databases(servers.database_url, template_database)


@pytest.fixture
def empty_database_url(servers: ServerUrls) -> Iterator[str]:
    """The address of a new database with nothing in it."""
    _administer(servers, "create database vpp_empty")
    yield urlsplit(servers.database_url)._replace(path="/vpp_empty").geturl()
    _administer(servers, "drop database vpp_empty with (force)")


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """The address of a migrated database with nothing in it."""
    with databases.lend() as url:
        yield url


@pytest.fixture(scope="module")
def module_database_url(databases: Databases) -> Iterator[str]:
    """The address of a migrated database for all tests of a module, which keep apart by tenants of their own."""
    with databases.lend() as url:
        yield url


@pytest.fixture
def redis_url(servers: ServerUrls) -> str:
    """The address of an empty Valkey."""
    with Redis.from_url(servers.redis_url, socket_timeout=10) as client:
        client.flushdb()
    return servers.redis_url


@pytest.fixture
async def store(database_url: str, redis_url: str) -> AsyncIterator[Store]:
    """A store on a new, migrated database and an empty Valkey."""
    store = Store(database_url, redis_url)
    yield store
    await store.close()


@pytest.fixture
def clock() -> FixedClock:
    """A clock that shows `tests.clock.NOON` until the test moves it."""
    return FixedClock()


def _sweep() -> None:
    """Stop and remove what a killed pytest process left: a folder with servers and no user."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        lock = folder / "users.lock"
        if lock.exists() and lock.stat().st_uid == os.getuid() and not is_held(lock):
            with suppress(OSError):  # its own process, or another one's sweep, may be removing it just now
                stop_servers(folder)
            shutil.rmtree(folder, ignore_errors=True)


def _administer(servers: ServerUrls, statement: str) -> None:
    with psycopg.connect(servers.database_url, autocommit=True, connect_timeout=5) as connection:
        connection.execute(statement.encode())


def _refuse_skip(report: pytest.TestReport | pytest.CollectReport) -> None:
    """With VPP_REQUIRE_ALL=1 a test that cannot run is a failure: nothing may be missing in CI."""
    if os.environ.get("VPP_REQUIRE_ALL") == "1" and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"VPP_REQUIRE_ALL=1 allows no skip, but: {reason}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _refuse_skip(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _refuse_skip(report)
    return report
