"""The load client, in a process of its own: VENs that poll and accept events, on raw sockets.

`python -m tests.bench.openadr.load` reads one command (JSON) a line and answers each with a line. Requests are
finished bytes before anything is timed, and answers are looked at for a few bytes only, so that one core of
client keeps up with any server.
"""

import asyncio
import json
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import uvloop

from tests.bench.openadr.messages import Pen
from tests.bench.openadr.wire import Line, get

POLL_AGAIN_S = 0.005
"""A VEN that was told nothing while an event is on its way asks again after this."""
CONNECT_TOGETHER = 100
FRESH_FOR_S = 240.0
"""What was signed longer ago is signed anew: a VTN takes five minutes, which pass where much else runs."""
Json = dict[str, Any]


class Fleet:
    """VENs with a connection each, to one server."""

    def __init__(self, port: int, folder: Path | None) -> None:
        self._port, self._pen = port, Pen(folder)
        self._lines: list[Line] = []
        self._polls: dict[int, bytes] = {}
        self._signed_polls: dict[int, list[bytes]] = {}
        self._written_s = 0.0
        self._signed = folder is not None

    async def connect(self, vens: int, first: int = 0) -> None:
        """Connect so many from the `first` on, those that are not."""
        while len(self._lines) < first + vens:
            self._lines.append(Line())
        lost = [at for at in range(first, first + vens) if not self._lines[at].is_open]
        loop = asyncio.get_running_loop()
        for start in range(0, len(lost), CONNECT_TOGETHER):
            together = lost[start : start + CONNECT_TOGETHER]
            made = await asyncio.gather(*(loop.create_connection(Line, "127.0.0.1", self._port) for _ in together))
            for at, (_, line) in zip(together, made, strict=True):
                self._lines[at] = line

    async def poll(self, vens: int, seconds: float, in_flight: int, at_least: int = 0) -> Json:
        """Poll for a while, and `at_least` so often; each VEN in its turn, `in_flight` of them at once."""
        await self.connect(vens)
        if not self._signed:
            for at in range(vens):
                self._poll_of(at)
        idle, done = deque(range(vens)), asyncio.get_running_loop().create_future()
        state = {"answered": 0, "wrong": 0, "under_way": 0, "reconnects": 0}
        loop = asyncio.get_running_loop()
        until_s = time.monotonic() + seconds

        def send() -> None:
            at = idle.popleft()
            state["under_way"] += 1
            if self._lines[at].is_open:
                self._lines[at].ask(self._poll_of(at), lambda status, body: answered(at, status, body))
            else:  # servers hang up on who says nothing for long
                state["reconnects"] += 1
                loop.create_task(self._again(at)).add_done_callback(lambda _: answered(at, 0, b""))

        def answered(at: int, status: int, body: bytes) -> None:
            state["under_way"] -= 1
            if status or state["reconnects"] > vens:
                state["answered" if status == 200 and b"oadrResponse>" in body else "wrong"] += 1
            idle.append(at)
            more = time.monotonic() < until_s or state["answered"] + state["under_way"] < at_least
            if more and not state["wrong"]:
                send()
            elif not state["under_way"] and not done.done():
                done.set_result(None)

        started_s = time.monotonic()
        for _ in range(min(in_flight, vens)):
            send()
        await done
        spent_s = time.monotonic() - started_s
        return {"polls": state["answered"], "seconds": spent_s, **{key: state[key] for key in ("wrong", "reconnects")}}

    async def _again(self, at: int) -> None:
        _, self._lines[at] = await asyncio.get_running_loop().create_connection(Line, "127.0.0.1", self._port)

    def sign_polls(self, vens: int, count: int) -> None:
        """Write polls ahead: a client that signs while it is timed costs as much as a server."""
        self._written_s = time.monotonic()
        for number in range(count):
            self._signed_polls.setdefault(number % vens, []).append(self._pen.poll(number % vens))

    def _poll_of(self, at: int) -> bytes:
        if self._signed:
            ahead = self._signed_polls.get(at)
            return ahead.pop() if ahead and self._is_fresh() else self._pen.poll(at)
        if at not in self._polls:
            self._polls[at] = self._pen.poll(at)
        return self._polls[at]

    def _is_fresh(self) -> bool:
        return not self._signed or time.monotonic() - self._written_s < FRESH_FOR_S

    async def prepare(self, event_ids: Sequence[str], *, first: int, ahead: bool) -> None:
        """Connect the VENs of `take`, and write what they will say, unless it would be too old by then."""
        numbered, self._written_s = list(enumerate(event_ids, first)), time.monotonic()
        self._signed_polls.clear()  # left from before
        self._first = {at: self._poll_of(at) for at, _ in numbered} if ahead else {}
        self._accepted = {at: self._pen.accepted(at, each) for at, each in numbered} if ahead else {}
        await self.connect(len(event_ids), first)

    async def take(self, event_ids: Sequence[str], first: int, in_flight: int, within_s: float) -> Json:  # noqa: C901
        """Poll until each VEN from the `first` was told its event and its oadrCreatedEvent was taken."""
        vens = len(event_ids)
        event_of = dict(enumerate(event_ids, first))
        waiting: deque[int] = deque(event_of)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()
        state = {"taken": 0, "polls": 0, "bytes": 0, "reconnects": 0}
        marks = {at: f">{each}<".encode() for at, each in event_of.items()}
        first_told_s: list[float] = []

        def poll() -> None:
            if waiting and not done.done():
                at = waiting.popleft()
                state["polls"] += 1
                request = self._first.pop(at, b"") if self._is_fresh() else b""
                if self._lines[at].is_open:
                    self._lines[at].ask(request or self._poll_of(at), lambda status, body: polled(at, status, body))
                else:  # servers hang up on who says nothing for long
                    again = loop.create_task(self._again(at))
                    again.add_done_callback(lambda _: polled(at, 0, b""))
                    state["reconnects"] += 1

        def polled(at: int, status: int, body: bytes) -> None:
            if not status and state["reconnects"] <= vens:
                waiting.appendleft(at)
                poll()
                return
            if status == 200 and b"oadrDistributeEvent" in body and marks[at] in body:
                if not first_told_s:
                    first_told_s.append(time.monotonic())
                state["bytes"] += len(body)
                accept = self._accepted.pop(at, b"") if self._is_fresh() else b""
                accept = accept or self._pen.accepted(at, event_of[at])
                self._lines[at].ask(accept, lambda status, body: taken(at, status, body))
            elif status == 200 and b"oadrResponse>" in body:
                waiting.append(at)
                loop.call_later(POLL_AGAIN_S, poll)
            else:
                fail(at, "poll", status, body)

        def taken(at: int, status: int, body: bytes) -> None:
            if status != 200 or b"responseCode>200<" not in body:
                fail(at, "oadrCreatedEvent", status, body)
                return
            state["taken"] += 1
            if state["taken"] == vens and not done.done():
                done.set_result(None)
            poll()

        def fail(at: int, what: str, status: int, body: bytes) -> None:
            if not done.done():
                done.set_exception(RuntimeError(f"{what} of VEN {at}: HTTP {status} {body[:600]!r}"))

        for _ in range(min(in_flight, vens)):
            poll()
        async with asyncio.timeout(within_s):
            await done
        return {**state, "first_told_s": first_told_s[0], "finished_s": time.monotonic()}


async def open_loop(
    port: int, paths: Sequence[str], tokens: Sequence[str], per_s: float, seconds: float, connections: int
) -> Json:
    """GET the paths in turn, so many a second whatever the answers do; time counts from when one was due.

    Returns latencies in ms by path, and how late the client itself was at most.
    """
    loop = asyncio.get_running_loop()
    made = await asyncio.gather(*(loop.create_connection(Line, "127.0.0.1", port) for _ in range(connections)))
    free = deque(line for _, line in made)
    requests = [get(path, f"Authorization: Bearer {token}\r\n") for path, token in zip(paths, tokens, strict=True)]
    total, sizes = int(per_s * seconds), [0] * len(requests)
    took: list[tuple[int, float]] = []
    wrong: list[str] = []
    queued: deque[tuple[int, float]] = deque()
    done: asyncio.Future[None] = loop.create_future()

    def send(which: int, due_s: float) -> None:
        if not free:
            queued.append((which, due_s))
            return
        line = free.popleft()
        line.ask(requests[which], lambda status, body: answered(line, which, due_s, status, body))

    def answered(line: Line, which: int, due_s: float, status: int, body: bytes) -> None:
        took.append((which, 1000 * (time.monotonic() - due_s)))
        sizes[which] = len(body)
        if status != 200:
            wrong.append(f"HTTP {status} {body[:200]!r}")
        free.append(line)
        if queued:
            send(*queued.popleft())
        if len(took) == total and not done.done():
            done.set_result(None)

    started_s, late_ms = time.monotonic() + 0.05, 0.0
    for number in range(total):
        due_s = started_s + number / per_s
        while (now_s := time.monotonic()) < due_s:  # noqa: ASYNC110 - a clock has no event
            await asyncio.sleep(due_s - now_s)
        late_ms = max(late_ms, 1000 * (now_s - due_s))
        send(number % len(requests), due_s)
    async with asyncio.timeout(60):
        await done
    for _, line in made:
        line.close()
    return {"took_ms": took, "wrong": wrong[:3], "sizes": sizes, "client_late_ms": late_ms}


async def _serve() -> None:
    fleets: dict[str, Fleet] = {}

    async def connect(name: str, port: int, folder: str | None, vens: int) -> Json:
        fleets[name] = Fleet(port, None if folder is None else Path(folder))
        await fleets[name].connect(vens)
        return {}

    async def poll(name: str, **asked: Any) -> Json:
        return await fleets[name].poll(**asked)

    async def sign_polls(name: str, **asked: Any) -> Json:
        fleets[name].sign_polls(**asked)
        return {}

    async def prepare(name: str, **asked: Any) -> Json:
        await fleets[name].prepare(**asked)
        return {}

    async def take(name: str, **asked: Any) -> Json:
        return await fleets[name].take(**asked)

    known: dict[str, Callable[..., Awaitable[Json]]] = {
        "connect": connect, "poll": poll, "sign_polls": sign_polls, "prepare": prepare, "take": take,
        "open_loop": open_loop,
    }  # fmt: skip
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while command := await reader.readline():
        asked = json.loads(command)
        answer = await known[asked.pop("do")](**asked)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    uvloop.run(_serve())
