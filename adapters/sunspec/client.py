"""Finding a device's models and reading them in few requests; called by `adapters.sunspec.adapter`.

A device's map starts with "SunS" at one of three addresses and is a chain of models, each opened by
its ID and length. The chain is walked once per connection and remembered; a block whose ID is no
longer the one we found there makes us walk it again.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from adapters.modbus import MAX_READ_REGISTERS, ModbusSession
from adapters.sunspec import wire
from vpp.domain.errors import ProtocolError, Rejected, Unsupported
from vpp.ports import Clock

_MAX_MODELS = 100
_LAST_ADDRESS = 0xFFFF


@dataclass(frozen=True, slots=True)
class UnitAddress:
    """A device on the network."""

    host: str
    port: int
    unit: int

    @classmethod
    def parse(cls, address: str) -> "UnitAddress":
        """Read "host:port/unit".

        Raises:
            Unsupported: it is written otherwise.
        """
        endpoint, _, unit = address.rpartition("/")
        host, _, port = endpoint.rpartition(":")
        if not (host and port.isdecimal() and unit.isdecimal() and int(port) <= 65535 and int(unit) <= 255):
            raise Unsupported(f"SunSpec address {address!r} is not of the form host:port/unit")
        return cls(host.strip("[]"), int(port), int(unit))


@dataclass(frozen=True, slots=True)
class Block:
    """Where a model lies: its first register, and how many of them we read."""

    start: int
    size: int

    @property
    def end(self) -> int:
        return self.start + self.size


@dataclass(frozen=True, slots=True)
class ModelMap:
    """Where each model lies, and on which connection that was found."""

    blocks: Mapping[int, Block]
    generation: int


class SunSpecUnit:
    """One device. `control` is held by whoever is changing its settings."""

    def __init__(self, session: ModbusSession, unit: int) -> None:
        self._session = session
        self._unit = unit
        self._map: ModelMap | None = None
        self.control = asyncio.Lock()

    async def _current_map(self) -> ModelMap:
        """The device's models by ID; of several with one ID, the first."""
        generation = await self._session.connect()
        if self._map is None or self._map.generation != generation:
            self._map = ModelMap(await self._walk(), generation)
        return self._map

    async def read_models(self, wanted: Iterable[int], *, needed: int | None = None) -> dict[int, tuple[int, ...]]:
        """Read those of the wanted models that the device has, in as few requests as possible.

        A block the device refuses to give is left out: what it held is missing, the rest is not.

        Raises:
            Unreachable, TimedOut: no answer.
            Rejected: the device has `needed` and refuses to give it.
            ProtocolError: the models are not where they were, even after looking again.
        """
        wanted = tuple(wanted)
        for _ in range(2):
            blocks = (await self._current_map()).blocks
            found = await self._read_blocks({model: blocks[model] for model in wanted if model in blocks})
            if needed in blocks and needed not in found:
                raise Rejected(f"{self._session}/{self._unit}: model {needed} cannot be read now")
            if all(registers[0] == model for model, registers in found.items()):
                return found
            self._map = None
        raise ProtocolError(f"{self._session}/{self._unit}: the models moved while they were read")

    async def write(self, model: int, offset: int, registers: Sequence[int]) -> None:
        """Write consecutive registers of one model in one request.

        Raises:
            DeviceError: as `ModbusSession.write`.
        """
        found = await self._current_map()
        if model not in found.blocks:
            raise ProtocolError(f"{self._session}/{self._unit}: model {model} is gone")
        address = found.blocks[model].start + offset
        await self._session.write(self._unit, address, registers, generation=found.generation)

    async def _read_blocks(self, blocks: Mapping[int, Block]) -> dict[int, tuple[int, ...]]:
        found: dict[int, tuple[int, ...]] = {}
        for group in _grouped(blocks):
            found.update(await self._read_group(group, blocks))
        if blocks and not found:
            raise ProtocolError(f"{self._session}/{self._unit}: none of its models can be read")
        return found

    async def _read_group(self, group: Sequence[int], blocks: Mapping[int, Block]) -> dict[int, tuple[int, ...]]:
        first, end = blocks[group[0]].start, max(blocks[model].end for model in group)
        try:
            registers = await self._session.read(self._unit, first, end - first)
        except (Unsupported, Rejected):
            if len(group) == 1:
                return {}
            alone = [await self._read_group([model], blocks) for model in group]
            return {model: registers for part in alone for model, registers in part.items()}
        return {model: registers[blocks[model].start - first : blocks[model].end - first] for model in group}

    async def _walk(self) -> dict[int, Block]:
        address = await self._after_marker()
        blocks: dict[int, Block] = {}
        for _ in range(_MAX_MODELS):
            try:
                model, length = await self._session.read(self._unit, address, 2)
            except Unsupported as error:
                raise ProtocolError(f"{self._session}/{self._unit}: the chain of models breaks off") from error
            if model == wire.END_MODEL:
                return blocks
            blocks.setdefault(model, Block(address, min(wire.SPANS.get(model, 2), 2 + length)))
            address += 2 + length
            if address >= _LAST_ADDRESS:
                break
        raise ProtocolError(f"{self._session}/{self._unit}: the chain of models has no end")

    async def _after_marker(self) -> int:
        for base in wire.BASE_ADDRESSES:
            try:
                if await self._session.read(self._unit, base, 2) == wire.MARKER:
                    return base + 2
            except (Unsupported, Rejected):
                continue
        raise ProtocolError(f"{self._session}/{self._unit}: no 'SunS' at {wire.BASE_ADDRESSES}: not a SunSpec device")


class SunSpecClient:
    """All devices of this process: one session per host and port, one unit per address."""

    def __init__(self, clock: Clock, *, connect_timeout_s: float, read_timeout_s: float) -> None:
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._sessions: dict[tuple[str, int], ModbusSession] = {}
        self._units: dict[str, SunSpecUnit] = {}

    def unit(self, address: str) -> SunSpecUnit:
        """The device at "host:port/unit", always the same object for one address."""
        if address not in self._units:
            parsed = UnitAddress.parse(address)
            session = self._sessions.get((parsed.host, parsed.port))
            if session is None:
                session = ModbusSession(
                    parsed.host,
                    parsed.port,
                    self._clock,
                    connect_timeout_s=self._connect_timeout_s,
                    read_timeout_s=self._read_timeout_s,
                )
                self._sessions[parsed.host, parsed.port] = session
            self._units[address] = SunSpecUnit(session, parsed.unit)
        return self._units[address]

    async def close(self) -> None:
        """Close every connection."""
        await asyncio.gather(*(session.close() for session in self._sessions.values()))
        self._sessions.clear()
        self._units.clear()


def _grouped(blocks: Mapping[int, Block]) -> list[list[int]]:
    """Put models that lie close together into one request."""
    groups: list[list[int]] = []
    for model in sorted(blocks, key=lambda model: blocks[model].start):
        if groups and blocks[model].end - blocks[groups[-1][0]].start <= MAX_READ_REGISTERS:
            groups[-1].append(model)
        else:
            groups.append([model])
    return groups
