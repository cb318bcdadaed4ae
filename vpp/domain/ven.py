"""What a VEN and its utility's server (VTN) say to each other, free of any wire format.

Spoken between `market/openadr2` (which turns it into XML) and `vpp/gateway` (which keeps it in SQL).
"""

from dataclasses import dataclass
from datetime import datetime

from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr2 import Openadr2Message
from vpp.domain.signal import EventSignal
from vpp.domain.time import Interval


@dataclass(frozen=True, slots=True)
class Heard:
    """What a VTN answered, None for an empty body; `told_at` is its own clock at that, where it tells it."""

    message: Openadr2Message | None
    told_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Registration:
    """Who we are to a VTN, and how often it wants to be asked [s]; None where it does not say."""

    ven_id: str
    registration_id: str
    poll_s: float | None
    vtn_id: str | None = None


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an event cannot even be considered: an OpenADR response code and a sentence."""

    code: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EventNotice:
    """One event of a distribution: a signal we understand, or the refusal it deserves.

    Exactly one of `signal` and `refusal` is set, except for a `completed` event, which has neither.
    `event` is what the utility stated, for those to whom it is passed on.
    """

    external_id: str
    modification_number: int
    request_id: str
    answer_wanted: bool
    signal: EventSignal | None = None
    refusal: Refusal | None = None
    completed: bool = False
    event: GridEvent | None = None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Every event the VTN has for us: one that is missing has been withdrawn (implied cancellation)."""

    request_id: str
    notices: tuple[EventNotice, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRequest:
    """A report the VTN wants: every `granularity_s` a value, sent every `report_back_s`.

    A granularity of 0 asks for one single value. `window` bounds the time reported on, if given.
    """

    report_request_id: str
    specifier_id: str
    point_id: str
    granularity_s: float
    report_back_s: float
    window: Interval | None = None


@dataclass(frozen=True, slots=True)
class ReportsAsked:
    """Reports the VTN asks for. `refused` are those we do not offer, with the reason."""

    request_id: str
    requests: tuple[ReportRequest, ...]
    refused: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ReportsCancelled:
    """Reports the VTN no longer wants; `to_follow` asks for what is pending to be sent still."""

    request_id: str
    report_request_ids: tuple[str, ...]
    to_follow: bool


@dataclass(frozen=True, slots=True)
class ReportsOffered:
    """Reports the VTN could send us; we ask for none."""

    request_id: str


@dataclass(frozen=True, slots=True)
class RegistrationCancelled:
    """The VTN ends the registration."""

    request_id: str
    registration_id: str


@dataclass(frozen=True, slots=True)
class NotUnderstood:
    """A message of a kind we have no use for."""

    kind: str


VenMessage = Distribution | ReportsAsked | ReportsCancelled | ReportsOffered | RegistrationCancelled | NotUnderstood


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAnswer:
    """Our optIn or optOut to one version of one event."""

    external_id: str
    modification_number: int
    request_id: str
    opt_in: bool
    code: int = 200
    reason: str = "OK"


@dataclass(frozen=True, slots=True)
class ReportedPower:
    """Mean power delivered toward the grid over an interval [kW]."""

    interval: Interval
    power_kw: float
