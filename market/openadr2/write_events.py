"""Room openadr2: oadrDistributeEvent and what answers it, to XML. Called by `codec.encode` and `templates`."""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from market.openadr2.items import Item, write_item
from market.openadr2.names import BASELINE, signal_of
from market.openadr2.series_units import item_of
from market.openadr2.targets import write_targets
from market.openadr2.values import number_text, read_duration, read_instant, read_scaled
from market.openadr2.xml_out import bare_length, each, element, instant, length, maybe, message, start, text
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import GridEvent, Series, SeriesInterval, Target
from vpp.domain.openadr2 import CreatedEvents, DistributedEvent, DistributeEvents, EventOpt, RequestEvents, Response

_NO_LENGTH = timedelta(0)


def write_response(response: Response) -> str:
    """Return an eiResponse.

    Raises:
        InvalidRequest: its code is not of three digits.
    """
    if not 0 <= response.code <= 999:
        raise InvalidRequest("code", response.code, "a response code of three digits")
    return element(
        "ei:eiResponse",
        text("ei:responseCode", f"{response.code:03d}"),
        text("ei:responseDescription", response.description),
        text("pyld:requestID", response.request_id),
    )


def request_events(request: RequestEvents) -> str:
    """Write an oadrRequestEvent."""
    inner = element(
        "pyld:eiRequestEvent",
        text("pyld:requestID", request.request_id),
        text("ei:venID", request.ven_id),
        maybe("pyld:replyLimit", request.reply_limit),
    )
    return message("oadrRequestEvent", inner)


def created_events(created: CreatedEvents) -> str:
    """Write an oadrCreatedEvent."""
    opts = element("ei:eventResponses", *(_opt(opt) for opt in created.opts)) if created.opts else ""
    inner = element("pyld:eiCreatedEvent", write_response(created.response), opts, text("ei:venID", created.ven_id))
    return message("oadrCreatedEvent", inner)


def _opt(opt: EventOpt) -> str:
    return element(
        "ei:eventResponse",
        text("ei:responseCode", f"{opt.code:03d}"),
        text("ei:responseDescription", opt.description),
        text("pyld:requestID", opt.request_id),
        qualified_id(opt.event_id, opt.modification_number),
        text("ei:optType", "optIn" if opt.opt_in else "optOut"),
    )


def qualified_id(event_id: str, modification_number: int) -> str:
    """Return a qualifiedEventID."""
    return element(
        "ei:qualifiedEventID",
        text("ei:eventID", event_id),
        text("ei:modificationNumber", modification_number),
    )


def distribute_events(distribution: DistributeEvents) -> str:
    """Write an oadrDistributeEvent."""
    return distribution_around(
        "".join(write_event(event) for event in distribution.events),
        request_id=distribution.request_id,
        vtn_id=distribution.vtn_id,
        response=distribution.response,
    )


def distribution_around(events: str, *, request_id: str, vtn_id: str, response: Response | None) -> str:
    """Return an oadrDistributeEvent around events that are already XML."""
    return message(
        "oadrDistributeEvent",
        "" if response is None else write_response(response),
        text("pyld:requestID", request_id),
        text("ei:vtnID", vtn_id),
        events,
    )


def _can_be_said(series: Series) -> bool:
    numbers = all(
        isinstance(value, int | float) and not isinstance(value, bool)
        for interval in series.intervals
        for value in interval.values
    )
    filled = bool(series.intervals) and all(interval.values for interval in series.intervals)
    return numbers and filled and signal_of(series.type, series.name) is not None


def write_event(distributed: DistributedEvent, targets: tuple[Target, ...] | None = None) -> str:
    """Return an oadrEvent, for other targets than its own where they are given here or with its distribution.

    Raises:
        InvalidRequest: nothing of the event can be said in 2.0b.
    """
    event = distributed.event
    told = distributed.targets if targets is None else targets
    series = [one for one in event.series if _can_be_said(one)]
    if not series:
        raise InvalidRequest("series", [one.name for one in event.series], "at least one signal 2.0b has words for")
    inner = element(
        "ei:eiEvent",
        _descriptor(distributed),
        _active_period(event),
        element("ei:eiEventSignals", *(_signal(one, event.start_at) for one in series), _baseline(event)),
        write_targets("ei:eiTarget", event.targets if told is None else told),
    )
    wanted = text("oadr:oadrResponseRequired", "always" if event.answer_wanted else "never")
    return element("oadr:oadrEvent", inner, wanted)


def _descriptor(distributed: DistributedEvent) -> str:
    event = distributed.event
    return element(
        "ei:eventDescriptor",
        text("ei:eventID", event.event_id),
        text("ei:modificationNumber", event.modification_number),
        "" if event.modified_at is None else instant("ei:modificationDateTime", event.modified_at),
        maybe("ei:modificationReason", event.modification_reason or None),
        maybe("ei:priority", event.priority),
        element("ei:eiMarketContext", text("emix:marketContext", event.program)),
        instant("ei:createdDateTime", event.created_at),
        text("ei:eventStatus", distributed.status.value),
        text("ei:testEvent", "true" if event.is_test else "false"),
        maybe("ei:vtnComment", event.comment or None),
    )


def _active_period(event: GridEvent) -> str:
    tolerance = ""
    if event.start_tolerance:
        startafter = bare_length("xcal:startafter", event.start_tolerance)
        tolerance = element("xcal:tolerance", element("xcal:tolerate", startafter))
    properties = element(
        "xcal:properties",
        start(event.start_at),
        length("xcal:duration", event.duration or _NO_LENGTH),
        tolerance,
        length("ei:x-eiNotification", event.notification),
        length("ei:x-eiRampUp", event.ramp_up),
        length("ei:x-eiRecovery", event.recovery),
    )
    return element("ei:eiActivePeriod", properties, element("xcal:components"))


def _signal(series: Series, start_at: datetime) -> str:
    signal = signal_of(series.type, series.name)
    assert signal is not None  # _can_be_said  # noqa: S101
    item, exponent = item_of(series)
    return element(
        "ei:eiEventSignal",
        element("strm:intervals", *_intervals(series.intervals, start_at, exponent)),
        write_targets("ei:eiTarget", series.targets) if series.targets else "",
        text("ei:signalName", signal[0]),
        text("ei:signalType", signal[1]),
        text("ei:signalID", series.series_id),
        "" if item is None else write_item(item),
        "" if series.current is None else element("ei:currentValue", _payload(series.current, exponent)),
    )


def _intervals(intervals: tuple[SeriesInterval, ...], at: datetime, exponent: int) -> list[str]:
    parts = []
    for index, interval in enumerate(intervals):
        lasting = interval.duration or _NO_LENGTH
        parts.append(
            element(
                "ei:interval",
                "" if interval.start_at == at else start(interval.start_at),
                length("xcal:duration", lasting),
                element("xcal:uid", text("xcal:text", interval.uid or str(index))),
                *(element("ei:signalPayload", _payload(value, exponent)) for value in interval.values),
            )
        )
        at = interval.start_at + lasting
    return parts


def _payload(value: Any, exponent: int) -> str:
    number = number_text(value)
    shifted = number_text(read_scaled(number, "value", exponent)) if exponent else number
    return element("ei:payloadFloat", f"<ei:value>{shifted}</ei:value>")


def _baseline(event: GridEvent) -> str:
    found = event.extras.get(BASELINE)
    if not isinstance(found, Mapping):
        return ""
    item = found.get("item")
    return element(
        "ei:eiEventBaseline",
        start(read_instant(found["start"], "baseline")),
        length("xcal:duration", read_duration(found["duration"], "baseline")),
        element("strm:intervals", *(_baseline_interval(part) for part in found["intervals"])),
        text("ei:baselineID", found["id"]),
        each("ei:resourceID", found["resources"]),
        text("ei:baselineName", found["name"]),
        write_item(Item(item=item, unit=found["unit"])) if item else "",
    )


def _baseline_interval(part: Mapping[str, Any]) -> str:
    begin, lasting = part.get("start"), part.get("duration")
    uid = part.get("uid")
    return element(
        "ei:interval",
        start(read_instant(begin, "baseline")) if begin else "",
        length("xcal:duration", read_duration(lasting, "baseline")) if lasting else "",
        "" if uid is None else element("xcal:uid", text("xcal:text", uid)),
        *(element("ei:signalPayload", _payload(value, 0)) for value in part["values"]),
    )
