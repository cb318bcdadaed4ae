"""One event as any OpenADR can say it: what 2.0b and 3 both turn into, and are made from again.

Spoken between `market/openadr2` and `market/openadr3` (which know the wire) and `vpp/peering` and
`vpp/gateway` (which keep and forward it). Values stand here as the sender stated them, in kW, kWh and
shares of one, and in the sender's sense, which for both protocols is consumption; what they mean for the
fleet, with power counted toward the grid, is said in one place: `vpp/gateway/meaning.py`.
"""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval


class SeriesType(StrEnum):
    """What the values of a series are; the names are OpenADR 3's, then those only 2.0b has.

    OTHER keeps a type nobody here knows: its name stays in `Series.name`, and nothing guesses at it.
    """

    SIMPLE = "SIMPLE"
    PRICE = "PRICE"
    PRICE_ALTERNATE = "PRICE_ALTERNATE"
    EXPORT_PRICE = "EXPORT_PRICE"
    CHARGE_STATE_SETPOINT = "CHARGE_STATE_SETPOINT"
    DISPATCH_SETPOINT = "DISPATCH_SETPOINT"
    DISPATCH_SETPOINT_RELATIVE = "DISPATCH_SETPOINT_RELATIVE"
    DISPATCH_INSTRUCTION = "DISPATCH_INSTRUCTION"
    CONTROL_SETPOINT = "CONTROL_SETPOINT"
    CONTROL_LEVEL_OFFSET = "CONTROL_LEVEL_OFFSET"
    CONTROL_LEVEL_OFFSET_PERCENT = "CONTROL_LEVEL_OFFSET_PERCENT"
    GHG = "GHG"
    CURVE = "CURVE"
    OLS = "OLS"
    IMPORT_CAPACITY_SUBSCRIPTION = "IMPORT_CAPACITY_SUBSCRIPTION"
    IMPORT_CAPACITY_RESERVATION = "IMPORT_CAPACITY_RESERVATION"
    IMPORT_CAPACITY_RESERVATION_FEE = "IMPORT_CAPACITY_RESERVATION_FEE"
    IMPORT_CAPACITY_AVAILABLE = "IMPORT_CAPACITY_AVAILABLE"
    IMPORT_CAPACITY_AVAILABLE_PRICE = "IMPORT_CAPACITY_AVAILABLE_PRICE"
    EXPORT_CAPACITY_SUBSCRIPTION = "EXPORT_CAPACITY_SUBSCRIPTION"
    EXPORT_CAPACITY_RESERVATION = "EXPORT_CAPACITY_RESERVATION"
    EXPORT_CAPACITY_RESERVATION_FEE = "EXPORT_CAPACITY_RESERVATION_FEE"
    EXPORT_CAPACITY_AVAILABLE = "EXPORT_CAPACITY_AVAILABLE"
    EXPORT_CAPACITY_AVAILABLE_PRICE = "EXPORT_CAPACITY_AVAILABLE_PRICE"
    IMPORT_CAPACITY_LIMIT = "IMPORT_CAPACITY_LIMIT"
    EXPORT_CAPACITY_LIMIT = "EXPORT_CAPACITY_LIMIT"
    ALERT_GRID_EMERGENCY = "ALERT_GRID_EMERGENCY"
    ALERT_BLACK_START = "ALERT_BLACK_START"
    ALERT_POSSIBLE_OUTAGE = "ALERT_POSSIBLE_OUTAGE"
    ALERT_FLEX_ALERT = "ALERT_FLEX_ALERT"
    ALERT_FIRE = "ALERT_FIRE"
    ALERT_FREEZING = "ALERT_FREEZING"
    ALERT_WIND = "ALERT_WIND"
    ALERT_TSUNAMI = "ALERT_TSUNAMI"
    ALERT_AIR_QUALITY = "ALERT_AIR_QUALITY"
    ALERT_OTHER = "ALERT_OTHER"
    CTA2045_REBOOT = "CTA2045_REBOOT"
    CTA2045_SET_OVERRIDE_STATUS = "CTA2045_SET_OVERRIDE_STATUS"
    PRICE_RELATIVE = "PRICE_RELATIVE"
    PRICE_MULTIPLIER = "PRICE_MULTIPLIER"
    DEMAND_CHARGE = "DEMAND_CHARGE"
    DISPATCH_MULTIPLIER = "DISPATCH_MULTIPLIER"
    DISPATCH_LEVEL = "DISPATCH_LEVEL"
    CONTROL_CAPACITY = "CONTROL_CAPACITY"
    CHARGE_STATE_DELTA = "CHARGE_STATE_DELTA"
    CHARGE_STATE_MULTIPLIER = "CHARGE_STATE_MULTIPLIER"
    BID_PRICE = "BID_PRICE"
    BID_LOAD = "BID_LOAD"
    BID_ENERGY = "BID_ENERGY"
    OTHER = "OTHER"


class TargetKind(StrEnum):
    """Whom an event is for; OTHER keeps a kind nobody here knows, with its name in `Target.label`."""

    VEN = "ven"
    GROUP = "group"
    RESOURCE = "resource"
    PARTY = "party"
    OTHER = "other"


class EventStatus(StrEnum):
    """Where an event stands; the names are those of OpenADR 2.0b."""

    FAR = "far"
    NEAR = "near"
    ACTIVE = "active"
    COMPLETED = "completed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, order=True)
class Target:
    """One addressee: a VEN's id, a group's, resource's or party's name."""

    kind: TargetKind
    value: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a curve, in the units its programme defines."""

    x: float
    y: float


Value = float | int | str | bool | Point


@dataclass(frozen=True, slots=True, kw_only=True)
class SeriesInterval:
    """The values of one series from an instant on; `duration` is None where it has no end.

    `uid` is the number or text the sender gave this interval.
    """

    start_at: datetime
    duration: timedelta | None
    values: tuple[Value, ...]
    uid: str = ""

    @property
    def interval(self) -> Interval | None:
        """The stretch of time, or None where it has no end or no length."""
        return Interval(self.start_at, self.start_at + self.duration) if self.duration else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """One signal: values of one type over time.

    Attributes:
        name: the type as the sender wrote it: `LOAD_DISPATCH/setpoint` in 2.0b, `DISPATCH_SETPOINT` in 3.
        unit: OpenADR 3's word for it (KW, KWH, PERCENT as a share of one, …), None where none was given.
        currency: ISO 4217, for prices.
        current: 2.0b's current value, if stated.
    """

    series_id: str
    type: SeriesType
    name: str
    intervals: tuple[SeriesInterval, ...]
    unit: str | None = None
    currency: str | None = None
    targets: tuple[Target, ...] = ()
    current: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GridEvent:
    """One version of one event.

    Attributes:
        event_id: the sender's id; stays the text it was.
        modification_number: 0 at first, one more with every change.
        program: market context in 2.0b, programme's id in 3.
        duration: None where the event has no end.
        start_tolerance: the start is put off by a random time up to this (startafter, randomizeStart).
        notification: how long before the start the receiver is told it is near.
        ramp_up, recovery: time to get there before the start, and back after the end.
        priority: 1 is highest, 0 or None is none, as in 2.0b; 3 counts 0 highest.
        comment: a sentence for people (vtnComment; eventName in 3).
        reports_wanted: report types asked for with the event (3's reportDescriptors), by payload type.
        extras: what only one protocol can say, by that protocol's own name of it; forwarded there unchanged.
    """

    event_id: str
    modification_number: int
    program: str
    start_at: datetime
    duration: timedelta | None
    series: tuple[Series, ...]
    created_at: datetime
    modified_at: datetime | None = None
    modification_reason: str = ""
    cancelled: bool = False
    is_test: bool = False
    priority: int | None = None
    comment: str = ""
    start_tolerance: timedelta = timedelta(0)
    notification: timedelta | None = None
    ramp_up: timedelta | None = None
    recovery: timedelta | None = None
    targets: tuple[Target, ...] = ()
    answer_wanted: bool = True
    reports_wanted: tuple[str, ...] = ()
    extras: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.event_id:
            raise InvalidRequest("event_id", self.event_id, "a text")
        if self.modification_number < 0:
            raise InvalidRequest("modification_number", self.modification_number, "0 or more")
        if self.duration is not None and self.duration < timedelta(0):
            raise InvalidRequest("duration", str(self.duration), "no less than nothing")

    @property
    def end_at(self) -> datetime | None:
        """When it ends, or None where it has no end."""
        return None if self.duration is None else self.start_at + self.duration

    def status_at(self, at: datetime) -> EventStatus:
        """Where it stands at an instant (2.0b profile, event states: near begins with ramp-up, where there is one)."""
        if self.cancelled:
            return EventStatus.CANCELLED
        end_at = self.end_at
        if end_at is not None and at >= end_at:
            return EventStatus.COMPLETED
        if at >= self.start_at:
            return EventStatus.ACTIVE
        return EventStatus.NEAR if self.ramp_up and at >= self.start_at - self.ramp_up else EventStatus.FAR


@dataclass(frozen=True, slots=True)
class Unsaid:
    """Something of an event that the protocol it is forwarded in has no words for."""

    field: str
    value: str
    why: str
