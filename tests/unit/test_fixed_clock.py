"""The clock the tests share."""

import asyncio
from datetime import timedelta

import pytest

from tests.clock import NOON, FixedClock

HOUR = timedelta(hours=1)


async def test_a_sleeper_wakes_when_the_test_has_moved_the_clock_far_enough(clock: FixedClock) -> None:
    sleeper = asyncio.create_task(clock.sleep_until(NOON + HOUR))
    await asyncio.sleep(0)
    clock.advance(HOUR / 2)
    await asyncio.sleep(0)
    assert not sleeper.done()
    clock.advance(HOUR / 2)
    await sleeper
    assert clock.now() == NOON + HOUR


async def test_a_clock_that_does_not_let_sleep_moves_on_by_itself() -> None:
    clock = FixedClock(sleeps=False)
    await clock.sleep_until(NOON + HOUR)
    assert clock.now() == NOON + HOUR


def test_time_never_runs_backwards(clock: FixedClock) -> None:
    with pytest.raises(ValueError, match="has passed"):
        clock.advance(-HOUR)
