"""Virtual time over process boundaries: one loop runs at a time, then the clock steps on.

The conductor of a simulation serves `ClockServer`; every loop that acts in time takes part through a
`SteppedClock` of its own. A loop runs until it calls `sleep_until`, and the present stands still while
it runs. When all sleep, the clock steps to the earliest wish and wakes the loops due then, one after
another by rank. So a day takes as long as its work takes, and the same seed plays the same day,
whatever the speed of the machine. A process that dies holds the clock until it is back, or until
the conductor dismisses it. Observers (rank None) see the time and never hold it.

Wire: one JSON object a line. Client: {"name", "rank"} then {"until": microseconds}.
Server: {"now": microseconds, "go": bool}.
"""

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from vpp.domain.errors import NotReady
from vpp.domain.time import as_utc

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CONNECT_TIMEOUT_S = 30.0


def _micros(at: datetime) -> int:
    return (as_utc(at) - _EPOCH) // timedelta(microseconds=1)


def _instant(micros: int) -> datetime:
    return _EPOCH + timedelta(microseconds=micros)


class SteppedClock:
    """A `Clock` that stands still while its loop works. Open it with `await clock.connect()`."""

    def __init__(self, address: str, name: str, rank: int | None) -> None:
        host, _, port = address.rpartition(":")
        self._host, self._port = host, int(port)
        self._hello: dict[str, object] = {"name": name, "rank": rank}
        self._now = _EPOCH
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._observing: asyncio.Task[None] | None = None
        self._moved = asyncio.Condition()

    async def connect(self) -> None:
        """Join the simulation; returns when it is this loop's turn.

        Raises:
            NotReady: no clock is served at the address.
        """
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                self._reader, self._writer = await asyncio.open_connection(self._host, self._port)
        except (OSError, TimeoutError) as error:
            raise NotReady(f"no simulation clock at {self._host}:{self._port}: {error}") from error
        self._send(self._hello)
        if self._hello["rank"] is None:
            await self._hear()
            self._observing = asyncio.create_task(self._observe())
        else:
            await self._wait_for_turn()

    def now(self) -> datetime:
        return self._now

    async def sleep_until(self, at: datetime) -> None:
        if self._observing is not None:
            async with self._moved:
                await self._moved.wait_for(lambda: self._now >= at)
            return
        self._send({"until": _micros(at)})
        await self._wait_for_turn()

    def wall_time(self, at: datetime) -> datetime | None:
        return None

    async def close(self) -> None:
        """Leave: the clock no longer waits for this loop."""
        if self._observing is not None:
            self._observing.cancel()
        if self._writer is not None:
            self._writer.close()

    def _send(self, message: dict[str, object]) -> None:
        if self._writer is None:
            raise NotReady("the simulation clock is not connected")
        self._writer.write(json.dumps(message).encode() + b"\n")

    async def _hear(self) -> bool:
        if self._reader is None:
            raise NotReady("the simulation clock is not connected")
        line = await self._reader.readline()
        if not line:
            raise NotReady("the simulation has ended")
        message = json.loads(line)
        self._now = _instant(message["now"])
        return bool(message["go"])

    async def _wait_for_turn(self) -> None:
        while not await self._hear():
            pass

    async def _observe(self) -> None:
        while True:
            await self._hear()
            async with self._moved:
                self._moved.notify_all()


@dataclass(slots=True)
class _Member:
    name: str
    rank: int | None
    writer: asyncio.StreamWriter | None
    until: int | None = None
    waiting: asyncio.Event = field(default_factory=asyncio.Event)

    def tell(self, now: int, *, go: bool) -> None:
        if self.writer is not None:
            self.writer.write(json.dumps({"now": now, "go": go}).encode() + b"\n")


class ClockServer:
    """The conductor's side: knows who takes part and steps the clock when all sleep."""

    def __init__(self, start_at: datetime) -> None:
        self._now = _micros(start_at)
        self._members: dict[str, _Member] = {}
        self._server: asyncio.Server | None = None
        self._serving: set[asyncio.Task[None]] = set()
        self._joined = asyncio.Condition()
        self.address = ""
        self.busy_s: defaultdict[str, float] = defaultdict(float)
        """Real time each loop has held the clock, by name [s]: where a simulated day's time goes."""
        self.at_work: str | None = None
        """The loop that holds the clock now, alive or not."""
        self.on_turn: Callable[[str, datetime], None] | None = None
        """Told whose turn begins, and when; must return at once. For tests that disturb."""

    @property
    def now(self) -> datetime:
        return _instant(self._now)

    async def start(self, host: str = "127.0.0.1") -> str:
        """Serve on a free port and return host:port."""
        self._server = await asyncio.start_server(self._meet, host, 0)
        self.address = f"{host}:{self._server.sockets[0].getsockname()[1]}"
        return self.address

    async def stop(self) -> None:
        """Hang up on everyone."""
        if self._server is not None:
            self._server.close()
        for member in self._members.values():
            if member.writer is not None:
                member.writer.close()
        await asyncio.gather(*self._serving)

    @property
    def away(self) -> frozenset[str]:
        """Loops that took part and are gone, for now or for good."""
        return frozenset(member.name for member in self._members.values() if member.writer is None)

    def dismiss(self, name: str) -> None:
        """Stop waiting for a loop that will not come back."""
        member = self._members.pop(name, None)
        if member is not None:
            member.waiting.set()

    async def wait_for(self, names: set[str], timeout_s: float) -> None:
        """Return once all these have joined.

        Raises:
            NotReady: somebody is missing after `timeout_s`; the message names them.
        """
        try:
            async with asyncio.timeout(timeout_s), self._joined:
                await self._joined.wait_for(lambda: names <= self._members.keys())
        except TimeoutError as error:
            missing = ", ".join(sorted(names - self._members.keys()))
            raise NotReady(f"the simulation waited {timeout_s:.0f} s in vain for: {missing}") from error

    async def run_until(self, end_at: datetime, turn_timeout_s: float = 120.0) -> None:
        """Step through virtual time until every loop's next wish lies at or after `end_at`.

        Raises:
            NotReady: a loop did not give the clock back within `turn_timeout_s` of real time.
        """
        end = _micros(end_at)
        while True:
            actors = [m for m in self._members.values() if m.rank is not None]
            fresh = [m for m in actors if m.until is None]
            for member in sorted(fresh, key=lambda m: (m.rank or 0, m.name)):
                await self._give_turn(member, turn_timeout_s)
            if fresh:
                continue
            step_to = min((m.until for m in actors if m.until is not None), default=end)
            if step_to >= end:
                self._move(end)
                return
            self._move(max(self._now, step_to))
            for member in sorted(actors, key=lambda m: (m.rank or 0, m.name)):
                if member.until is not None and member.until <= self._now:
                    await self._give_turn(member, turn_timeout_s)

    def _move(self, to: int) -> None:
        self._now = to
        for member in self._members.values():
            if member.rank is None:
                member.tell(to, go=False)

    async def _give_turn(self, member: _Member, timeout_s: float) -> None:
        """Let one loop work until it sleeps again; a loop that died is waited for until it is back."""
        member.waiting.clear()
        member.until = None
        member.tell(self._now, go=True)
        began_s = time.monotonic()
        self.at_work = member.name
        if self.on_turn is not None:
            self.on_turn(member.name, self.now)
        try:
            async with asyncio.timeout(timeout_s):
                await member.waiting.wait()
            self.busy_s[member.name] += time.monotonic() - began_s
        except TimeoutError as error:
            raise NotReady(f"{member.name} held the clock at {self.now.isoformat()} for {timeout_s:.0f} s") from error
        finally:
            self.at_work = None

    def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._serving.add(task)
        task.add_done_callback(self._serving.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._converse(reader, writer)
        except OSError:
            pass  # the peer was killed: the same as hanging up
        finally:
            writer.close()
            for member in [m for m in self._members.values() if m.writer is writer]:
                member.writer = None
                if member.rank is None:
                    self._members.pop(member.name, None)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if not line:
            return
        hello = json.loads(line)
        member = await self._welcome(hello["name"], hello["rank"], writer)
        while line := await reader.readline():
            if member.writer is not writer:
                return
            member.until = json.loads(line)["until"]
            member.waiting.set()

    async def _welcome(self, name: str, rank: int | None, writer: asyncio.StreamWriter) -> _Member:
        """Admit a newcomer, or give a loop that comes back after a crash the turn it died in."""
        member = self._members.get(name)
        if member is None:
            member = self._members[name] = _Member(name, rank, writer)
        else:
            member.writer = writer
            if member.until is None:
                member.tell(self._now, go=True)
            else:
                # It died asleep: what it meant to wake for is no longer known, so it wakes at once.
                member.until = self._now
        if rank is None:
            member.tell(self._now, go=False)
        async with self._joined:
            self._joined.notify_all()
        return member
