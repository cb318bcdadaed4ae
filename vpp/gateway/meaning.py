"""Room gateway: what a utility's event asks of the fleet. The one place where the sense of values turns.

Called for events of OpenADR 2.0b and 3 alike, once the wire has been read into a `GridEvent`.

What an event may say here:
* SIMPLE: level 0 to 3; the programme says how many kW a level is.
* DISPATCH_SETPOINT [kW]: the power to deliver at the grid connection. OpenADR leaves its sign to the
  programme; ours count delivery toward the grid as positive, as everywhere inside.
* DISPATCH_SETPOINT_RELATIVE [kW]: the change of consumption; -500 kW of consumption is 500 kW
  delivered, so the sign turns.
Of several series the first dispatch we understand counts, else the first SIMPLE. Any other event gets a
refusal with a code of OpenADR 2.0b (profile specification, application error codes), never an exception.
"""

import math
from collections.abc import Callable
from datetime import timedelta

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, SeriesType
from vpp.domain.openadr2 import INVALID_DATA, SIGNAL_NOT_SUPPORTED
from vpp.domain.signal import EventSignal, SignalInterval, SignalKind
from vpp.domain.time import Interval
from vpp.domain.ven import Refusal

MAX_POWER_KW = 1e7
MAX_ID_LENGTH = 256
MAX_MODIFICATION = 2**31 - 1

Sense = Callable[[float], float]

_DISPATCH: dict[SeriesType, Sense] = {
    SeriesType.DISPATCH_SETPOINT: lambda kw: kw,
    SeriesType.DISPATCH_SETPOINT_RELATIVE: lambda kw: -kw + 0.0,  # adding zero turns -0.0 into 0.0
}


class _Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def interpret(event: GridEvent, *, source: str, program: str, request_id: str = "") -> EventSignal | Refusal:
    """Return what an event asks of the fleet, or why it cannot be considered.

    A cancelled event whose series we could not read is still a cancellation.

    Args:
        event: as the utility stated it.
        source: the peer it came from, as `openadr2:<name>`.
        program: our programme that its market context or programme stands for.
        request_id: the message our answer refers to.
    """
    try:
        return _signal(event, source, program, request_id)
    except _Refused as refused:
        refusal = refused.refusal
    except InvalidRequest as error:
        refusal = Refusal(INVALID_DATA, str(error))
    if event.cancelled and event.modification_number <= MAX_MODIFICATION:
        return withdrawn(event.event_id, event.modification_number, source=source, request_id=request_id)
    return refusal


def withdrawn(external_id: str, number: int, *, source: str, request_id: str = "") -> EventSignal:
    """Return the cancellation of an event of which nothing else could be read."""
    return EventSignal(
        source=source,
        external_id=external_id,
        modification_number=number,
        program="",
        kind=SignalKind.LEVEL,
        intervals=(),
        cancelled=True,
        request_id=request_id,
    )


def _signal(event: GridEvent, source: str, program: str, request_id: str) -> EventSignal:
    if len(event.event_id) > MAX_ID_LENGTH or event.modification_number > MAX_MODIFICATION:
        raise _Refused(INVALID_DATA, "the event's id or modification number is out of range")
    if event.start_tolerance < timedelta(0):
        raise _Refused(INVALID_DATA, "the tolerance of the start is negative")
    kind, chosen, sense = _choose(event.series)
    return EventSignal(
        source=source,
        external_id=event.event_id,
        modification_number=event.modification_number,
        program=program,
        kind=kind,
        intervals=_intervals(chosen, kind, sense),
        start_tolerance_s=event.start_tolerance.total_seconds(),
        cancelled=event.cancelled,
        is_test=event.is_test,
        request_id=request_id,
    )


def _choose(series: tuple[Series, ...]) -> tuple[SignalKind, Series, Sense]:
    reasons = []
    for each in series:
        sense = _DISPATCH.get(each.type)
        if sense is not None and each.unit == "KW":
            return SignalKind.POWER_KW, each, sense
        if sense is not None:
            unit = f"unit {each.unit}" if each.unit else "no unit"
            reasons.append(f"{each.name} with {unit}; we understand real power in W, kW and MW")
    for each in series:
        if each.type is SeriesType.SIMPLE:
            return SignalKind.LEVEL, each, float
    offered = ", ".join(each.name for each in series) or "none"
    raise _Refused(
        SIGNAL_NOT_SUPPORTED,
        "; ".join(reasons) or f"signals {offered}; we understand SIMPLE levels and LOAD_DISPATCH setpoint or delta",
    )


def chosen_series(series: tuple[Series, ...]) -> Series | None:
    """Return the series whose power counts, None where no series states power we understand."""
    try:
        return _choose(series)[1]
    except _Refused:
        return None


def _intervals(series: Series, kind: SignalKind, sense: Sense) -> tuple[SignalInterval, ...]:
    if not series.intervals:
        raise _Refused(INVALID_DATA, "the signal has no interval")
    return tuple(SignalInterval(_stretch(part), _value(part, kind, sense)) for part in series.intervals)


def _stretch(part: SeriesInterval) -> Interval:
    if part.duration is None or part.duration <= timedelta(0):
        raise _Refused(INVALID_DATA, "an interval without an end: we take on no open-ended event")
    try:
        return Interval(part.start_at, part.start_at + part.duration)
    except OverflowError as error:
        raise _Refused(INVALID_DATA, f"an interval that begins at {part.start_at.isoformat()}") from error


def _value(part: SeriesInterval, kind: SignalKind, sense: Sense) -> float:
    stated = part.values[0] if len(part.values) == 1 else None
    if isinstance(stated, bool) or not isinstance(stated, int | float):
        raise _Refused(INVALID_DATA, f"interval {part.uid} has {len(part.values)} values; we expect one number")
    if abs(stated) >= MAX_POWER_KW:  # an int may be too long to be a float
        raise _Refused(INVALID_DATA, f"interval {part.uid} has a value beyond {MAX_POWER_KW:g}")
    value = sense(float(stated))
    if kind is SignalKind.LEVEL and value not in (0, 1, 2, 3):
        raise _Refused(INVALID_DATA, f"level {value:g}; a SIMPLE level is 0, 1, 2 or 3")
    if not math.isfinite(value) or value >= MAX_POWER_KW:
        raise _Refused(INVALID_DATA, f"a power of {value:g} kW")
    if value < 0:
        raise _Refused(SIGNAL_NOT_SUPPORTED, f"{value:g} kW asks for consumption; this programme is for delivery")
    return value
