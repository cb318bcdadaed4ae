"""Room openadr2: the messages of EiReport, from XML. Called by `codec.decode`."""

from datetime import datetime, timedelta
from typing import Any

from market.openadr2.items import read_item
from market.openadr2.names import OADR
from market.openadr2.read_events import read_response
from market.openadr2.targets import read_targets
from market.openadr2.values import read_instant, read_number
from market.openadr2.xml_in import child, children, content, duration, each, flag, instant, maybe, needed, text
from vpp.domain.grid_event import TargetKind
from vpp.domain.openadr2 import (
    CanceledReports,
    CancelReports,
    CreatedReports,
    CreateReports,
    PointOffer,
    RegisteredReports,
    RegisterReports,
    ReportDemand,
    ReportedValue,
    ReportOffer,
    ReportUpdate,
    ResourceStatus,
    UpdatedReports,
    UpdateReports,
)

LEVELS = {
    "oadrCapacity": "capacity",
    "oadrLevelOffset": "level_offset",
    "oadrPercentOffset": "percent_offset",
    "oadrSetPoint": "setpoint",
}
"""Parts of oadrLoadControlState, and their names in `ResourceStatus.levels`."""
LEVEL_VALUES = {"oadrMin": ".min", "oadrMax": ".max", "oadrCurrent": "", "oadrNormal": ".normal"}
"""Values of each part, and what is added to its name: `capacity` is the current one, `capacity.min` the least."""


def register_reports(message: Any) -> RegisterReports:
    """Read an oadrRegisterReport."""
    return RegisterReports(
        request_id=text(message, "pyld:requestID"),
        offers=tuple(_offer(found) for found in children(message, "oadr:oadrReport")),
        ven_id=maybe(message, "ei:venID"),
        report_request_id=maybe(message, "ei:reportRequestID"),
    )


def _offer(report: Any) -> ReportOffer:
    return ReportOffer(
        specifier_id=text(report, "ei:reportSpecifierID"),
        name=text(report, "ei:reportName"),
        points=tuple(_point(found) for found in children(report, "oadr:oadrReportDescription")),
        created_at=_created_at(report),
        duration=duration(report, "xcal:duration/xcal:duration"),
        request_id=text(report, "ei:reportRequestID"),
        report_id=text(report, "ei:eiReportID"),
    )


def _created_at(report: Any) -> datetime:
    return read_instant(content(needed(report, "ei:createdDateTime")), "createdDateTime")


def _point(description: Any) -> PointOffer:
    item = read_item(description)
    sources = read_targets(child(description, "ei:reportDataSource"))
    return PointOffer(
        r_id=text(description, "ei:rID"),
        report_type=text(description, "ei:reportType"),
        reading_type=text(description, "ei:readingType"),
        unit=item.scaled_unit if item else None,
        scale=item.scale if item else "none",
        item=item.item if item else None,
        min_sampling=duration(description, "oadr:oadrSamplingRate/oadr:oadrMinPeriod"),
        max_sampling=duration(description, "oadr:oadrSamplingRate/oadr:oadrMaxPeriod"),
        on_change=flag(description, "oadr:oadrSamplingRate/oadr:oadrOnChange"),
        market_context=maybe(description, "emix:marketContext"),
        resources=tuple(target.value for target in sources if target.kind is TargetKind.RESOURCE),
        subjects=read_targets(child(description, "ei:reportSubject")),
        sources=tuple(target for target in sources if target.kind is not TargetKind.RESOURCE),
        item_description=item.description if item and item.item == "customUnit" else None,
        pulse_factor=item.pulse_factor if item else None,
        frequency_hz=item.frequency_hz if item else None,
        voltage_v=item.voltage_v if item else None,
        is_ac=item.alternating if item else None,
    )


def registered_reports(message: Any) -> RegisteredReports:
    """Read an oadrRegisteredReport."""
    return RegisteredReports(
        response=read_response(needed(message, "ei:eiResponse")),
        demands=_demands(message),
        ven_id=maybe(message, "ei:venID"),
    )


def create_reports(message: Any) -> CreateReports:
    """Read an oadrCreateReport."""
    return CreateReports(
        request_id=text(message, "pyld:requestID"), demands=_demands(message), ven_id=maybe(message, "ei:venID")
    )


def _demands(message: Any) -> tuple[ReportDemand, ...]:
    return tuple(_demand(found) for found in children(message, "oadr:oadrReportRequest"))


def _demand(element: Any) -> ReportDemand:
    specifier = needed(element, "ei:reportSpecifier")
    window = child(specifier, "ei:reportInterval/xcal:properties")
    return ReportDemand(
        report_request_id=text(element, "ei:reportRequestID"),
        specifier_id=text(specifier, "ei:reportSpecifierID"),
        points=tuple(
            (text(point, "ei:rID"), text(point, "ei:readingType"))
            for point in children(specifier, "ei:specifierPayload")
        ),
        granularity=duration(specifier, "xcal:granularity/xcal:duration") or timedelta(0),
        back=duration(specifier, "ei:reportBackDuration/xcal:duration") or timedelta(0),
        start_at=None if window is None else instant(window, "xcal:dtstart/xcal:date-time"),
        duration=None if window is None else duration(window, "xcal:duration/xcal:duration"),
    )


def created_reports(message: Any) -> CreatedReports:
    """Read an oadrCreatedReport."""
    return CreatedReports(
        response=read_response(needed(message, "ei:eiResponse")),
        pending=each(message, "oadr:oadrPendingReports/ei:reportRequestID"),
        ven_id=maybe(message, "ei:venID"),
    )


def canceled_reports(message: Any) -> CanceledReports:
    """Read an oadrCanceledReport."""
    return CanceledReports(
        response=read_response(needed(message, "ei:eiResponse")),
        pending=each(message, "oadr:oadrPendingReports/ei:reportRequestID"),
        ven_id=maybe(message, "ei:venID"),
    )


def cancel_reports(message: Any) -> CancelReports:
    """Read an oadrCancelReport."""
    return CancelReports(
        request_id=text(message, "pyld:requestID"),
        report_request_ids=each(message, "ei:reportRequestID"),
        to_follow=flag(message, "pyld:reportToFollow"),
        ven_id=maybe(message, "ei:venID"),
    )


def updated_reports(message: Any) -> UpdatedReports:
    """Read an oadrUpdatedReport."""
    cancel = child(message, "oadr:oadrCancelReport")
    return UpdatedReports(
        response=read_response(needed(message, "ei:eiResponse")),
        cancel=None if cancel is None else cancel_reports(cancel),
        ven_id=maybe(message, "ei:venID"),
    )


def update_reports(message: Any) -> UpdateReports:
    """Read an oadrUpdateReport."""
    return UpdateReports(
        request_id=text(message, "pyld:requestID"),
        updates=tuple(_update(found) for found in children(message, "oadr:oadrReport")),
        ven_id=maybe(message, "ei:venID"),
    )


def _update(report: Any) -> ReportUpdate:
    created_at = _created_at(report)
    start_at = instant(report, "xcal:dtstart/xcal:date-time")
    return ReportUpdate(
        report_request_id=text(report, "ei:reportRequestID"),
        specifier_id=text(report, "ei:reportSpecifierID"),
        name=text(report, "ei:reportName"),
        created_at=created_at,
        values=tuple(_reported(report, start_at or created_at)),
        report_id=text(report, "ei:eiReportID"),
        start_at=start_at,
        duration=duration(report, "xcal:duration/xcal:duration"),
    )


def _reported(report: Any, at: datetime) -> list[ReportedValue]:
    """Return the values of every interval; one that states no start begins where the one before ended."""
    values = []
    for interval in children(report, "strm:intervals/ei:interval"):
        at = instant(interval, "xcal:dtstart/xcal:date-time") or at
        lasting = duration(interval, "xcal:duration/xcal:duration")
        for payload in children(interval, "oadr:oadrReportPayload"):
            value = _value(payload)
            if value is not None:
                values.append(_reported_value(payload, at, lasting, value))
        at += lasting or timedelta(0)
    return values


def _reported_value(
    payload: Any, at: datetime, lasting: timedelta | None, value: float | ResourceStatus
) -> ReportedValue:
    confidence, accuracy = maybe(payload, "ei:confidence"), maybe(payload, "ei:accuracy")
    return ReportedValue(
        r_id=text(payload, "ei:rID"),
        start_at=at,
        duration=lasting,
        value=value,
        confidence=None if confidence is None else int(confidence),
        accuracy=None if accuracy is None else _measured(accuracy),
        quality=maybe(payload, "oadr:oadrDataQuality"),
    )


def _value(payload: Any) -> float | ResourceStatus | None:
    """Return the reported value; None for NaN, by which a sender says that there is none."""
    status = child(payload, "oadr:oadrPayloadResourceStatus")
    if status is None:
        return _measured(text(payload, "ei:payloadFloat/ei:value"))
    levels = tuple(
        (LEVELS[name] + suffix, value)
        for part in status.iterfind(f"{{{OADR}}}oadrLoadControlState/*")
        if (name := part.tag.rpartition("}")[2]) in LEVELS
        for leaf, suffix in LEVEL_VALUES.items()
        if (found := part.find(f"{{{OADR}}}{leaf}")) is not None and (value := _measured(content(found))) is not None
    )
    return ResourceStatus(
        online=flag(status, "oadr:oadrOnline"), overridden=flag(status, "oadr:oadrManualOverride"), levels=levels
    )


def _measured(number: str) -> float | None:
    return None if number == "NaN" else read_number(number, "value")
