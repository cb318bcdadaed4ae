"""A SunSpec device that shares no code with ours: registers encoded by the Alliance's own pysunspec2
from its model definitions, served by pymodbus. Offsets come from those definitions too.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice
from sunspec2.file.client import FileClientModel
from sunspec2.modbus.client import SunSpecModbusClientDeviceTCP

WRITES = (6, 16)

COMMON = {"ID": 1, "Mn": "Test", "Md": "Battery", "Opt": "", "Vr": "1", "SN": "1", "DA": 1}
MEASURE = {
    "ID": 701, "ACType": 0, "St": 1, "InvSt": 3, "ConnSt": 1, "W": 0, "TotWhInj": 12_345, "TotWhAbs": 23_456,
    "W_SF": 0, "TotWh_SF": 0,
}  # fmt: skip
CAPACITY = {"ID": 702, "WMaxRtg": 5000, "CtrlModes": 0b11, "W_SF": 0}
CONTROLS = {
    "ID": 704, "WSetEna": 0, "WSetMod": 0, "WSet": 0, "WSetRvrt": 0, "WSetPct": 0, "WSetPctRvrt": 0,
    "WSetEnaRvrt": 0, "WSetRvrtTms": 0, "WSetRvrtRem": 0, "WSet_SF": 0, "WSetPct_SF": -1,
}  # fmt: skip
STORAGE = {"ID": 713, "WHRtg": 13_500, "SoC": 800, "WH_SF": 0, "Pct_SF": -1}
REMOTE = {"ID": 715, "LocRemCtl": 0}
METER = {"ID": 203, "W": 1000, "W_SF": 0}
MODELS = (COMMON, MEASURE, CAPACITY, CONTROLS, STORAGE, REMOTE, METER)


def encoded(model: dict[str, Any]) -> list[int]:
    """A model's registers; points that are not given are "not implemented"."""
    data = FileClientModel(model_id=model["ID"], data=model).get_mb()
    registers = [int.from_bytes(data[at : at + 2]) for at in range(0, len(data), 2)]
    registers[0:2] = [model["ID"], len(registers) - 2]
    return registers


class SunSpecPeer:
    """A device whose registers a test may change while it is served.

    `reads` and `writes` record what was asked. Faults: `refusals` maps an address to the Modbus
    exception it raises; `ignores_writes`; `silent_after_write` acts and then never answers;
    `silent` never answers; `timer_runs` says whether enabling starts the reversion timer.
    """

    def __init__(self, models: tuple[dict[str, Any], ...] = MODELS, *, base: int = 40000, unit: int = 1) -> None:
        self._models = {model["ID"]: dict(model) for model in models}
        self._base, self._unit = base, unit
        self._server: ModbusTcpServer | None = None
        self._registers: list[int] = []
        self.start_of: dict[int, int] = {}
        self.reads: list[tuple[int, int]] = []
        self.writes: list[tuple[int, list[int]]] = []
        self.refusals: dict[int, ExcCodes] = {}
        self.ignores_writes = False
        self.silent_after_write = False
        self.silent = False
        self.timer_runs = True
        self.port = 0

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}/{self._unit}"

    def image(self) -> list[int]:
        """The whole map: marker, models, end."""
        registers = [0x5375, 0x6E53]
        for number, model in self._models.items():
            self.start_of[number] = self._base + len(registers)
            registers += encoded(model)
        return [*registers, 0xFFFF, 0]

    def set(self, number: int, **points: Any) -> None:
        """Change points of a model; None makes one "not implemented"."""
        self._models[number] |= points
        start, block = self.start_of[number] - self._base, encoded(self._models[number])
        self._registers[start : start + len(block)] = block

    def replace(self, models: tuple[dict[str, Any], ...]) -> None:
        """Another layout, as after a firmware update."""
        self._models = {model["ID"]: dict(model) for model in models}
        registers = self.image()
        self._registers[: len(registers)] = registers

    def raw(self, number: int, point: str) -> int:
        """A point as it stands in the registers now, decoded by pysunspec2."""
        start = self.start_of[number] - self._base
        length = len(encoded(self._models[number]))
        model = FileClientModel(model_id=number, data=self._models[number])
        model.set_mb(b"".join(word.to_bytes(2) for word in self._registers[start : start + length]))
        value: int = getattr(model, point).value
        return value

    def offset(self, number: int, point: str) -> int:
        return int(getattr(FileClientModel(model_id=number, data=self._models[number]), point).offset)

    async def start(self, port: int = 0) -> None:
        self._registers = self._registers or self.image()
        registers = SimData(self._base, values=self._registers, datatype=DataType.REGISTERS)
        device = SimDevice(id=self._unit, simdata=[registers], action=self._act)
        self._server = ModbusTcpServer(device, address=("127.0.0.1", port))
        await self._server.serve_forever(background=True)
        self.port = self._server.transport.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.shutdown()
            self._server = None

    async def _act(
        self, function: int, start: int, address: int, count: int, live: list[int], values: list[int] | None
    ) -> ExcCodes | None:
        live[:] = self._registers
        if self.silent:
            await asyncio.sleep(3600)
        if address in self.refusals:
            return self.refusals[address]
        if function not in WRITES or values is None:
            self.reads.append((address, count))
            return None
        self.writes.append((address, list(values)))
        if self.ignores_writes:
            values[:] = live[address - start : address - start + count]
            return None
        self._registers[address - start : address - start + count] = values
        self._start_timer(address)
        live[:] = self._registers
        if self.silent_after_write:
            await asyncio.sleep(3600)
        return None

    def _start_timer(self, address: int) -> None:
        controls = self.start_of.get(704)
        if controls is None or not self.timer_runs or address != controls + self.offset(704, "WSetEna"):
            return
        names = ("WSetRvrtTms", "WSetRvrtRem")
        timer, remaining = (controls - self._base + self.offset(704, name) for name in names)
        self._registers[remaining : remaining + 2] = self._registers[timer : timer + 2]


@asynccontextmanager
async def serving(peer: SunSpecPeer) -> AsyncIterator[SunSpecPeer]:
    """Serve a device while the block runs."""
    await peer.start()
    try:
        yield peer
    finally:
        await peer.stop()


def read_by_alliance(port: int, unit: int = 1) -> dict[int, dict[str, Any]]:
    """What pysunspec2's own client reads, scaled: points by model. It blocks: call it in a thread."""
    device = SunSpecModbusClientDeviceTCP(slave_id=unit, ipaddr="127.0.0.1", ipport=port, timeout=5)
    device.scan()
    try:
        return {
            number: {name: point.cvalue for name, point in models[0].points.items()}
            for number, models in device.models.items()
            if isinstance(number, int)
        }
    finally:
        device.close()
