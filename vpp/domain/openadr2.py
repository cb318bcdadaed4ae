"""The messages of OpenADR 2.0b as values, free of XML; the same for both ends.

`market/openadr2` reads them from XML and writes them to it; `vpp/gateway` acts on them. Names and order
follow the profile specification 2.0b, section 8 (services). Durations are `timedelta`, `None` where the
message leaves them out; identifiers stay the text they were.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta

from vpp.domain.grid_event import EventStatus, GridEvent, Target
from vpp.domain.time import Interval


@dataclass(frozen=True, slots=True)
class Response:
    """An eiResponse: 200 is success, 4xx and 5xx are OpenADR's own codes."""

    code: int = 200
    description: str = "OK"
    request_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class QueryRegistration:
    request_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateRegistration:
    """A VEN asks to be registered, or registers again where it names its ids."""

    request_id: str
    profile: str = "2.0b"
    transport: str = "simpleHttp"
    transport_address: str | None = None
    report_only: bool = False
    xml_signature: bool = False
    ven_name: str = ""
    http_pull: bool = True
    ven_id: str | None = None
    registration_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedRegistration:
    """The VTN's answer to a query (no ids) or a registration.

    `service_info` and `extensions` are (service or extension, key, value).
    """

    response: Response
    vtn_id: str
    profiles: tuple[str, ...] = ("2.0b",)
    transports: tuple[str, ...] = ("simpleHttp",)
    ven_id: str | None = None
    registration_id: str | None = None
    poll: timedelta | None = None
    service_info: tuple[tuple[str, str, str], ...] = ()
    extensions: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestReregistration:
    ven_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelRegistration:
    request_id: str
    registration_id: str
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanceledRegistration:
    response: Response
    registration_id: str
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestEvents:
    request_id: str
    ven_id: str
    reply_limit: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributedEvent:
    """One event of a distribution, with the status the VTN gives it.

    `defect` says why the event cannot be considered, as an OpenADR code with a sentence, where its XML
    is valid and its content is not; `event` then holds what could be read. `targets`, where it is set,
    is told instead of the event's own: whom of these the receiver stands for.
    """

    event: GridEvent
    status: EventStatus
    defect: Response | None = None
    targets: tuple[Target, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DistributeEvents:
    """Every event the VTN has for a VEN: one that is missing has been withdrawn (implied cancellation)."""

    request_id: str
    vtn_id: str
    events: tuple[DistributedEvent, ...]
    response: Response | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventOpt:
    """A VEN's optIn or optOut to one version of one event."""

    event_id: str
    modification_number: int
    request_id: str
    opt_in: bool
    code: int = 200
    description: str = "OK"


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedEvents:
    response: Response
    ven_id: str
    opts: tuple[EventOpt, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PointOffer:
    """One point of an offered report.

    `unit` is the item's unit with its SI prefix (`kW`, `kWh`, `V`, …), None for a status.
    `scale` is the siScaleCode; values of the report are in prefix and unit together. `item` is the item
    base's name (`powerReal`); without it the unit decides. `resources` are those of the data source,
    `sources` its other parts, `subjects` what is reported on. The rest is what only some items have.
    """

    r_id: str
    report_type: str
    reading_type: str
    unit: str | None = None
    scale: str = "none"
    item: str | None = None
    min_sampling: timedelta | None = None
    max_sampling: timedelta | None = None
    on_change: bool = False
    market_context: str | None = None
    resources: tuple[str, ...] = ()
    subjects: tuple[Target, ...] = ()
    sources: tuple[Target, ...] = ()
    item_description: str | None = None
    pulse_factor: float | None = None
    frequency_hz: float | None = None
    voltage_v: float | None = None
    is_ac: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOffer:
    """A report a party can send (METADATA_TELEMETRY_USAGE and its kin)."""

    specifier_id: str
    name: str
    points: tuple[PointOffer, ...]
    created_at: datetime
    duration: timedelta | None = None
    request_id: str = "0"
    report_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportDemand:
    """A report a party asks for: a value every `granularity`, sent every `back`; 0 and 0 is one value once.

    `start_at` and `duration` bound the time reported on; None or zero leaves that end open.
    """

    report_request_id: str
    specifier_id: str
    points: tuple[tuple[str, str], ...]
    granularity: timedelta
    back: timedelta
    start_at: datetime | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceStatus:
    """TELEMETRY_STATUS: is the resource online, is it overridden, and its levels by name.

    Names are `capacity`, `level_offset`, `percent_offset`, `setpoint` for what is current, and each with
    `.min`, `.max` or `.normal` after it.
    """

    online: bool
    overridden: bool
    levels: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedValue:
    r_id: str
    start_at: datetime
    duration: timedelta | None
    value: float | ResourceStatus
    confidence: int | None = None
    accuracy: float | None = None
    quality: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportUpdate:
    """Values of one report."""

    report_request_id: str
    specifier_id: str
    name: str
    created_at: datetime
    values: tuple[ReportedValue, ...]
    report_id: str = ""
    start_at: datetime | None = None
    duration: timedelta | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisterReports:
    request_id: str
    offers: tuple[ReportOffer, ...]
    ven_id: str | None = None
    report_request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredReports:
    response: Response
    demands: tuple[ReportDemand, ...] = ()
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateReports:
    request_id: str
    demands: tuple[ReportDemand, ...]
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedReports:
    response: Response
    pending: tuple[str, ...] = ()
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateReports:
    request_id: str
    updates: tuple[ReportUpdate, ...]
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelReports:
    request_id: str
    report_request_ids: tuple[str, ...]
    to_follow: bool
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdatedReports:
    response: Response
    cancel: CancelReports | None = None
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CanceledReports:
    response: Response
    pending: tuple[str, ...] = ()
    ven_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CreateOpt:
    """A VEN is (optIn) or is not (optOut) available: in windows of time, or for one event."""

    request_id: str
    opt_id: str
    ven_id: str
    opt_in: bool
    reason: str
    created_at: datetime
    market_context: str | None = None
    windows: tuple[Interval, ...] = ()
    event_id: str | None = None
    modification_number: int | None = None
    targets: tuple[Target, ...] = ()
    device_class: tuple[Target, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CreatedOpt:
    response: Response
    opt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOpt:
    request_id: str
    opt_id: str
    ven_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CanceledOpt:
    response: Response
    opt_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Poll:
    ven_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledge:
    """A plain oadrResponse."""

    response: Response
    ven_id: str | None = None


@dataclass(frozen=True, slots=True)
class Openadr2Caller:
    """Who sent a message, as far as the connection and the signature show.

    Attributes:
        fingerprint: of the certificate shown in TLS, by us or by the proxy we trust.
        signed_by: fingerprint of the certificate the message was signed with, and verified.
        address: where it came from, for logs and limits.
        called: it answers on a connection that we opened; whether it is signed was seen to there.
    """

    fingerprint: str | None = None
    signed_by: str | None = None
    address: str = ""
    called: bool = False


@dataclass(frozen=True, slots=True)
class Openadr2Party:
    """What the wire must know of a VEN: whether it signs, and is answered signed."""

    peer_id: str
    xml_signature: bool
    fingerprint: str | None


Openadr2Message = (
    QueryRegistration | CreateRegistration | CreatedRegistration | RequestReregistration
    | CancelRegistration | CanceledRegistration | RequestEvents | DistributeEvents | CreatedEvents
    | RegisterReports | RegisteredReports | CreateReports | CreatedReports | UpdateReports | UpdatedReports
    | CancelReports | CanceledReports | CreateOpt | CreatedOpt | CancelOpt | CanceledOpt | Poll | Acknowledge
)  # fmt: skip
"""Every message of the four services, OadrPoll and the plain response."""

INVALID_ID = 452
OUT_OF_SEQUENCE = 450
NOT_ALLOWED = 451
NOT_RECOGNIZED = 453
INVALID_DATA = 454
COMPLIANCE_ERROR = 459
SIGNAL_NOT_SUPPORTED = 460
REPORT_NOT_SUPPORTED = 461
TARGET_MISMATCH = 462
NOT_REGISTERED = 463
DEPLOYMENT_ERROR = 469
"""Response codes of the profile specification 2.0b, section on application error codes."""
