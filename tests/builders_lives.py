"""200 seeded lives of events between our VTNs and our VENs, and the two ends as processes that may be killed.

The seed says what every life does when, and how long each process is let live: a repetition draws nothing anew.
"""

import asyncio
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from tests.builders_processes import vpp_process
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind

LIVES, LIVES3, VENS, VENS3 = 200, 40, 8, 2
PLAY_S = 40.0
"""From the first event to the last thing done."""
SPAN_S = (11.0, 15.0)
"""How long a life lasts, from its creation to the last thing done to it."""
UP_S = (0.1, 4.0)
"""How long a process is let live once it works again, beside the time it took to come back."""
CONTEXTS = {"http://lives.example/elrp": "elrp", "http://lives.example/csrp": "coned_csrp"}
ELRP, CSRP = CONTEXTS
ZONE = ZoneInfo("America/Los_Angeles")


@dataclass(frozen=True, slots=True)
class Act:
    """Something done to a life `at_s` after the play began."""

    at_s: float
    what: str
    values: tuple[float, ...] = ()
    minutes: int = 0
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Life:
    """One event: whom it is for, when it is, and what is done to it. `is_long`: it runs already."""

    number: int
    event_id: str
    vens: tuple[int, ...]
    slot: int
    is_long: bool
    in_three: bool
    acts: tuple[Act, ...]
    tolerance_s: int = 0

    @property
    def ends_s(self) -> float:
        return self.acts[-1].at_s

    def __str__(self) -> str:
        told = (f"{a.at_s:6.2f} s {a.what} {a.values or ''} {a.detail}".rstrip() for a in self.acts)
        where = "3.1" if self.in_three else "2.0b"
        about = (
            f"life {self.number} ({where}, {self.event_id}, VENs {self.vens}, slot {self.slot}, long {self.is_long})"
        )
        return "\n  ".join([about, *told])


def lives(seed: int) -> list[Life]:
    """Return the lives of a seed, first those over 2.0b."""
    return [_life(seed, n) for n in range(LIVES + LIVES3)]


def _life(seed: int, number: int) -> Life:
    rng = random.Random(f"{seed}\nlife\n{number}")
    in_three = number >= LIVES
    is_long = rng.random() < 0.3
    span_s = rng.uniform(*SPAN_S)
    first_s = rng.uniform(0.0, PLAY_S - span_s)
    wanted = ["create", *(["modify"] * rng.choice((0, 1, 1, 2, 2, 3)))]
    if rng.random() < 0.5 and not in_three:
        wanted.insert(rng.randint(1, len(wanted)), "report")
    if rng.random() < 0.15 and not in_three and not is_long:
        at = rng.randint(1, len(wanted))
        wanted[at:at] = ["away", "modify"]
        if rng.random() < 0.6:
            wanted += ["back", "modify"]
    if rng.random() < 0.45:
        wanted.append("cancel")
        if rng.random() < 0.4 and not in_three:
            wanted.append("revive")
            wanted += ["modify"] * rng.randint(0, 1)
    else:
        wanted.append("leave")
    middle = sorted(rng.uniform(first_s, first_s + span_s) for _ in wanted[1:-1])
    times = [first_s, *middle, first_s + span_s]
    count = VENS3 if in_three else VENS
    vens = rng.sample(range(count), 2 if rng.random() < 0.1 and not in_three else 1)
    return Life(
        number=number,
        event_id=f"life-{seed}-{number}",
        vens=tuple(sorted(vens)),
        slot=number,
        is_long=is_long,
        in_three=in_three,
        acts=tuple(_act(rng, what, at_s, is_long) for what, at_s in zip(wanted, times, strict=True)),
        tolerance_s=rng.choice((0, 0, 300)),
    )


def _act(rng: random.Random, what: str, at_s: float, is_long: bool) -> Act:
    if what not in ("create", "modify", "revive"):
        return Act(round(at_s, 3), what)
    most_kw = rng.choice((3.0, 8.0, 500.0))  # what the fleet covers, and what it does not
    values = tuple(round(rng.uniform(1.0, most_kw), 1) for _ in range(1 if is_long else rng.randint(1, 2)))
    return Act(round(at_s, 3), what, values, minutes=rng.choice((0, 0, 5)))


def window(life: Life, began_at: datetime, over_at: datetime) -> tuple[datetime, datetime]:
    """When an event is at first: two hours of a coming season, or a long one since the last season until `over_at`."""
    if life.is_long:
        day = began_at - timedelta(days=2)
        while not (5 <= day.month <= 9 and day.isoweekday() <= 5):
            day -= timedelta(days=1)
        is_left = life.acts[-1].what == "leave"
        start_at = day.replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(minutes=life.number)
        return start_at, over_at if is_left else (over_at + timedelta(days=1)).replace(microsecond=0)
    day, ahead = began_at.astimezone(ZONE) + timedelta(days=3), life.slot // 2
    while ahead or not 5 <= day.month <= 10:
        ahead -= 5 <= day.month <= 10
        day += timedelta(days=1)
    start = day.replace(hour=16, minute=0, second=0, microsecond=0) + timedelta(minutes=150 * (life.slot % 2))
    return start.astimezone(UTC), start.astimezone(UTC) + timedelta(hours=2)


def series_of(life: Life, act: Act, first_at: datetime, last_at: datetime) -> Series:
    """The event's one series: an interval for each value, the first `minutes` later than the event was to begin."""
    start_at = first_at if life.is_long else first_at + timedelta(minutes=act.minutes)
    length = (last_at - start_at) / len(act.values)
    return Series(
        series_id="s1",
        type=SeriesType.DISPATCH_SETPOINT,
        name="LOAD_DISPATCH/setpoint",
        unit="KW",
        intervals=tuple(
            SeriesInterval(start_at=start_at + n * length, duration=length, values=(value,), uid=str(n))
            for n, value in enumerate(act.values)
        ),
    )


def event_of(life: Life, began_at: datetime, over_at: datetime, ven_ids: list[str]) -> GridEvent:
    """The event as it is published first."""
    first_at, last_at = window(life, began_at, over_at)
    series = series_of(life, life.acts[0], first_at, last_at)
    start_at = series.intervals[0].start_at
    return GridEvent(
        event_id=life.event_id,
        modification_number=0,
        program=CSRP if life.is_long else ELRP,
        start_at=start_at,
        duration=last_at - start_at,
        start_tolerance=timedelta(seconds=0 if life.is_long else life.tolerance_s),
        series=(series,),
        targets=tuple(Target(TargetKind.VEN, ven_id) for ven_id in ven_ids),
        created_at=began_at,
    )


@dataclass(slots=True)
class Ends:
    """The processes of both ends, each started again at once when it is killed.

    Attributes:
        commands: arguments and settings of each.
        works: what a process does not do before it works, as a port it listens on or a line of its log.
    """

    folder: Path
    commands: dict[str, tuple[tuple[str, ...], dict[str, Any]]]
    works: dict[str, int | str]
    killed: list[tuple[float, str]] = field(default_factory=list)
    _running: dict[str, tuple[subprocess.Popen[bytes], ExitStack]] = field(default_factory=dict)
    _logged: dict[str, int] = field(default_factory=dict)

    def start(self, name: str) -> None:
        arguments, settings = self.commands[name]
        stack, log = ExitStack(), self.folder / f"{name}.log"
        self._logged[name] = log.stat().st_size if log.exists() else 0
        process = stack.enter_context(vpp_process(*arguments, log=log, **settings))
        self._running[name] = process, stack

    def kill(self, name: str) -> None:
        """`kill -9`, and start anew."""
        process, stack = self._running[name]
        assert process.poll() is None, f"{name} had ended by itself: {self.log_of(name)[-2000:]}"
        process.send_signal(signal.SIGKILL)
        self.killed.append((time.monotonic(), name))
        self.start(name)
        stack.close()

    async def is_back(self, name: str) -> bool:
        """Whether a process works that was started last."""
        sign = self.works[name]
        if isinstance(sign, str):
            return sign in self.log_of(name, self._logged[name])
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", sign)
        except OSError:
            return False
        writer.close()
        return True

    def deaths(self, since_s: float, until_s: float) -> set[str]:
        """Who died between two instants of the monotonic clock."""
        return {name for at_s, name in self.killed if since_s <= at_s <= until_s}

    def log_of(self, name: str, since: int = 0) -> str:
        with (self.folder / f"{name}.log").open("rb") as log:
            log.seek(since)
            return log.read().decode(errors="replace")

    def stop(self) -> None:
        for _, stack in self._running.values():
            stack.close()


@contextmanager
def both_ends(ends: Ends) -> Iterator[Ends]:
    """End whatever was started in the block."""
    try:
        yield ends
    finally:
        ends.stop()
