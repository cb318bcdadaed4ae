"""Messages on their way into the log: redacted, and idle polls that follow one another made one. For `message_log`.

Goal: 5,000 VENs that poll every 10 s and have nothing to say cost two rows each, not 86 million a day. Method: a poll
that brought nothing (`oadrPoll` and the `oadrResponse` to it, a `GET` with the same answer as before), and a refusal
of somebody unknown that comes again, is counted in the row of the first of its kind, until anything else is said
to or by that peer. The first keeps its body.
"""

import zlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from vpp.domain.peer import Direction, Protocol
from vpp.peering.redaction import redacted

BODY_MAX = 16_384
"""Characters of a body that are kept."""
LONGEST = timedelta(hours=1)
"""After this, idle polls begin a new row, so that the log can be searched by time."""
STRANGERS_MAX = 5_000
"""Rows in `LONGEST` for what nobody's peer says: beyond these it is only counted, so that no stranger fills the log."""
_SURPLUS_KINDS_MAX = 200
_PEERS_IN_MEMORY = 20_000
_OPEN_PER_PEER = 8
_SHORT_MAX = 200
_SUMMARY_MAX = 2000


@dataclass(frozen=True, slots=True)
class Noted:
    """One message as it was noted; `size` is the whole body's, of which `body` may be a part."""

    at: datetime
    protocol: Protocol
    direction: Direction
    peer: str | None
    kind: str
    status: str
    summary: str
    body: bytes | str
    size: int


@dataclass(slots=True)
class LogRow:
    """One row of the log, and how much of it SQL knows: `id` None before it is stored."""

    at: datetime
    last_at: datetime
    repeats: int
    protocol: str
    direction: str
    peer: str | None
    kind: str
    status: str
    summary: str
    body: str
    id: int | None = None
    stored_repeats: int = 0


_Key = tuple[str, str, str, str, int]


class Coalescer:
    """Turns messages into new rows, and counts those that are the same again."""

    def __init__(self, *, strangers_max: int = STRANGERS_MAX) -> None:
        self._strangers_max, self._strangers, self._strangers_since = strangers_max, 0, datetime.min.replace(tzinfo=UTC)
        self._surplus: dict[tuple[str, str, str, str], LogRow] = {}
        self._open: OrderedDict[tuple[str, str | None], dict[_Key, LogRow]] = OrderedDict()
        self._counted: dict[int, LogRow] = {}

    def take(self, messages: Iterable[Noted]) -> list[LogRow]:
        """Return the rows that are new."""
        made = []
        for message in messages:
            row = self._again(message)
            if row is None and message.peer is None and self._is_too_much(message):
                row, begun = self._surplus_row(message)
                if begun:
                    made.append(row)
                    continue
            if row is None:
                made.append(self._begin(message))
            else:
                row.repeats += 1
                row.last_at = message.at
                self._counted[id(row)] = row
        return made

    def stored(self, rows: Sequence[LogRow]) -> None:
        """New rows are in SQL now and have their ids: their texts need not be kept."""
        for row in rows:
            row.stored_repeats, row.body = row.repeats, ""
            self._counted.pop(id(row), None)

    def counted(self) -> list[LogRow]:
        """Stored rows that have been counted up since SQL last heard of them."""
        return [row for row in self._counted.values() if row.id is not None]

    def told(self, rows: Sequence[tuple[LogRow, int]]) -> None:
        """SQL knows these rows with these counts now."""
        for row, repeats in rows:
            row.stored_repeats = repeats
            if row.repeats == repeats:
                self._counted.pop(id(row), None)

    def _is_too_much(self, message: Noted) -> bool:
        """Count a row for a stranger; whether there have been too many."""
        if not timedelta(0) <= message.at - self._strangers_since < LONGEST:
            self._strangers, self._strangers_since = 0, message.at
            self._surplus.clear()
        self._strangers += 1
        return self._strangers > self._strangers_max

    def _surplus_row(self, message: Noted) -> tuple[LogRow, bool]:
        """The row that messages like this one are counted in, and whether it is new."""
        key = (message.protocol.value, message.direction.value, message.kind, message.status)
        if key not in self._surplus and len(self._surplus) >= _SURPLUS_KINDS_MAX:
            key = (*key[:2], "", "")
            message = replace(message, kind="", status="")
        row = self._surplus.get(key)
        if row is not None:
            return row, False
        row = self._surplus[key] = _row(
            replace(message, summary="of strangers, too many to keep each", body=b"", size=0)
        )
        return row, True

    def _again(self, message: Noted) -> LogRow | None:
        rows = self._open.get((message.protocol.value, message.peer))
        if rows is None:
            return None
        if not _quiet(message, rows):
            del self._open[(message.protocol.value, message.peer)]
            return None
        row = rows.get(_key(message))
        return row if row is not None and message.at - row.at < LONGEST else None

    def _begin(self, message: Noted) -> LogRow:
        row = _row(message)
        place = (message.protocol.value, message.peer)
        rows = self._open.get(place, {})
        if _quiet(message, rows):
            if len(rows) >= _OPEN_PER_PEER:
                rows.pop(next(iter(rows)))
            rows[_key(message)] = row
            self._open[place] = rows
            self._open.move_to_end(place)
            if len(self._open) > _PEERS_IN_MEMORY:
                self._open.popitem(last=False)
        return row


def _quiet(message: Noted, rows: dict[_Key, LogRow]) -> bool:
    """Whether a message tells nothing new when it comes again."""
    if not message.status.startswith("2"):
        return message.peer is None
    if message.peer is None:
        return False
    if message.kind == "oadrResponse":  # it answers much else; after a poll it says that there is nothing
        return any(row.kind == "oadrPoll" for row in rows.values())
    return message.kind == "oadrPoll" or message.kind.startswith("GET ")


def _key(message: Noted) -> _Key:
    """What makes two idle messages the same. Bodies of 2.0b differ by their request ids only."""
    body = message.body.encode("utf-8", "replace") if isinstance(message.body, str) else message.body
    compared = message.kind.startswith("GET ")
    return (message.direction.value, message.kind, message.status, message.summary, zlib.crc32(body) if compared else 0)


def _row(message: Noted) -> LogRow:
    return LogRow(
        at=message.at,
        last_at=message.at,
        repeats=1,
        protocol=message.protocol.value,
        direction=message.direction.value,
        peer=None if message.peer is None else _clean(message.peer)[:_SHORT_MAX],
        kind=_clean(message.kind)[:_SHORT_MAX],
        status=_clean(message.status)[:_SHORT_MAX],
        summary=redacted(_clean(message.summary)[:_SUMMARY_MAX]),
        body=_body(message),
    )


def _body(message: Noted) -> str:
    text = message.body.decode("utf-8", "replace") if isinstance(message.body, bytes) else message.body
    kept = redacted(_clean(text)[:BODY_MAX])
    if message.size <= len(message.body):
        return kept
    unit = "bytes" if isinstance(message.body, bytes) else "characters"
    what = (
        f"cut: {message.size} {unit} in all" if message.body else f"left out: {message.size} {unit}, the log was busy"
    )
    return f"{kept}\n… {what}" if kept else f"… {what}"


def _clean(text: str) -> str:
    """A text PostgreSQL takes. UTF-16 read as UTF-8 is mostly NUL between letters: without them it can be redacted."""
    return text.replace("\0", "").encode("utf-8", "replace").decode()
