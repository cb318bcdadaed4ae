"""A process that hangs says so over HTTP, although its event loop does not turn."""

import asyncio
import math
from datetime import timedelta

import httpx
import pytest

import vpp.store  # noqa: F401 - registers what it counts
from tests.builders_processes import free_port
from tests.clock import NOON, FixedClock
from vpp.domain.errors import NotReady
from vpp.observability import Pulse, WatchedClock, health_server
from vpp.observability.health import STALL_AFTER_S


class Elapsed:
    """Seconds since the test began, as the test says."""

    def __init__(self) -> None:
        self.s = 0.0

    def __call__(self) -> float:
        return self.s


class SteppedClock(FixedClock):
    """One whose waking nobody can know."""

    def wall_time(self, at: object) -> None:
        return None


def test_a_loop_that_works_for_too_long_hangs_until_it_shows_itself_again() -> None:
    elapsed = Elapsed()
    pulse = Pulse(elapsed_s=elapsed)
    clock = WatchedClock(FixedClock(), pulse, "collector")
    elapsed.s = STALL_AFTER_S
    assert pulse.hanging() == ()
    elapsed.s += 1
    assert pulse.hanging() == ("collector",)
    clock.now()
    assert pulse.hanging() == ()


@pytest.mark.parametrize(("kind", "silent_s"), [(FixedClock, 3600 + STALL_AFTER_S), (SteppedClock, math.inf)])
async def test_a_loop_that_sleeps_as_announced_does_not_hang(kind: type[FixedClock], silent_s: float) -> None:
    elapsed = Elapsed()
    pulse = Pulse(elapsed_s=elapsed)
    clock = WatchedClock(kind(), pulse, "collector")
    asleep = asyncio.create_task(clock.sleep_until(NOON + timedelta(hours=1)))
    await asyncio.sleep(0)
    elapsed.s = min(silent_s, 1e9)
    assert pulse.hanging() == ()
    elapsed.s = silent_s + 1
    assert pulse.hanging() == (("collector",) if math.isfinite(silent_s) else ())
    asleep.cancel()


def test_health_and_metrics_are_served_from_a_thread_of_their_own() -> None:
    elapsed, port = Elapsed(), free_port()
    pulse = Pulse(elapsed_s=elapsed)
    pulse.beat("gateway")
    with health_server(pulse, host="127.0.0.1", port=port), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        assert client.get("/healthz").status_code == 200
        elapsed.s = STALL_AFTER_S + 1
        hung = client.get("/healthz")
        assert (hung.status_code, hung.text) == (503, "hanging: gateway\n")
        assert "vpp_outages_total" in client.get("/metrics").text
        assert client.get("/").status_code == 404
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"http://127.0.0.1:{port}/healthz")


def test_a_port_in_use_is_said_by_the_settings_name() -> None:
    port = free_port()
    with (
        health_server(Pulse(), host="127.0.0.1", port=port),
        pytest.raises(NotReady, match=f"VPP_METRICS_PORT.*{port}"),
        health_server(Pulse(), host="127.0.0.1", port=port),
    ):
        pass
