"""What is said to a device and what it says back: capabilities, readings, commands, receipts."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from vpp.domain.errors import InvalidRequest


class ControlKind(StrEnum):
    """How a device can be steered."""

    SETPOINT_KW = "setpoint_kw"
    MODE = "mode"


class Fallback(StrEnum):
    """What ends a command if we fall silent."""

    DEVICE_TIMER = "device_timer"
    EVENT_END = "event_end"
    HEARTBEAT = "heartbeat"
    NONE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What an adapter can do with one device, as probed.

    Attributes:
        control: how it is steered. MODE devices discharge at a power of their own choice.
        readback: a command can be read back.
        fallback: what ends a command if we fall silent.
        max_lease_s: longest time a command may stand without a word from us [s].
        commands_per_day: how many commands a day the vendor allows; None means no stated limit.
        min_read_interval_s: the vendor's limit on reading [s].
    """

    control: ControlKind
    readback: bool
    fallback: Fallback
    max_lease_s: float
    commands_per_day: int | None = None
    min_read_interval_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One reading of a site's battery and meter. None means the device did not say.

    Attributes:
        device_id: our number of the device.
        measured_at: by the device's clock where it has one, else when the answer arrived.
        received_at: when the answer arrived here.
        battery_kw: battery power at AC terminals, discharge positive [kW].
        grid_kw: power at the grid connection, export positive [kW].
        soc: state of charge, 0-1, of usable energy.
        discharged_kwh_register, charged_kwh_register: the battery sub-meter's cumulated energy [kWh].
        islanded: the site is cut off from the grid.
        controllable: no other controller (storm mode, grid services, service lock) holds it.
    """

    device_id: int
    measured_at: datetime
    received_at: datetime
    battery_kw: float | None = None
    grid_kw: float | None = None
    soc: float | None = None
    discharged_kwh_register: float | None = None
    charged_kwh_register: float | None = None
    islanded: bool = False
    controllable: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An order to one site. `expires_at` is mandatory: no battery is commanded without an end.

    `power_kw` is the battery power wanted, discharge positive; a MODE device discharges at its own
    power if it is above zero and idles at zero.
    `reserve_soc` is the owner's floor, which the device must keep as well as we do.
    """

    id: UUID
    site_id: str
    power_kw: float
    reserve_soc: float
    not_before: datetime
    expires_at: datetime

    def __post_init__(self) -> None:
        if self.expires_at <= self.not_before:
            raise InvalidRequest("expires_at", self.expires_at.isoformat(), f"after {self.not_before.isoformat()}")


class ReceiptState(StrEnum):
    """How far a command is known to have come."""

    PLANNED = "planned"
    SENT = "sent"
    ACKED = "acked"
    READBACK_OK = "readback_ok"
    EFFECTIVE = "effective"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What became of a command or a release. `reason` says why where it is FAILED or UNKNOWN."""

    command_id: UUID | None
    state: ReceiptState
    at: datetime
    reason: str = ""
    retryable: bool = False
    seen: dict[str, Any] = field(default_factory=dict)
