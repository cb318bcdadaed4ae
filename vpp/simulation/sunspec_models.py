"""Room simulation: the register layouts of the SunSpec models a virtual battery shows.

Transcribed from the SunSpec Alliance's model definitions (Apache-2.0); a test compares every point with the
Alliance's own. Called by `sunspec_server`. It shares nothing with `adapters/sunspec`, on purpose.

A layout is its points in order, `name:type`; `*n` repeats an unnamed point, which the device does not implement.
"""

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Type: (registers, struct format, the value that says "not implemented").
_TYPES: Mapping[str, tuple[int, str, int]] = {
    "i16": (1, ">h", -0x8000),
    "u16": (1, ">H", 0xFFFF),
    "e16": (1, ">H", 0xFFFF),
    "sf": (1, ">h", -0x8000),
    "pad": (1, ">H", 0x8000),
    "i32": (2, ">i", -0x80000000),
    "u32": (2, ">I", 0xFFFFFFFF),
    "b32": (2, ">I", 0xFFFFFFFF),
    "a32": (2, ">I", 0),
    "u64": (4, ">Q", 0xFFFFFFFFFFFFFFFF),
    "s8": (8, "s", 0),
    "s16": (16, "s", 0),
    "s32": (32, "s", 0),
}


@dataclass(frozen=True, slots=True)
class Layout:
    """A model's points: name to (offset in registers from its ID, type). `length` is what its L says."""

    model: int
    points: Mapping[str, tuple[int, str]]
    length: int
    blank: tuple[int, ...]

    @property
    def size(self) -> int:
        """Registers with ID and L."""
        return self.length + 2

    def put(self, registers: list[int], base: int, values: Mapping[str, int | str]) -> None:
        """Write named values into an image in which the model begins at `base`."""
        for name, value in values.items():
            offset, kind = self.points[name]
            place = base + offset
            packed = pack(kind, value)
            registers[place : place + len(packed)] = packed


def pack(kind: str, value: int | str) -> list[int]:
    """A value as registers."""
    size, form, _ = _TYPES[kind]
    if form == "s":
        raw = str(value).encode("ascii")[: 2 * size].ljust(2 * size, b"\0")
    else:
        raw = struct.pack(form, int(value))
    return list(struct.unpack(f">{size}H", raw))


def unpack(kind: str, registers: Sequence[int]) -> int:
    """The integer that begins with the first of these registers."""
    size, form, _ = _TYPES[kind]
    (value,) = struct.unpack(form, struct.pack(f">{size}H", *registers[:size]))
    return int(value)


def _layout(model: int, text: str) -> Layout:
    points: dict[str, tuple[int, str]] = {}
    blank: list[int] = [model, 0]
    for word in text.split():
        name, _, rest = word.partition(":")
        kind, _, times = rest.partition("*")
        for _ in range(int(times or 1)):
            if name:
                points[name] = (len(blank), kind)
            blank += pack(kind, _TYPES[kind][2] if _TYPES[kind][1] != "s" else "")
    blank[1] = len(blank) - 2
    return Layout(model, points, len(blank) - 2, tuple(blank))


COMMON = _layout(1, "Mn:s16 Md:s16 Opt:s8 Vr:s8 SN:s16 DA:u16 :pad")
_PHASE = ":i16*5 :u16*2 :u64*4"
MEASURE_AC = _layout(
    701,
    "ACType:e16 St:e16 InvSt:e16 ConnSt:e16 Alrm:b32 DERMode:b32 W:i16 VA:i16 Var:i16 :i16 A:i16 :u16 LNV:u16 Hz:u32 "
    f"TotWhInj:u64 TotWhAbs:u64 :u64*2 :i16*6 {_PHASE} {_PHASE} {_PHASE} :u16 :b32 "
    "A_SF:sf V_SF:sf Hz_SF:sf W_SF:sf :sf VA_SF:sf Var_SF:sf TotWh_SF:sf :sf*2 :s32",
)
CAPACITY = _layout(
    702,
    "WMaxRtg:u16 :u16*4 VAMaxRtg:u16 :u16*2 WChaRteMaxRtg:u16 WDisChaRteMaxRtg:u16 :u16*2 VNomRtg:u16 :u16*6 :e16*2 "
    "CtrlModes:b32 :u16 WMax:u16 :u16*4 VAMax:u16 :u16*2 WChaRteMax:u16 WDisChaRteMax:u16 :u16*8 :u16 "
    "W_SF:sf :sf VA_SF:sf :sf V_SF:sf :sf*2",
)
CONTROL_AC = _layout(
    704,
    ":e16*2 :u32*2 :e16*2 :u32*2 :e16 :u16*2 :e16 :u32*2 "
    "WSetEna:e16 WSetMod:e16 WSet:i32 WSetRvrt:i32 WSetPct:i16 WSetPctRvrt:i16 WSetEnaRvrt:e16 WSetRvrtTms:u32 "
    "WSetRvrtRem:u32 :e16*3 :i32*2 :i16*2 :e16 :u32*2 :u16 :e16 :u16 :e16 "
    ":sf*2 WSet_SF:sf WSetPct_SF:sf :sf*2 :u16 :e16 :u16 :e16 :u16 :e16 :u16 :e16",
)
STORAGE = _layout(713, "WHRtg:u16 WHAvail:u16 SoC:u16 SoH:u16 Sta:e16 WH_SF:sf Pct_SF:sf")
_METER = (
    "A:i16 AphA:i16 AphB:i16 AphC:i16 A_SF:sf PhV:i16 PhVphA:i16 PhVphB:i16 PhVphC:i16 PPV:i16 PPVphAB:i16 PPVphBC:i16 "
    "PPVphCA:i16 V_SF:sf Hz:i16 Hz_SF:sf W:i16 :i16*3 W_SF:sf :i16*4 :sf :i16*4 :sf :i16*4 :sf TotWhExp:a32 :a32*3 "
    "TotWhImp:a32 :a32*3 TotWh_SF:sf :a32*8 :sf :a32*16 :sf Evt:b32"
)
METER_1 = _layout(201, _METER)
METER_3 = _layout(203, _METER)
END = (0xFFFF, 0)
MARKER = tuple(struct.unpack(">2H", b"SunS"))
