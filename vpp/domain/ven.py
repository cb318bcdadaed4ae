"""What a VEN makes of its utility's messages, free of any wire format. Spoken within `vpp/gateway`."""

from dataclasses import dataclass
from datetime import datetime

from vpp.domain.grid_event import GridEvent
from vpp.domain.openadr2 import Openadr2Message
from vpp.domain.signal import EventSignal


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
    `event` is what the utility stated, for those to whom it is passed on; `program` is ours, None where the event
    is not for us.
    """

    external_id: str
    modification_number: int
    request_id: str
    answer_wanted: bool
    signal: EventSignal | None = None
    refusal: Refusal | None = None
    completed: bool = False
    event: GridEvent | None = None
    program: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class EventAnswer:
    """Our optIn or optOut to one version of one event."""

    external_id: str
    modification_number: int
    request_id: str
    opt_in: bool
    code: int = 200
    reason: str = "OK"
