"""Room simulation: Modbus TCP servers, one port for each SunSpec site.

Called by `devices`. An offline site's port is closed, so that connections to it are refused, as they are
by a device without power.
"""

import asyncio
from collections.abc import Sequence

from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

from vpp.domain.errors import NotReady
from vpp.ports import Clock
from vpp.simulation.faults import FaultKind
from vpp.simulation.sunspec_device import BASE, SunSpecDevice
from vpp.simulation.world import World

UNIT = 1
WRITE_CODES = (6, 16)


class SunSpecServer:
    """One site's port."""

    def __init__(self, world: World, row: int, clock: Clock) -> None:
        self._world = world
        self._clock = clock
        self.site_id = world.site_ids[row]
        host, _, port = world.fleet.sites[row].site.address.partition("/")[0].rpartition(":")
        self._address = (host, int(port))
        self._device = SunSpecDevice(world, row)
        self._server: ModbusTcpServer | None = None
        self._echo: tuple[int, list[int]] | None = None

    async def start(self) -> None:
        """Listen; nothing if it does already.

        Raises:
            NotReady: the port is taken.
        """
        if self._server is not None:
            return
        image = SimData(address=BASE, values=[*self._device.image], datatype=DataType.REGISTERS)
        server = ModbusTcpServer(SimDevice(id=UNIT, simdata=[image], action=self._act), address=self._address)
        try:
            await server.serve_forever(background=True)
        except RuntimeError as error:
            raise NotReady(f"{self.site_id} cannot listen on {self._address[0]}:{self._address[1]}: {error}") from error
        self._server = server

    async def stop(self) -> None:
        """Close the port and every connection to it."""
        if self._server is not None:
            server, self._server = self._server, None
            await server.shutdown()  # type: ignore[no-untyped-call]

    async def keep_to_faults(self) -> None:
        """Open or close the port, as the world has it."""
        if self._fault(FaultKind.OFFLINE):
            await self.stop()
        else:
            await self.start()

    def _fault(self, kind: FaultKind) -> bool:
        return self._world.faults.active(self.site_id, self._clock.now(), kind) is not None

    async def _act(
        self,
        function: int,
        start: int,
        address: int,
        count: int,
        registers: list[int],
        values: list[int] | list[bool] | None,
    ) -> ExcCodes | None:
        """Answer one request: pymodbus asks before it reads or writes its own copy of the registers."""
        slow = self._world.faults.active(self.site_id, self._clock.now(), FaultKind.SLOW)
        if slow is not None:
            await asyncio.sleep(slow.amount)
        if self._fault(FaultKind.OFFLINE):
            return ExcCodes.GATEWAY_NO_RESPONSE
        self._world.tell_time(self._clock.now())
        offset = address - start
        if values is not None:
            return self._write(function, offset, [int(value) for value in values])
        if function == WRITE_CODES[0] and self._echo is not None:
            # FC6 answers with the register's value: pymodbus reads it back, a device echoes what it heard.
            place, heard = self._echo
            self._echo = None
            registers[place : place + len(heard)] = heard
            return None
        self._device.refresh(registers, offset, count)
        return None

    def _write(self, function: int, offset: int, values: list[int]) -> ExcCodes | None:
        if function not in WRITE_CODES or not self._device.may_write(offset, len(values)):
            return ExcCodes.ILLEGAL_ADDRESS
        if not self._device.write(offset, values):
            return ExcCodes.ILLEGAL_VALUE
        self._echo = (offset, values) if function == WRITE_CODES[0] else None
        return None


def sunspec_servers(world: World, clock: Clock) -> Sequence[SunSpecServer]:
    """A server for each SunSpec site of the fleet, not yet listening."""
    return [
        SunSpecServer(world, row, clock)
        for row, virtual in enumerate(world.fleet.sites)
        if virtual.site.adapter == "sunspec"
    ]
