"""Room openadr2: oadrDistributeEvent and what answers it, from XML. Called by `codec.decode`.

An event whose XML is valid but whose content is not comes back with a `defect`, so that the others of the same
distribution still count.
"""

from datetime import datetime, timedelta
from typing import Any

from market.openadr2.items import Item, read_item
from market.openadr2.names import BASELINE, series_type
from market.openadr2.series_units import unit_of
from market.openadr2.targets import read_targets
from market.openadr2.values import read_duration, read_instant, read_scaled
from market.openadr2.xml_in import child, children, content, duration, each, instant, maybe, needed, text, whole
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent, Series, SeriesInterval
from vpp.domain.openadr2 import (
    INVALID_DATA,
    CreatedEvents,
    DistributedEvent,
    DistributeEvents,
    EventOpt,
    RequestEvents,
    Response,
)

_STATUS = {status.value: status for status in EventStatus}


def read_response(element: Any) -> Response:
    """Return an eiResponse."""
    return Response(
        code=int(text(element, "ei:responseCode")),
        description=text(element, "ei:responseDescription"),
        request_id=text(element, "pyld:requestID"),
    )


def request_events(message: Any) -> RequestEvents:
    """Read an oadrRequestEvent."""
    request = needed(message, "pyld:eiRequestEvent")
    limit = maybe(request, "pyld:replyLimit")
    return RequestEvents(
        request_id=text(request, "pyld:requestID"),
        ven_id=text(request, "ei:venID"),
        reply_limit=None if limit is None else int(limit),
    )


def created_events(message: Any) -> CreatedEvents:
    """Read an oadrCreatedEvent."""
    created = needed(message, "pyld:eiCreatedEvent")
    return CreatedEvents(
        response=read_response(needed(created, "ei:eiResponse")),
        ven_id=text(created, "ei:venID"),
        opts=tuple(_opt(found) for found in children(created, "ei:eventResponses/ei:eventResponse")),
    )


def _opt(element: Any) -> EventOpt:
    return EventOpt(
        event_id=text(element, "ei:qualifiedEventID/ei:eventID"),
        modification_number=whole(element, "ei:qualifiedEventID/ei:modificationNumber"),
        request_id=text(element, "pyld:requestID"),
        opt_in=text(element, "ei:optType") == "optIn",
        code=whole(element, "ei:responseCode"),
        description=text(element, "ei:responseDescription"),
    )


def distribute_events(message: Any) -> DistributeEvents:
    """Read an oadrDistributeEvent."""
    response = child(message, "ei:eiResponse")
    return DistributeEvents(
        request_id=text(message, "pyld:requestID"),
        vtn_id=text(message, "ei:vtnID"),
        events=tuple(_distributed(found) for found in children(message, "oadr:oadrEvent")),
        response=None if response is None else read_response(response),
    )


def _distributed(element: Any) -> DistributedEvent:
    event = needed(element, "ei:eiEvent")
    descriptor = needed(event, "ei:eventDescriptor")
    answer_wanted = text(element, "oadr:oadrResponseRequired") != "never"
    # "none" is in the schema and means that no event is pending; the profile uses it nowhere
    status = _STATUS.get(text(descriptor, "ei:eventStatus"), EventStatus.FAR)
    try:
        return DistributedEvent(event=_event(event, descriptor, answer_wanted), status=status)
    except InvalidRequest as error:
        readable = GridEvent(
            event_id=text(descriptor, "ei:eventID") or "?",
            modification_number=whole(descriptor, "ei:modificationNumber"),
            program=text(descriptor, "ei:eiMarketContext/emix:marketContext"),
            start_at=_EPOCH,
            duration=timedelta(0),
            series=(),
            created_at=_EPOCH,
            answer_wanted=answer_wanted,
            cancelled=status is EventStatus.CANCELLED,
        )
        return DistributedEvent(event=readable, status=status, defect=Response(INVALID_DATA, str(error)[:300]))


_EPOCH = read_instant("1970-01-01T00:00:00Z", "epoch")


def _event(event: Any, descriptor: Any, answer_wanted: bool) -> GridEvent:
    period = needed(event, "ei:eiActivePeriod/xcal:properties")
    start_at = _instant(period, "xcal:dtstart/xcal:date-time")
    lasting = duration(period, "xcal:duration/xcal:duration") or None  # zero has no end
    end_at = None if lasting is None else _add(start_at, lasting)
    priority = maybe(descriptor, "ei:priority")
    test = maybe(descriptor, "ei:testEvent")
    return GridEvent(
        event_id=text(descriptor, "ei:eventID"),
        modification_number=whole(descriptor, "ei:modificationNumber"),
        program=text(descriptor, "ei:eiMarketContext/emix:marketContext"),
        start_at=start_at,
        duration=lasting,
        series=tuple(
            _series(found, start_at, end_at) for found in children(event, "ei:eiEventSignals/ei:eiEventSignal")
        ),
        created_at=_instant(descriptor, "ei:createdDateTime"),
        modified_at=instant(descriptor, "ei:modificationDateTime"),
        modification_reason=text(descriptor, "ei:modificationReason"),
        cancelled=text(descriptor, "ei:eventStatus") == EventStatus.CANCELLED.value,
        # rule 006 of the profile: every value but "false" makes it a test
        is_test=test is not None and test.lower() != "false",
        priority=None if priority is None else int(priority),
        comment=text(descriptor, "ei:vtnComment"),
        start_tolerance=duration(period, "xcal:tolerance/xcal:tolerate/xcal:startafter") or timedelta(0),
        notification=duration(period, "ei:x-eiNotification/xcal:duration"),
        ramp_up=duration(period, "ei:x-eiRampUp/xcal:duration"),
        recovery=duration(period, "ei:x-eiRecovery/xcal:duration"),
        targets=read_targets(needed(event, "ei:eiTarget")),
        answer_wanted=answer_wanted,
        extras=_extras(event),
    )


def _instant(parent: Any, path: str) -> datetime:
    return read_instant(content(needed(parent, path)), path)


def _add(at: datetime, length: timedelta) -> datetime:
    try:
        return at + length
    except OverflowError as error:
        raise InvalidRequest("duration", str(length), "an end within the calendar") from error


def _series(signal: Any, start_at: datetime, end_at: datetime | None) -> Series:
    name, kind = text(signal, "ei:signalName"), text(signal, "ei:signalType")
    type_, item = series_type(name, kind), read_item(signal)
    unit, currency, exponent = unit_of(type_, item)
    current = maybe(signal, "ei:currentValue/ei:payloadFloat/ei:value")
    return Series(
        series_id=text(signal, "ei:signalID"),
        type=type_,
        name=f"{name}/{kind}",
        intervals=_intervals(signal, start_at, end_at, exponent),
        unit=unit,
        currency=currency,
        targets=read_targets(child(signal, "ei:eiTarget")),
        current=None if current is None else read_scaled(current, "currentValue", exponent),
    )


def _intervals(signal: Any, start_at: datetime, end_at: datetime | None, exponent: int) -> tuple[SeriesInterval, ...]:
    """Return the intervals, each from its own start or from the end of the one before.

    One that states no length lasts until the next one's own start, or to the end of the event.
    """
    parts = list(children(signal, "strm:intervals/ei:interval"))
    starts = [instant(part, "xcal:dtstart/xcal:date-time") for part in parts]
    lengths = [maybe(part, "xcal:duration/xcal:duration") for part in parts]
    intervals, at = [], start_at
    for index, part in enumerate(parts):
        at = starts[index] or at
        stated = lengths[index]
        if stated is None:
            until = starts[index + 1] if index + 1 < len(parts) else end_at
            lasting = until - at if until is not None and until > at else None
        else:
            lasting = read_duration(stated, "interval/duration") or None
        intervals.append(
            SeriesInterval(
                start_at=at, duration=lasting, values=_values(part, exponent), uid=text(part, "xcal:uid/xcal:text")
            )
        )
        at = at if lasting is None else _add(at, lasting)
    return tuple(intervals)


def _values(part: Any, exponent: int) -> tuple[float, ...]:
    texts = each(part, "ei:signalPayload/ei:payloadFloat/ei:value")
    if not texts:
        raise InvalidRequest("signalPayload", "", "a payloadFloat")
    return tuple(read_scaled(found, "payloadFloat", exponent) for found in texts)


def _extras(event: Any) -> dict[str, object]:
    """Return the baseline 2.0b can send with an event, JSON-able, or nothing."""
    found = child(event, "ei:eiEventSignals/ei:eiEventBaseline")
    if found is None:
        return {}
    item: Item | None = read_item(found)
    exponent = item.exponent if item else 0
    return {
        BASELINE: {
            "id": text(found, "ei:baselineID"),
            "name": text(found, "ei:baselineName"),
            "start": text(found, "xcal:dtstart/xcal:date-time"),
            "duration": text(found, "xcal:duration/xcal:duration"),
            "resources": list(each(found, "ei:resourceID")),
            "item": item.item if item else None,
            "unit": item.unit if item else None,
            "intervals": [
                {
                    "start": maybe(part, "xcal:dtstart/xcal:date-time"),
                    "duration": maybe(part, "xcal:duration/xcal:duration"),
                    "uid": maybe(part, "xcal:uid/xcal:text"),
                    "values": list(_values(part, exponent)),
                }
                for part in children(found, "strm:intervals/ei:interval")
            ],
        }
    }
