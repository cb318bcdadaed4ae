"""SunSpec registers to values and back; called by `adapters.sunspec` only.

Offsets count 16-bit registers from a model's first register (its ID), as in the Alliance's model
definitions 701, 702, 704, 713, 715, 802, 201-204 and 211-214. Words are big-endian. Each type has a
value that says "not implemented": it becomes None, never 0, as does a value whose scale factor is
not implemented (0x8000), since nobody can know its size.

Signs as delivered: DER power 701.W and 704.WSet are positive for generation, which is ours. Meter
power 20x.W is positive for import, which is not: `read_meter` flips it, here and nowhere else.
"""

import math
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from vpp.domain.errors import OutOfRange
from vpp.domain.units import fraction_from_percent, kw_from_w, kwh_from_wh, w_from_kw

Registers = Sequence[int]

MARKER = (0x5375, 0x6E53)
"""The two registers "SunS" that open a device's map."""

BASE_ADDRESSES = (40000, 0, 50000)
END_MODEL = 0xFFFF

DER_MEASURE = 701
DER_CAPACITY = 702
DER_CONTROL_AC = 704
DER_STORAGE = 713
DER_CONTROL = 715
BATTERY_BASE = 802
METERS_INT = (201, 202, 203, 204)
METERS_FLOAT = (211, 212, 213, 214)

DISABLED, ENABLED = 0, 1
MODE_WATTS = 1


@dataclass(frozen=True, slots=True)
class Kind:
    """A register type: its `struct` code and the raw bits that mean "not implemented"."""

    code: str
    missing: int

    @property
    def size(self) -> int:
        return struct.calcsize(">" + self.code) // 2


INT16 = Kind("h", 0x8000)
UINT16 = Kind("H", 0xFFFF)
ENUM16 = UINT16
INT32 = Kind("i", 0x8000_0000)
UINT32 = Kind("I", 0xFFFF_FFFF)
UINT64 = Kind("Q", 0xFFFF_FFFF_FFFF_FFFF)
FLOAT32 = Kind("f", 0x7FC0_0000)
SCALE = INT16


@dataclass(frozen=True, slots=True)
class Point:
    """One value of a model: offset in registers, type, and the offset of its scale factor."""

    offset: int
    kind: Kind
    scale_offset: int | None = None


# 701, DER AC measurement
INVERTER_STATE = Point(4, ENUM16)
CONNECTION_STATE = Point(5, ENUM16)
DER_W = Point(10, INT16, 116)
ENERGY_INJECTED = Point(19, UINT64, 120)
ENERGY_ABSORBED = Point(23, UINT64, 120)
INVERTER_FAULT = 6
DISCONNECTED = 0
# 702, DER capacity
CONTROL_MODES = Point(23, UINT32)
FIXED_W_BIT = 1 << 1
# 713, DER storage capacity; 802, battery base
STORAGE_SOC = Point(4, UINT16, 8)
BATTERY_SOC = Point(11, UINT16, 56)
# 715 and 802: who may control
DER_LOCAL_REMOTE = Point(2, ENUM16)
BATTERY_LOCAL_REMOTE = Point(17, ENUM16)
LOCAL = 1
# 20x and 21x, AC meter
METER_W = Point(18, INT16, 22)
METER_W_FLOAT = Point(28, FLOAT32)
# 704, DER AC controls: active power
SET_ENABLE = Point(22, ENUM16)
SET_MODE = Point(23, ENUM16)
SET_W_SCALE = 55
SET_W = Point(24, INT32, SET_W_SCALE)
REVERT_W = Point(26, INT32, SET_W_SCALE)
SET_PCT = Point(28, INT16, 56)
REVERT_PCT = Point(29, INT16, 56)
REVERT_ENABLE = Point(30, ENUM16)
REVERT_TIMER = Point(31, UINT32)
REVERT_REMAINING = Point(33, UINT32)

CONTROLS: Mapping[str, Point] = {
    "WSetEna": SET_ENABLE,
    "WSetMod": SET_MODE,
    "WSet": SET_W,
    "WSetRvrt": REVERT_W,
    "WSetPct": SET_PCT,
    "WSetPctRvrt": REVERT_PCT,
    "WSetEnaRvrt": REVERT_ENABLE,
    "WSetRvrtTms": REVERT_TIMER,
}
"""The settings a command may change, by their SunSpec names, WSetEna first."""

SPANS: Mapping[int, int] = {
    DER_MEASURE: 121,
    DER_CAPACITY: 25,
    DER_CONTROL_AC: 57,
    DER_STORAGE: 9,
    DER_CONTROL: 3,
    BATTERY_BASE: 57,
    **dict.fromkeys(METERS_INT, 23),
    **dict.fromkeys(METERS_FLOAT, 30),
}
"""How many registers of a model we need, from its first."""


def raw(point: Point, registers: Registers) -> int | float | None:
    """A point's number as it stands in the registers; None where it is not implemented or not there."""
    words = registers[point.offset : point.offset + point.kind.size]
    if len(words) < point.kind.size:
        return None
    data = struct.pack(f">{len(words)}H", *words)
    if int.from_bytes(data) == point.kind.missing:
        return None
    value: int | float = struct.unpack(">" + point.kind.code, data)[0]
    return value if math.isfinite(value) else None


def whole(point: Point, registers: Registers) -> int | None:
    """A point that is an integer by its type."""
    value = raw(point, registers)
    return None if value is None else int(value)


def exponent(scale_offset: int, registers: Registers) -> int | None:
    """A scale factor, -10 to 10; None where it is not implemented or impossible."""
    value = whole(Point(scale_offset, SCALE), registers)
    return value if value is not None and -10 <= value <= 10 else None


def scaled(point: Point, registers: Registers) -> float | None:
    """A point's value in the unit of its definition."""
    value = raw(point, registers)
    if value is None or point.scale_offset is None:
        return value
    power = exponent(point.scale_offset, registers)
    if power is None:
        return None
    return value * 10.0**power if power >= 0 else value / 10.0**-power


def words(point: Point, value: int) -> list[int]:
    """The registers that carry `value`.

    Raises:
        OutOfRange: the register type cannot hold it, or the number means "not implemented".
    """
    try:
        data = struct.pack(">" + point.kind.code, value)
    except struct.error as error:
        raise OutOfRange(f"{value} does not fit the register at offset {point.offset}") from error
    if int.from_bytes(data) == point.kind.missing:
        raise OutOfRange(f"{value} means 'not implemented' in the register at offset {point.offset}")
    return list(struct.unpack(f">{point.kind.size}H", data))


@dataclass(frozen=True, slots=True)
class DerState:
    """Model 701: power [kW], discharge positive; registers [kWh]; None where the device says nothing."""

    power_kw: float | None
    injected_kwh: float | None
    absorbed_kwh: float | None
    disconnected: bool
    fault: bool


def read_der(registers: Registers) -> DerState:
    """Decode model 701. Its sign is ours: generation positive, absorption negative."""
    power_w = scaled(DER_W, registers)
    injected_wh = scaled(ENERGY_INJECTED, registers)
    absorbed_wh = scaled(ENERGY_ABSORBED, registers)
    return DerState(
        power_kw=None if power_w is None else kw_from_w(power_w),
        injected_kwh=None if injected_wh is None else kwh_from_wh(injected_wh),
        absorbed_kwh=None if absorbed_wh is None else kwh_from_wh(absorbed_wh),
        disconnected=whole(CONNECTION_STATE, registers) == DISCONNECTED,
        fault=whole(INVERTER_STATE, registers) == INVERTER_FAULT,
    )


def read_soc(model: int, registers: Registers) -> float | None:
    """State of charge, 0-1, from model 713 or 802."""
    percent = scaled(STORAGE_SOC if model == DER_STORAGE else BATTERY_SOC, registers)
    return None if percent is None else fraction_from_percent(percent)


def read_local(model: int, registers: Registers) -> bool:
    """Model 715 or 802: the device is switched to local control and will not obey us."""
    return whole(DER_LOCAL_REMOTE if model == DER_CONTROL else BATTERY_LOCAL_REMOTE, registers) == LOCAL


def read_meter(model: int, registers: Registers) -> float | None:
    """Power at the grid connection, export positive [kW]; the meter itself counts import positive."""
    power_w = scaled(METER_W_FLOAT if model in METERS_FLOAT else METER_W, registers)
    return None if power_w is None else -kw_from_w(power_w)


def setpoint_raw(power_kw: float, registers: Registers) -> int | None:
    """The number for 704.WSet nearest to a power; None where the device gives it no scale."""
    power = exponent(SET_W_SCALE, registers)
    return None if power is None else round(w_from_kw(power_kw) / 10.0**power)


def setpoint_kw(registers: Registers) -> float | None:
    """The power that 704.WSet asks for [kW]."""
    power_w = scaled(SET_W, registers)
    return None if power_w is None else kw_from_w(power_w)


def read_controls(registers: Registers) -> dict[str, int | None]:
    """Model 704's settings as they stand, unscaled, so that they can be written back unchanged."""
    return {name: whole(point, registers) for name, point in CONTROLS.items()}


def write_blocks(changes: Iterable[tuple[str, int]]) -> list[tuple[int, list[int]]]:
    """Settings of model 704 as writes (offset, registers): neighbours go in one."""
    blocks: list[tuple[int, list[int]]] = []
    for point, value in sorted(((CONTROLS[name], value) for name, value in changes), key=lambda it: it[0].offset):
        registers = words(point, value)
        if blocks and blocks[-1][0] + len(blocks[-1][1]) == point.offset:
            blocks[-1][1].extend(registers)
        else:
            blocks.append((point.offset, registers))
    return blocks
