"""Values that each hold for an interval, as a picture of steps: drawn into the page as SVG, without a script.

Pure; called by the pages of events we send and of signals received, and drawn by `step_chart.html`. Places are in
a plane 1000 wide and 100 high, from the top left, which the page stretches to its own width.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from vpp.domain.grid_event import Series
from vpp.domain.time import Interval

WIDTH, HEIGHT = 1000.0, 100.0
MOST_STEPS = 500
_MOST_TICKS = 4
_SCALES = tuple(timedelta(minutes=each) for each in (1, 5, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 10080))


@dataclass(frozen=True, slots=True)
class Step:
    """One value over an interval; None where there is none, which leaves a gap."""

    interval: Interval
    value: float | None


@dataclass(frozen=True, slots=True)
class Spot:
    """A stretch of the picture, from `x` on, with what each line says there, for whoever points at it."""

    x: float
    width: float
    interval: Interval
    values: tuple[tuple[str, float | None], ...]


@dataclass(frozen=True, slots=True)
class StepChart:
    """Lines by their names as SVG paths; `zero` is how far down 0 lies, `now` how far right the clock is.

    Attributes:
        ticks: how far right [% of the width], and which instant.
    """

    lines: dict[str, str]
    spots: tuple[Spot, ...]
    ticks: tuple[tuple[float, datetime], ...]
    window: Interval
    low: float
    high: float
    zero: float
    now: float | None


def step_chart(lines: Mapping[str, Sequence[Step]], *, now: datetime) -> StepChart | None:
    """Draw lines over one stretch of time, each by its name; None where there is no value at all.

    Args:
        lines: in order of time. Spots follow the first line's intervals; others are read at their starts.
    """
    known = [step for steps in lines.values() for step in steps[:MOST_STEPS] if step.value is not None]
    if not known:
        return None
    every = [step.interval for steps in lines.values() for step in steps[:MOST_STEPS]]
    window = Interval(min(each.start_at for each in every), max(each.end_at for each in every))
    values = [0.0, *(step.value for step in known if step.value is not None)]
    low, high = min(values), max(values)
    plane = _Plane(window, low, high if high > low else low + 1.0)
    first = next(iter(lines.values()))
    return StepChart(
        lines={name: plane.path(steps[:MOST_STEPS]) for name, steps in lines.items()},
        spots=tuple(plane.spot(step.interval, lines) for step in first[:MOST_STEPS]),
        ticks=tuple((plane.x(at) / WIDTH * 100.0, at) for at in _ticks(window)),
        window=window,
        low=plane.low,
        high=plane.high,
        zero=plane.y(0.0),
        now=plane.x(now) if now in window else None,
    )


def steps_of(series: Series, *, end_at: datetime | None) -> list[Step]:
    """Return a signal's intervals that state one number; one without an end lasts to `end_at`, or for an hour."""
    found = []
    for part in series.intervals:
        until = part.start_at + part.duration if part.duration else max(end_at or part.start_at, part.start_at)
        if until == part.start_at:
            until += timedelta(hours=1)
        one = part.values[0] if len(part.values) == 1 else None
        number = float(one) if isinstance(one, int | float) else None
        found.append(Step(Interval(part.start_at, until), number))
    return found


@dataclass(frozen=True, slots=True)
class _Plane:
    window: Interval
    low: float
    high: float

    def x(self, at: datetime) -> float:
        return round((at - self.window.start_at) / self.window.duration * WIDTH, 2)

    def y(self, value: float) -> float:
        return round((self.high - value) / (self.high - self.low) * HEIGHT, 2)

    def path(self, steps: Sequence[Step]) -> str:
        """One line, which is lifted over gaps."""
        drawn: list[str] = []
        last: Step | None = None
        for step in steps:
            if step.value is None:
                last = None
                continue
            joined = last is not None and last.interval.end_at == step.interval.start_at
            drawn.append(
                f"{'' if joined else f'M{self.x(step.interval.start_at):g} {self.y(step.value):g}'}"
                f"{f'V{self.y(step.value):g}' if joined else ''}H{self.x(step.interval.end_at):g}"
            )
            last = step
        return "".join(drawn)

    def spot(self, interval: Interval, lines: Mapping[str, Sequence[Step]]) -> Spot:
        values = tuple(
            (name, next((step.value for step in steps if interval.start_at in step.interval), None))
            for name, steps in lines.items()
        )
        return Spot(self.x(interval.start_at), self.x(interval.end_at) - self.x(interval.start_at), interval, values)


def _ticks(window: Interval) -> list[datetime]:
    """A few instants at even distances from the start, the end among them."""
    scale = next((each for each in _SCALES if window.duration / each <= _MOST_TICKS), window.duration / _MOST_TICKS)
    count = int(window.duration / scale)
    inner = [window.start_at + index * scale for index in range(count + 1)]
    near = [at for at in inner if window.end_at - at >= scale / 2]
    return [*near, window.end_at]
