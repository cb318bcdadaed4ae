"""Room openadr2: the messages of EiReport, to XML. Called by `codec.encode`."""

from collections.abc import Iterable
from datetime import timedelta

from market.openadr2.items import Item, item_for, write_item
from market.openadr2.read_reports import LEVEL_VALUES, LEVELS
from market.openadr2.targets import write_resources, write_targets
from market.openadr2.values import number_text
from market.openadr2.write_events import write_response
from market.openadr2.xml_out import bare_length, each, element, flag, instant, length, maybe, message, start, text
from vpp.domain.errors import InvalidRequest
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

_NO_LENGTH = timedelta(0)


def register_reports(register: RegisterReports) -> str:
    """Write an oadrRegisterReport."""
    return message(
        "oadrRegisterReport",
        text("pyld:requestID", register.request_id),
        *(_offer(offer) for offer in register.offers),
        maybe("ei:venID", register.ven_id),
        maybe("ei:reportRequestID", register.report_request_id),
    )


def _offer(offer: ReportOffer) -> str:
    return element(
        "oadr:oadrReport",
        length("xcal:duration", offer.duration),
        maybe("ei:eiReportID", offer.report_id or None),
        *(_point(point) for point in offer.points),
        text("ei:reportRequestID", offer.request_id),
        text("ei:reportSpecifierID", offer.specifier_id),
        maybe("ei:reportName", offer.name or None),
        instant("ei:createdDateTime", offer.created_at),
    )


def _point(point: PointOffer) -> str:
    item = _item(point)
    return element(
        "oadr:oadrReportDescription",
        text("ei:rID", point.r_id),
        write_targets("ei:reportSubject", point.subjects) if point.subjects else "",
        write_resources("ei:reportDataSource", point.resources, point.sources),
        text("ei:reportType", point.report_type),
        "" if item is None else write_item(item),
        text("ei:readingType", point.reading_type),
        maybe("emix:marketContext", point.market_context),
        _sampling(point),
    )


def _item(point: PointOffer) -> Item | None:
    if point.unit is None:
        return None
    found = item_for(point.unit, point.scale)
    return Item(
        item=point.item or found.item,
        unit=found.unit,
        scale=found.scale,
        description=point.item_description or "",
        pulse_factor=point.pulse_factor,
        frequency_hz=point.frequency_hz,
        voltage_v=point.voltage_v,
        alternating=point.is_ac,
    )


def _sampling(point: PointOffer) -> str:
    """Write how often a point is sampled: one rate stands for both where only one is known."""
    rates = [rate for rate in (point.min_sampling, point.max_sampling) if rate is not None]
    if not rates:
        return ""
    return element(
        "oadr:oadrSamplingRate",
        bare_length("oadr:oadrMinPeriod", rates[0]),
        bare_length("oadr:oadrMaxPeriod", rates[-1]),
        flag("oadr:oadrOnChange", point.on_change),
    )


def registered_reports(registered: RegisteredReports) -> str:
    """Write an oadrRegisteredReport."""
    return message(
        "oadrRegisteredReport",
        write_response(registered.response),
        *(_demand(demand) for demand in registered.demands),
        maybe("ei:venID", registered.ven_id),
    )


def create_reports(create: CreateReports) -> str:
    """Write an oadrCreateReport."""
    if not create.demands:
        raise InvalidRequest("demands", (), "at least one report asked for")
    return message(
        "oadrCreateReport",
        text("pyld:requestID", create.request_id),
        *(_demand(demand) for demand in create.demands),
        maybe("ei:venID", create.ven_id),
    )


def _demand(demand: ReportDemand) -> str:
    if not demand.points:
        raise InvalidRequest("points", (), f"at least one point of {demand.specifier_id}")
    window = ""
    if demand.start_at is not None:
        lasting = length("xcal:duration", demand.duration or _NO_LENGTH)
        window = element("ei:reportInterval", element("xcal:properties", start(demand.start_at), lasting))
    specifier = element(
        "ei:reportSpecifier",
        text("ei:reportSpecifierID", demand.specifier_id),
        length("xcal:granularity", demand.granularity),
        length("ei:reportBackDuration", demand.back),
        window,
        *(
            element("ei:specifierPayload", text("ei:rID", r_id), text("ei:readingType", reading_type))
            for r_id, reading_type in demand.points
        ),
    )
    return element("oadr:oadrReportRequest", text("ei:reportRequestID", demand.report_request_id), specifier)


def created_reports(created: CreatedReports) -> str:
    """Write an oadrCreatedReport."""
    return message(
        "oadrCreatedReport",
        write_response(created.response),
        _pending(created.pending),
        maybe("ei:venID", created.ven_id),
    )


def canceled_reports(canceled: CanceledReports) -> str:
    """Write an oadrCanceledReport."""
    return message(
        "oadrCanceledReport",
        write_response(canceled.response),
        _pending(canceled.pending),
        maybe("ei:venID", canceled.ven_id),
    )


def _pending(report_request_ids: Iterable[str]) -> str:
    return element("oadr:oadrPendingReports", each("ei:reportRequestID", report_request_ids))


def cancel_reports(cancel: CancelReports) -> str:
    """Write an oadrCancelReport."""
    if not cancel.report_request_ids:
        raise InvalidRequest("report_request_ids", (), "at least one report to cancel")
    return message(
        "oadrCancelReport",
        text("pyld:requestID", cancel.request_id),
        each("ei:reportRequestID", cancel.report_request_ids),
        flag("pyld:reportToFollow", cancel.to_follow),
        maybe("ei:venID", cancel.ven_id),
    )


def updated_reports(updated: UpdatedReports) -> str:
    """Write an oadrUpdatedReport."""
    return message(
        "oadrUpdatedReport",
        write_response(updated.response),
        "" if updated.cancel is None else cancel_reports(updated.cancel),
        maybe("ei:venID", updated.ven_id),
    )


def update_reports(update: UpdateReports) -> str:
    """Write an oadrUpdateReport."""
    return message(
        "oadrUpdateReport",
        text("pyld:requestID", update.request_id),
        *(_update(report) for report in update.updates),
        maybe("ei:venID", update.ven_id),
    )


def _update(update: ReportUpdate) -> str:
    """Write one report. Each value has an interval of its own: openleadr's VTN fails on two payloads in one."""
    intervals = "".join(
        element("ei:interval", start(value.start_at), length("xcal:duration", value.duration), _payload(value))
        for value in update.values
    )
    return element(
        "oadr:oadrReport",
        start(update.start_at),
        length("xcal:duration", update.duration),
        element("strm:intervals", intervals) if intervals else "",
        maybe("ei:eiReportID", update.report_id or None),
        text("ei:reportRequestID", update.report_request_id),
        text("ei:reportSpecifierID", update.specifier_id),
        maybe("ei:reportName", update.name or None),
        instant("ei:createdDateTime", update.created_at),
    )


def _payload(value: ReportedValue) -> str:
    measured = value.value
    return element(
        "oadr:oadrReportPayload",
        text("ei:rID", value.r_id),
        maybe("ei:confidence", value.confidence),
        "" if value.accuracy is None else text("ei:accuracy", number_text(value.accuracy)),
        _status(measured)
        if isinstance(measured, ResourceStatus)
        else element("ei:payloadFloat", text("ei:value", number_text(measured))),
        maybe("oadr:oadrDataQuality", value.quality),
    )


def _status(status: ResourceStatus) -> str:
    levels = dict(status.levels)
    parts = []
    for part, name in LEVELS.items():
        if name not in levels:  # oadrCurrent must be there
            continue
        leaves = ((leaf, levels.get(name + suffix)) for leaf, suffix in LEVEL_VALUES.items())
        found = (text(f"oadr:{leaf}", number_text(value)) for leaf, value in leaves if value is not None)
        parts.append(element(f"oadr:{part}", *found))
    return element(
        "oadr:oadrPayloadResourceStatus",
        flag("oadr:oadrOnline", status.online),
        flag("oadr:oadrManualOverride", status.overridden),
        element("oadr:oadrLoadControlState", *parts) if parts else "",
    )
