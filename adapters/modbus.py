"""Modbus TCP for every adapter that speaks it: one connection per host and port, one request at a time.

Knows registers as 16-bit words only; what they mean is each vendor's `wire.py`. Failures come out
as the domain's `DeviceError`s, so no library type leaks upward.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException
from pymodbus.pdu import ModbusPDU

from vpp.domain.errors import (
    Busy,
    DeviceError,
    OutOfRange,
    ProtocolError,
    Rejected,
    TimedOut,
    Unreachable,
    Unsupported,
)
from vpp.ports import Clock

MAX_READ_REGISTERS = 125
"""Most registers one read may ask for (Modbus Application Protocol 1.1b3, §6.3)."""

_MAX_BACKOFF_S = 60.0
_EXCEPTIONS: dict[int, type[DeviceError]] = {1: Unsupported, 2: Unsupported, 3: OutOfRange, 6: Busy}
_GATEWAY_EXCEPTIONS = (10, 11)
_Answer = TypeVar("_Answer")

# The library writes each timeout as an error of its own; ours are values that the caller reports.
logging.getLogger("pymodbus").setLevel(logging.CRITICAL)


class ModbusSession:
    """One TCP connection, kept open and shared by all units behind it.

    Args:
        host, port: where the device or gateway listens.
        clock: measures the pause after a failure, so that it follows the simulation's time as well.
        connect_timeout_s, read_timeout_s: deadlines of one connect and one request [s].
    """

    def __init__(
        self, host: str, port: int, clock: Clock, *, connect_timeout_s: float = 3.0, read_timeout_s: float = 5.0
    ) -> None:
        self._host = host
        self._port = port
        self._clock = clock
        self._connect_timeout_s = connect_timeout_s
        self._read_timeout_s = read_timeout_s
        self._lock = asyncio.Lock()
        self._client: AsyncModbusTcpClient | None = None
        self._lost = asyncio.Event()
        self._failures = 0
        self._retry_at: datetime | None = None
        self.generation = 0
        """Counts connections: what was learnt on an earlier one may no longer hold."""

    async def connect(self) -> int:
        """Connect if that is needed, and return the connection's number.

        Raises:
            Unreachable: no connection, or still waiting after an earlier failure.
        """
        async with self._lock:
            await self._connected()
            return self.generation

    async def read(self, unit: int, address: int, count: int) -> tuple[int, ...]:
        """Read holding registers.

        Raises:
            Unreachable: no connection, or still waiting after an earlier failure.
            TimedOut: no answer; the connection is dropped.
            Unsupported: the device has no such register.
        """
        answer = await self._exchange(
            lambda client: client.read_holding_registers(address, count=count, device_id=unit),
            f"reading {count} registers at {address}",
        )
        if len(answer.registers) != count:
            raise ProtocolError(f"{self}: asked for {count} registers at {address}, got {len(answer.registers)}")
        return tuple(answer.registers)

    async def write(self, unit: int, address: int, registers: Sequence[int], *, generation: int) -> None:
        """Write consecutive holding registers in one request, on connection `generation` only.

        Raises:
            Unreachable: nothing was sent; also where the connection is another by now.
            TimedOut: with `sent`: the device may have acted.
            OutOfRange, Rejected, Busy, Unsupported: the device refused.
        """
        await self._exchange(
            lambda client: client.write_registers(address, list(registers), device_id=unit),
            f"writing {len(registers)} registers at {address}",
            generation,
        )

    async def close(self) -> None:
        """Close the connection; the next request opens it again."""
        async with self._lock:
            self._drop()

    async def _exchange(
        self,
        request: Callable[[AsyncModbusTcpClient], Awaitable[ModbusPDU]],
        what: str,
        generation: int | None = None,
    ) -> ModbusPDU:
        async with self._lock:
            client = await self._connected()
            if generation is not None and generation != self.generation:
                raise Unreachable(f"{self}: reconnected before {what}; where to write must be looked up again")
            try:
                answer = await self._or_lost(request(client))
            except (TimeoutError, ModbusException, OSError) as error:
                self._drop()
                self._back_off()
                raise TimedOut(f"{self}: no answer while {what}", sent=True) from error
            except asyncio.CancelledError:
                # A late answer must not be taken for the next request's.
                self._drop()
                raise
            self._failures = 0
        if answer.isError():
            raise _error_of(answer, f"{self}: {what}")
        return answer

    async def _or_lost(self, answer: Awaitable[_Answer]) -> _Answer:
        """Wait for an answer, but no longer than the connection lives."""
        request = asyncio.ensure_future(answer)
        lost = asyncio.ensure_future(self._lost.wait())
        try:
            async with asyncio.timeout(self._read_timeout_s):
                await asyncio.wait((request, lost), return_when=asyncio.FIRST_COMPLETED)
            if not request.done():
                raise ConnectionResetError("connection closed")
            return request.result()
        finally:
            request.cancel()
            lost.cancel()

    async def _connected(self) -> AsyncModbusTcpClient:
        if self._client is not None and self._client.connected:
            return self._client
        self._drop()
        if self._retry_at is not None and self._clock.now() < self._retry_at:
            raise Unreachable(f"{self}: not tried again before {self._retry_at.isoformat()}")
        self._lost = lost = asyncio.Event()
        client = AsyncModbusTcpClient(
            self._host,
            port=self._port,
            timeout=self._read_timeout_s + 1.0,
            retries=0,
            reconnect_delay=0,
            trace_connect=lambda connected: None if connected else lost.set(),
        )
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                connected = await client.connect()
        except (TimeoutError, OSError):
            connected = False
        if not connected:
            client.close()
            self._back_off()
            raise Unreachable(f"{self}: no connection")
        self._client, self._retry_at = client, None
        self.generation += 1
        return client

    def _back_off(self) -> None:
        """Pause before the next connect; the first failure may be tried again at once.

        That one try is what tells a lost answer from a lost write.
        """
        self._failures += 1
        if self._failures > 1:
            pause_s = min(_MAX_BACKOFF_S, 2.0 ** (min(self._failures, 10) - 2))
            self._retry_at = self._clock.now() + timedelta(seconds=pause_s)

    def _drop(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def __str__(self) -> str:
        return f"{self._host}:{self._port}"


def _error_of(answer: ModbusPDU, what: str) -> DeviceError:
    code = answer.exception_code
    message = f"{what}: Modbus exception {code}"
    if code in _GATEWAY_EXCEPTIONS:
        return Unreachable(f"{message} (the gateway does not reach the unit)")
    return _EXCEPTIONS.get(code, Rejected)(message)
