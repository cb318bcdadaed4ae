"""Room openadr2: an OpenADR 2.0b event as our signal. The one place where its units and signs turn.

Called by `messages`. Takes lxml elements that are valid against the schema; every identifier stays the
text it was (the library's own reader turns event id "007" into 7 and fails on "1.2.3").

What an event may say here:
* SIMPLE / level: 0 to 3; the programme says how many kW a level is.
* LOAD_DISPATCH / setpoint, powerReal: the power to deliver at the grid connection. OpenADR leaves the
  sign to the programme; ours count delivery toward the grid as positive, as everywhere inside.
* LOAD_DISPATCH / delta, powerReal: the change of consumption; -500 kW of consumption is 500 kW
  delivered, so the sign turns.
Of several signals the first LOAD_DISPATCH we understand counts, else the first SIMPLE. Any other
event gets a refusal with OpenADR's code (profile 2.0b, table of response codes), never an exception.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta

from market.openadr2.patches import Element
from vpp.domain.errors import InvalidRequest
from vpp.domain.signal import EventSignal, SignalInterval, SignalKind
from vpp.domain.time import Interval, as_utc
from vpp.domain.units import kw_from_mw, kw_from_w
from vpp.domain.ven import EventNotice, Refusal

NAMESPACES = {
    "oadr": "http://openadr.org/oadr-2.0b/2012/07",
    "ei": "http://docs.oasis-open.org/ns/energyinterop/201110",
    "pyld": "http://docs.oasis-open.org/ns/energyinterop/201110/payloads",
    "emix": "http://docs.oasis-open.org/ns/emix/2011/06",
    "power": "http://docs.oasis-open.org/ns/emix/2011/06/power",
    "scale": "http://docs.oasis-open.org/ns/emix/2011/06/siscale",
    "xcal": "urn:ietf:params:xml:ns:icalendar-2.0",
    "strm": "urn:ietf:params:xml:ns:icalendar-2.0:stream",
}

NOT_RECOGNIZED, INVALID_DATA, SIGNAL_NOT_SUPPORTED, TARGET_MISMATCH = 453, 454, 460, 462
MAX_POWER_KW = 1e7
MAX_ID_LENGTH = 256
MAX_MODIFICATION = 2**31 - 1

_KW_OF: dict[str, Callable[[float], float]] = {"none": kw_from_w, "k": float, "M": kw_from_mw}
_DURATION = re.compile(
    r"([+-])?P?(?:(\d{1,6})W)?(?:(\d{1,6})D)?(?:T?(?:(\d{1,7})H)?(?:(\d{1,8})M)?(?:(\d{1,9})S)?)?", re.ASCII
)


class _Refused(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.refusal = Refusal(code, reason)


def text_of(element: Element, path: str) -> str:
    """Return the stripped text at a path of prefixed names; empty where there is none."""
    return (element.findtext(path, namespaces=NAMESPACES) or "").strip()


def duration_of(text: str) -> timedelta:
    """Return an iCalendar duration. Years and months are refused: nobody knows how long they are.

    Raises:
        InvalidRequest: not a duration in weeks, days, hours, minutes and seconds.
    """
    found = _DURATION.fullmatch(text)
    if not found or not any(found.groups()[1:]) or re.search(r"P\d+M", text):
        raise InvalidRequest("duration", text, "weeks, days, hours, minutes or seconds, as PT15M")
    weeks, days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:])
    length = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
    return -length if found[1] == "-" else length


def instant_of(text: str) -> datetime:
    """Return an instant; the schema allows no zone but Z.

    Raises:
        InvalidRequest: not an instant, or without a zone.
    """
    try:
        return as_utc(datetime.fromisoformat(text))
    except ValueError as error:
        raise InvalidRequest("date-time", text, "an instant in UTC, as 2026-08-19T16:00:00Z") from error


def read_event(
    event: Element, *, request_id: str, source: str, program_of: Mapping[str, str], ven_id: str
) -> EventNotice:
    """Turn one oadrEvent into a notice: a signal, a refusal, or completed.

    `program_of` maps a market context to a programme's name. A cancelled event whose signals we could
    not read is still a cancellation.
    """
    descriptor = event.find("ei:eiEvent/ei:eventDescriptor", NAMESPACES)
    external_id = text_of(descriptor, "ei:eventID")
    number = int(text_of(descriptor, "ei:modificationNumber"))
    status = text_of(descriptor, "ei:eventStatus")
    signal: EventSignal | None = None
    refusal: Refusal | None = None
    try:
        signal = _signal(event.find("ei:eiEvent", NAMESPACES), descriptor, source, program_of, ven_id, request_id)
    except _Refused as error:
        refusal = error.refusal
    except (InvalidRequest, OverflowError, ValueError) as error:
        refusal = Refusal(INVALID_DATA, str(error))
    if refusal is not None and status == "cancelled" and number <= MAX_MODIFICATION:
        refusal, signal = None, withdrawn(external_id, number, source=source, request_id=request_id)
    completed = status in ("completed", "none")
    return EventNotice(
        external_id=external_id,
        modification_number=number,
        request_id=request_id,
        answer_wanted=text_of(event, "oadr:oadrResponseRequired") != "never",
        signal=None if completed else signal,
        refusal=None if completed else refusal,
        completed=completed,
    )


def withdrawn(external_id: str, number: int, *, source: str, request_id: str) -> EventSignal:
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


def _signal(
    event: Element, descriptor: Element, source: str, program_of: Mapping[str, str], ven_id: str, request_id: str
) -> EventSignal:
    external_id = text_of(descriptor, "ei:eventID")
    number = int(text_of(descriptor, "ei:modificationNumber"))
    if not external_id or len(external_id) > MAX_ID_LENGTH or number > MAX_MODIFICATION:
        raise _Refused(INVALID_DATA, "the event's id or modification number is out of range")
    context = text_of(descriptor, "ei:eiMarketContext/emix:marketContext")
    if context not in program_of:
        raise _Refused(NOT_RECOGNIZED, f"market context {context!r} is none of our programmes")
    aimed_at = {(e.text or "").strip() for e in event.findall("ei:eiTarget/ei:venID", NAMESPACES)}
    if aimed_at and ven_id not in aimed_at:
        raise _Refused(TARGET_MISMATCH, f"the event is aimed at {', '.join(sorted(aimed_at))}, not at {ven_id}")
    period = event.find("ei:eiActivePeriod/xcal:properties", NAMESPACES)
    tolerance = text_of(period, "xcal:tolerance/xcal:tolerate/xcal:startafter")
    tolerance_s = duration_of(tolerance).total_seconds() if tolerance else 0.0
    if tolerance_s < 0:
        raise _Refused(INVALID_DATA, "the tolerance of the start is negative")
    kind, chosen, in_kw = _choose(event)
    return EventSignal(
        source=source,
        external_id=external_id,
        modification_number=number,
        program=program_of[context],
        kind=kind,
        intervals=_intervals(chosen, instant_of(text_of(period, "xcal:dtstart/xcal:date-time")), kind, in_kw),
        start_tolerance_s=tolerance_s,
        cancelled=text_of(descriptor, "ei:eventStatus") == "cancelled",
        # rule 006 of the profile: everything but "false" makes it a test
        is_test=text_of(descriptor, "ei:testEvent").lower() not in ("", "false"),
        request_id=request_id,
    )


def _choose(event: Element) -> tuple[SignalKind, Element, Callable[[float], float]]:
    signals = event.findall("ei:eiEventSignals/ei:eiEventSignal", NAMESPACES)
    named = [(text_of(s, "ei:signalName").upper(), text_of(s, "ei:signalType"), s) for s in signals]
    reasons = []
    for name, kind, signal in named:
        if name == "LOAD_DISPATCH":
            try:
                return SignalKind.POWER_KW, signal, _to_kw(signal, kind)
            except _Refused as refused:
                reasons.append(refused.refusal.reason)
    for name, kind, signal in named:
        if name == "SIMPLE" and kind == "level":
            return SignalKind.LEVEL, signal, float
    offered = ", ".join(f"{name} {kind}" for name, kind, _ in named) or "none"
    raise _Refused(
        SIGNAL_NOT_SUPPORTED,
        "; ".join(reasons) or f"signals {offered}; we understand SIMPLE level and LOAD_DISPATCH setpoint or delta",
    )


def _to_kw(signal: Element, kind: str) -> Callable[[float], float]:
    if kind not in ("setpoint", "delta"):
        raise _Refused(SIGNAL_NOT_SUPPORTED, f"LOAD_DISPATCH {kind}; we understand setpoint and delta")
    unit = signal.find("power:powerReal", NAMESPACES)
    if unit is None:
        raise _Refused(SIGNAL_NOT_SUPPORTED, "LOAD_DISPATCH without powerReal: its unit is unknown")
    code = text_of(unit, "scale:siScaleCode")
    if code not in _KW_OF:
        raise _Refused(SIGNAL_NOT_SUPPORTED, f"scale code {code!r} of powerReal; we understand none, k and M")
    in_kw, sign = _KW_OF[code], -1.0 if kind == "delta" else 1.0
    return lambda value: sign * in_kw(value) + 0.0  # adding zero turns -0.0 into 0.0


def _intervals(
    signal: Element, start_at: datetime, kind: SignalKind, in_kw: Callable[[float], float]
) -> tuple[SignalInterval, ...]:
    intervals = []
    for part in signal.findall("strm:intervals/ei:interval", NAMESPACES):
        own_start = text_of(part, "xcal:dtstart/xcal:date-time")
        begin_at = instant_of(own_start) if own_start else start_at
        length = duration_of(text_of(part, "xcal:duration/xcal:duration"))
        if length <= timedelta(0):
            raise _Refused(INVALID_DATA, "an interval without an end: we take on no open-ended event")
        value = in_kw(float(text_of(part, "ei:signalPayload/ei:payloadFloat/ei:value")))
        _check(value, kind)
        start_at = begin_at + length
        intervals.append(SignalInterval(Interval(begin_at.astimezone(UTC), start_at), value))
    if not intervals:
        raise _Refused(INVALID_DATA, "the signal has no interval")
    return tuple(intervals)


def _check(value: float, kind: SignalKind) -> None:
    if kind is SignalKind.LEVEL and value not in (0, 1, 2, 3):
        raise _Refused(INVALID_DATA, f"level {value:g}; a SIMPLE level is 0, 1, 2 or 3")
    if not math.isfinite(value) or value >= MAX_POWER_KW:
        raise _Refused(INVALID_DATA, f"a power of {value:g} kW")
    if value < 0:
        raise _Refused(SIGNAL_NOT_SUPPORTED, f"{value:g} kW asks for consumption; this programme is for delivery")
