"""Tesla's answers: recorded ones balance in our sign, statuses become errors, nothing missing becomes zero."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from adapters.http import error_of
from adapters.tesla import wire
from tests.clock import NOON
from tests.shared_data import shared_data
from vpp.domain.errors import AuthFailed, DeviceError, ProtocolError, RateLimited, Rejected, TimedOut, Unreachable


def test_a_recorded_site_balances_in_our_sign() -> None:
    path = shared_data("devices", "home_assistant", "teslemetry", "live_status.json")
    response = json.loads(path.read_text())["response"]
    status = wire.read_live_status(response)
    assert status.battery_kw is not None
    assert status.grid_kw is not None
    load_kw, solar_kw = response["load_power"] / 1000, response["solar_power"] / 1000
    assert solar_kw + status.battery_kw - status.grid_kw == pytest.approx(load_kw)
    assert status.battery_kw > 0
    assert status.soc == pytest.approx(0.95505374)
    assert status.measured_at == datetime(2024, 1, 1, tzinfo=UTC)
    assert (status.islanded, status.storm_mode, status.grid_services) == (False, False, False)


@pytest.mark.parametrize("value", [None, "", "5060", True, float("nan")])
def test_what_is_no_number_is_missing(value: Any) -> None:
    assert wire.read_live_status({"battery_power": value}).battery_kw is None


@pytest.mark.parametrize("timestamp", [None, "", "yesterday", "2026-08-19T12:00:00", 5])
def test_a_time_without_a_zone_is_no_time(timestamp: Any) -> None:
    assert wire.read_live_status({"timestamp": timestamp}).measured_at is None


@pytest.mark.parametrize(
    ("status", "islanded"),
    [
        ({"island_status": "on_grid"}, False),
        ({"island_status": "island_status_unknown"}, False),
        ({"island_status": "off_grid_intentional"}, True),
        ({"island_status": "off_grid"}, True),
        ({"grid_status": "Inactive"}, True),
        ({"grid_status": "Unknown"}, False),
        ({}, False),
    ],
)
def test_off_grid_is_what_tesla_calls_so(status: dict[str, str], islanded: bool) -> None:
    assert wire.read_live_status(status).islanded is islanded


@pytest.mark.parametrize(("reserve_soc", "percent"), [(0.2, 20), (0.201, 21), (0.29, 29), (1.0, 100), (0.0, 0)])
def test_a_reserve_is_never_rounded_down(reserve_soc: float, percent: int) -> None:
    assert wire.reserve_percent(reserve_soc) == percent


@pytest.mark.parametrize(
    ("method", "status", "error", "retryable"),
    [
        ("GET", 400, Rejected, False),
        ("GET", 401, AuthFailed, False),
        ("GET", 403, AuthFailed, False),
        ("GET", 404, Rejected, False),
        ("GET", 408, Unreachable, True),
        ("GET", 421, Rejected, False),
        ("GET", 429, RateLimited, True),
        ("GET", 500, Unreachable, True),
        ("POST", 500, TimedOut, True),
        ("POST", 503, Unreachable, True),
        ("POST", 540, Unreachable, True),
    ],
)
def test_each_status_is_an_error_that_says_whether_to_try_again(
    method: str, status: int, error: type[DeviceError], retryable: bool
) -> None:
    found = error_of(_response(method, status), now=NOON)
    assert type(found) is error
    assert found.retryable is retryable


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "30"}, 30),
        ({"Retry-After": "Wed, 19 Aug 2026 19:02:00 GMT"}, 120),
        ({"RateLimit-Reset": "17"}, 17),
        ({"RateLimit-Reset": str(int(NOON.timestamp()) + 90)}, 90),
        ({"Retry-After": "soon", "RateLimit-Reset": "45"}, 45),
        ({"Retry-After": "Wed, 19 Aug 2026 18:00:00 GMT"}, 0),
        ({}, 300),
    ],
)
def test_when_to_ask_again_is_read_from_the_headers(headers: dict[str, str], seconds: int) -> None:
    found = error_of(_response("GET", 429, headers), now=NOON, default_pause_s=300)
    assert isinstance(found, RateLimited)
    assert found.retry_at == NOON + timedelta(seconds=seconds)


@pytest.mark.parametrize("body", [{"error": "no"}, {"response": {"code": 400, "message": "no"}}])
def test_an_error_inside_a_good_status_is_a_refusal(body: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        wire.response_of(body)


@pytest.mark.parametrize("body", [{}, {"response": None}, {"response": ""}, {"response": []}])
def test_an_answer_without_a_response_is_a_protocol_error(body: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        wire.response_of(body)


def _response(method: str, status: int, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.Response(status, headers=headers, request=httpx.Request(method, "https://example.com/x"))
