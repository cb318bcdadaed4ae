"""The embedded servers: who starts, adopts and stops them, and what survives whose death.

Cited by docs/decisions/0004-embedded-servers.md.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from redis import Redis

from tests.integration.embedded_user import another_user, processes_of
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.store.embedded import ServerUrls, ensure_servers, running_servers, stop_servers
from vpp.store.embedded.process import start_mark
from vpp.store.embedded.record import Record, User, read_record, write_record
from vpp.store.embedded.server import wheel_folder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")


@pytest.fixture
def var_dir() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="vpp-servers-"))
    yield folder
    stop_servers(folder)
    shutil.rmtree(folder)


def settings_of(var_dir: Path) -> Settings:
    return Settings(var_dir=var_dir, database_url=None, redis_url=None)


def write_something(urls: ServerUrls) -> None:
    with psycopg.connect(urls.database_url) as connection:
        connection.execute("create table kept as select 42 as number")
    with Redis.from_url(urls.redis_url) as client:
        client.xadd("kept", {"number": "42"})


def is_kept(urls: ServerUrls) -> bool:
    with psycopg.connect(urls.database_url) as connection:
        row = connection.execute("select number from kept").fetchone()
    with Redis.from_url(urls.redis_url) as client:
        return row == (42,) and client.xlen("kept") == 1


def pid_of(var_dir: Path, name: str) -> int:
    content = json.loads((var_dir / "servers.json").read_text())
    return next(int(server["pid"]) for server in content["servers"] if server["name"] == name)


def test_configured_servers_are_used_as_they_are_and_nothing_is_started(var_dir: Path) -> None:
    settings = Settings(var_dir=var_dir / "unused", database_url="postgresql://db/vpp", redis_url="redis://bus")
    with running_servers(settings) as urls:
        assert urls == ServerUrls("postgresql://db/vpp", "redis://bus")
    assert not (var_dir / "unused").exists()


def test_only_the_server_that_is_not_configured_is_started(var_dir: Path) -> None:
    with running_servers(Settings(var_dir=var_dir, database_url="postgresql://db/vpp", redis_url=None)) as urls:
        assert urls.database_url == "postgresql://db/vpp"
        with Redis.from_url(urls.redis_url) as client:
            assert client.ping()
        assert len(processes_of(var_dir)) == 1
    assert processes_of(var_dir) == []


def test_rows_outlive_a_clean_stop_and_nobody_else_may_enter(var_dir: Path) -> None:
    with running_servers(settings_of(var_dir)) as urls:
        write_something(urls)
        for name in ("postgres", "valkey"):
            assert (var_dir / name).stat().st_mode & 0o077 == 0
    assert processes_of(var_dir) == []
    with running_servers(settings_of(var_dir)) as urls:
        assert is_kept(urls)


def test_who_comes_second_uses_the_same_servers_and_the_last_to_leave_stops_them(var_dir: Path) -> None:
    with another_user(var_dir) as first:
        before = processes_of(var_dir)
        with running_servers(settings_of(var_dir)) as urls:
            assert processes_of(var_dir) == before
        with psycopg.connect(urls.database_url) as connection:
            assert connection.execute("select 1").fetchone() == (1,)
        first.terminate()
        assert first.wait(30) == 128 + signal.SIGTERM
    assert processes_of(var_dir) == []


def test_the_servers_stay_for_those_who_joined_after_the_first_has_left(var_dir: Path) -> None:
    with another_user(var_dir) as first, running_servers(settings_of(var_dir)) as urls:
        first.terminate()
        first.wait(30)
        write_something(urls)
        assert is_kept(urls)
    assert processes_of(var_dir) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_the_owner_stops_both_servers_cleanly(var_dir: Path, number: signal.Signals) -> None:
    with another_user(var_dir) as owner:
        owner.send_signal(number)
        owner.wait(30)
    assert processes_of(var_dir) == []
    assert "database system is shut down" in (var_dir / "postgres" / "postgres.log").read_text()
    assert "ready to exit" in (var_dir / "valkey" / "valkey.log").read_text()


def test_after_kill_9_of_the_owner_the_next_start_adopts_its_servers_and_stops_them(var_dir: Path) -> None:
    with another_user(var_dir) as owner:
        write_something(ensure_servers(settings_of(var_dir)))
        before = processes_of(var_dir)
        owner.kill()
        owner.wait(30)
    assert processes_of(var_dir) == before
    with running_servers(settings_of(var_dir)) as urls:
        assert processes_of(var_dir) == before
        assert is_kept(urls)
    assert processes_of(var_dir) == []


def test_after_kill_9_of_everything_the_next_start_has_every_row(var_dir: Path) -> None:
    with another_user(var_dir) as owner:
        write_something(ensure_servers(settings_of(var_dir)))
        owner.kill()
        for pid in processes_of(var_dir):
            os.kill(pid, signal.SIGKILL)
    with running_servers(settings_of(var_dir)) as urls:
        assert is_kept(urls)
    assert processes_of(var_dir) == []


@pytest.mark.parametrize("name", ["postgres", "valkey"])
def test_a_killed_server_is_back_at_the_same_address_after_ensure(var_dir: Path, name: str) -> None:
    with running_servers(settings_of(var_dir)) as urls:
        write_something(urls)
        killed = pid_of(var_dir, name)
        os.kill(killed, signal.SIGKILL)
        assert ensure_servers(settings_of(var_dir)) == urls
        assert pid_of(var_dir, name) != killed
        assert is_kept(urls)
    assert processes_of(var_dir) == []


def test_killing_the_starter_at_any_moment_leaves_nothing_that_hinders_the_next(var_dir: Path) -> None:
    for delay_s in (0.25, 0.35, 0.45, 0.6, 0.8):
        with another_user(var_dir, wait=False):
            time.sleep(delay_s)
    with running_servers(settings_of(var_dir)) as urls:
        write_something(urls)
        assert len(processes_of(var_dir)) == 2
        assert is_kept(urls)
    assert processes_of(var_dir) == []


def test_starters_at_the_same_moment_share_one_pair_of_servers(var_dir: Path) -> None:
    with ThreadPoolExecutor(3) as pool, running_servers(settings_of(var_dir)) as urls:
        assert set(pool.map(lambda _: ensure_servers(settings_of(var_dir)), range(3))) == {urls}
    with another_user(var_dir, wait=False) as one, another_user(var_dir) as two:
        assert one.stdout is not None
        assert one.stdout.readline()
        assert len(processes_of(var_dir)) == 2
        for user in (one, two):
            user.terminate()
            user.wait(30)
    assert processes_of(var_dir) == []


def test_stop_ends_the_servers_of_an_owner_that_was_killed(var_dir: Path) -> None:
    with another_user(var_dir) as owner:
        owner.kill()
    assert len(processes_of(var_dir)) == 2
    assert stop_servers(var_dir) == ("postgres", "valkey")
    assert processes_of(var_dir) == []
    assert stop_servers(var_dir) == ()


def test_stop_asks_a_living_owner_to_leave(var_dir: Path) -> None:
    with another_user(var_dir) as owner:
        assert stop_servers(var_dir) == ("postgres", "valkey")
        assert owner.wait(30) == 128 + signal.SIGTERM
    assert processes_of(var_dir) == []


def test_a_process_that_got_a_dead_users_number_is_left_alone(var_dir: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as stranger:
        write_record(var_dir / "servers.json", Record((User(stranger.pid, "long ago"),)))
        stop_servers(var_dir)
        assert start_mark(stranger.pid) is not None
        stranger.kill()


def test_the_record_names_its_users_and_is_for_their_eyes_only(var_dir: Path) -> None:
    with running_servers(settings_of(var_dir)):
        assert [user.pid for user in read_record(var_dir / "servers.json").users] == [os.getpid()]
        assert (var_dir / "servers.json").stat().st_mode & 0o077 == 0
    assert read_record(var_dir / "servers.json") == Record()


def test_a_folder_with_a_long_path_still_gets_its_sockets(var_dir: Path) -> None:
    deep = var_dir / ("long" * 20) / ("path" * 20)
    with running_servers(settings_of(deep)) as urls:
        write_something(urls)
        assert is_kept(urls)
    for address in (urls.database_url.partition("host=")[2], urls.redis_url.removeprefix("unix://").rpartition("/")[0]):
        assert Path(address).stat().st_mode & 0o077 == 0
        shutil.rmtree(address)


def test_a_server_that_cannot_start_says_why_and_names_its_log(var_dir: Path) -> None:
    with running_servers(settings_of(var_dir)):
        pass
    (var_dir / "postgres" / "data" / "global" / "pg_control").unlink()
    with (
        pytest.raises(NotReady, match=r"postgres ended at its start; the end of .*/postgres\.log"),
        running_servers(settings_of(var_dir)),
    ):
        pass
    assert processes_of(var_dir) == []


def test_a_missing_wheel_is_named_with_the_way_out() -> None:
    with pytest.raises(NotReady, match="set VPP_DATABASE_URL"):
        wheel_folder("no_such_wheel", "set VPP_DATABASE_URL to a server of your own")
