"""What each end of the lives says of them, from its own database, and where the two do not agree."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Table, select

from tests.builders_lives import Life
from tests.builders_lives_world import World, ven_id
from vpp.domain.grid_event import GridEvent
from vpp.peering import event_from_json
from vpp.store.tables.commitments import commitment, commitment_target
from vpp.store.tables.downstream import grid_event
from vpp.store.tables.gateway import openadr2_opt, openadr2_report, unavailability, unavailability_told
from vpp.store.tables.openadr2_vtn import vtn2_delivery, vtn2_opt, vtn2_report_request, vtn2_report_value
from vpp.store.tables.openadr3 import openadr3_object
from vpp.store.tables.openadr3_ven import openadr3_event_seen, openadr3_report

Rows = list[Any]
Found = dict[int, list[str]]


@dataclass(slots=True)
class Books:
    """All rows of both ends that are about the lives, read in one transaction each."""

    vtn: Mapping[Table, Rows]
    ven: Mapping[Table, Rows]
    at: datetime


async def read_books(world: World) -> Books:
    """Read both ends."""
    vtn = (grid_event, vtn2_delivery, vtn2_report_request, vtn2_report_value, vtn2_opt, openadr3_object)
    ven = (
        commitment, commitment_target, openadr2_opt, openadr2_report, unavailability, unavailability_told,
        openadr3_event_seen, openadr3_report,
    )  # fmt: skip
    read: list[dict[Table, Rows]] = []
    for store, tables in ((world.vtn, vtn), (world.ven, ven)):
        async with store.begin() as connection:
            read.append({table: list(await connection.execute(select(table))) for table in tables})
    return Books(read[0], read[1], world.clock.now())


def disagreements(world: World, lives: Iterable[Life], books: Books) -> Found:
    """Return what is not the same at both ends, by life; empty lists where all is."""
    index = _Index.of(world, books)
    found: Found = {}
    for life in lives:
        found[life.number] = (
            index.three(life) if life.in_three else [why for n in life.vens for why in index.two(life, n)]
        )
    return found


@dataclass(slots=True)
class _Index:
    world: World
    books: Books
    events: dict[str, Any]
    deliveries: dict[tuple[str, str], Any]
    lives: dict[tuple[str, str], Rows]
    targets: dict[Any, Rows]
    answers: dict[Any, Rows]

    @classmethod
    def of(cls, world: World, books: Books) -> "_Index":
        lives, targets, answers = defaultdict(list), defaultdict(list), defaultdict(list)
        for row in books.ven[commitment]:
            lives[row.source, row.external_id].append(row)
        for row in books.ven[commitment_target]:
            targets[row.commitment_id].append(row)
        for row in books.ven[openadr2_opt]:
            answers[row.commitment_id].append(row)
        return cls(
            world,
            books,
            {row.event_id: row for row in books.vtn[grid_event]},
            {(row.peer_id, row.event_id): row for row in books.vtn[vtn2_delivery]},
            lives,
            targets,
            answers,
        )

    def two(self, life: Life, n: int) -> list[str]:
        """Where the ends of one event of 2.0b disagree about one of its VENs."""
        row = self.events.get(life.event_id)
        if row is None:
            return ["never published"]
        event = event_from_json(row.event)
        told = self.deliveries.get((self.world.peer_ids[n], life.event_id))
        held = sorted(self.lives[f"openadr2:grid-{n}", life.event_id], key=lambda each: each.life)
        wrong = [f"VEN {n}: {why}" for why in self._event(life, event, told, held)]
        return wrong + [f"VEN {n}: {why}" for why in self._reports(life, n)] + self._away(life, n)

    def _event(self, life: Life, event: GridEvent, told: Any, held: Rows) -> Iterable[str]:
        ends_at = event.end_at
        is_over = ends_at is not None and not event.cancelled and ends_at < self.books.at
        if not held:  # over or cancelled before it could be told, so that nobody may think it was answered
            never_told = told is None or told.told_modification is None
            if not (event.cancelled and never_told) and not (is_over and (told is None or told.opt_in is None)):
                yield "it holds nothing of the event"
            return
        last = held[-1]
        if is_over and told is not None and told.told_status != "completed":
            yield f"the end was not told, but {told.told_status}"
        if is_over and last.modification_number < event.modification_number:
            yield from _too_late(told, last)
            return
        revived = sum(act.what == "revive" for act in life.acts)
        if [each.life for each in held] != list(range(1, len(held) + 1)) or len(held) > 1 + revived:
            yield f"it has lives {[each.life for each in held]}, with {revived} revivals"
        if any(not each.cancel_requested for each in held[:-1]):
            yield "an earlier life was never cancelled"
        yield from self._answer(event, told, last)
        if not event.cancelled:
            yield from self._targets(event, last)

    def _answer(self, event: GridEvent, told: Any, last: Any) -> Iterable[str]:
        number = event.modification_number
        if told is None or told.answered_modification != number:
            yield f"version {number} answered up to {told and told.answered_modification}"
        if last.modification_number != number:
            yield f"version {number} there, {last.modification_number} here"
        if last.cancel_requested != event.cancelled or (last.state == "cancelled") != event.cancelled:
            yield f"cancelled {event.cancelled} there, {last.state} here"
        if told is not None and told.opt_in != last.opt_in:
            yield f"opt {told.opt_in} there, {last.opt_in} here"
        if (last.state == "accepted") != (last.opt_in is True and not event.cancelled):
            yield f"opt {last.opt_in} and {last.state}"
        newest = max(self.answers[last.id], key=lambda each: each.modification_number, default=None)
        if newest is None or newest.modification_number != number or newest.sent_at is None:
            yield f"the answer to version {number} is not known to have been taken"
        elif newest.opt_in != last.opt_in:
            yield f"answered {newest.opt_in}, and means {last.opt_in}"

    def _targets(self, event: GridEvent, last: Any) -> Iterable[str]:
        """A life that began during the event has what was left of it; a random start shifts all."""
        rows = self.targets[last.id]
        newest = max((row.modification_number for row in rows), default=None)
        ours = [(r.start_at, r.end_at, r.target_kw) for r in sorted(rows, key=lambda r: r.start_at)
                if r.modification_number == newest]  # fmt: skip
        offset = timedelta(seconds=last.start_offset_s)
        theirs = [
            (part.start_at + offset, part.start_at + (part.duration or timedelta(0)) + offset, part.values[0])
            for part in event.series[0].intervals
        ]
        if last.life > 1 and ours:
            theirs = [(max(start_at, ours[0][0]), end_at, kw) for start_at, end_at, kw in theirs if end_at > ours[0][0]]
        if newest != event.modification_number or ours != theirs:
            yield f"targets {theirs} there, {ours} here (version {newest})"

    def _reports(self, life: Life, n: int) -> Iterable[str]:
        for number, request_id in self.world.reports.get(life.number, []):
            if number == n:
                yield from values_disagree(self.books, f"openadr2:grid-{n}", {request_id})
                (request,) = (r for r in self.books.vtn[vtn2_report_request] if r.report_request_id == request_id)
                came = sum(row.report_request_id == request_id for row in self.books.vtn[vtn2_report_value])
                if (request.state, came) != ("done", 1):
                    yield f"the single value asked for: {came} came, the request is {request.state}"

    def _away(self, life: Life, n: int) -> list[str]:
        wrong = []
        for declared in (d for d in self.books.ven[unavailability] if d.id in self.world.away.get(life.number, ())):
            if declared.peer != f"grid-{n}":
                continue
            opt = next((o for o in self.books.vtn[vtn2_opt] if o.opt_id == declared.id), None)
            window = [{"start_at": declared.start_at.isoformat(), "end_at": declared.end_at.isoformat()}]
            if opt is None:
                told = any(t.unavailability_id == declared.id for t in self.books.ven[unavailability_told])
                if told or declared.withdrawn_at is None:
                    wrong.append(f"VEN {n}: unavailability never told")
            elif opt.windows != window or opt.opt_in:
                wrong.append(f"VEN {n}: away {window} here, {opt.windows} there")
            elif (opt.cancelled_at is None) != (declared.withdrawn_at is None):
                wrong.append(f"VEN {n}: away since {opt.cancelled_at} there, {declared.withdrawn_at} here")
        return wrong

    def three(self, life: Life) -> list[str]:
        """Where the ends of one event of OpenADR 3 disagree."""
        event_id, body, n = self.world.events3[life.number], self.world.bodies3[life.number], life.vens[0]
        source = f"openadr3:grid3-{n}"
        there = [row for row in self.books.vtn[openadr3_object] if row.kind == "EVENT" and row.id == event_id]
        named = [row for row in self.books.vtn[openadr3_object] if row.kind == "EVENT" and row.name == life.event_id]
        seen = next(
            (s for s in self.books.ven[openadr3_event_seen] if (s.source, s.event_id) == (source, event_id)), None
        )
        held = self.lives[source, event_id]
        was_over = life.is_long and life.acts[-1].what == "leave" and self.books.at > self.world.window(life)[1]
        if seen is None and was_over and there:  # it was, before we were back to hear of it
            return []
        if bool(there) != (body is not None) or len(named) != len(there):
            return [f"at the VTN there are {len(there)} of this id and {len(named)} of this name"]
        if body is None:
            return list(_gone(seen, held))
        return [*self._there(body, seen, held), *self._reports3(life, event_id, source)]

    def _there(self, body: Mapping[str, Any], seen: Any, held: Rows) -> Iterable[str]:
        if seen is None or seen.gone_at is not None or seen.outcome == "new":
            yield f"not held as it stands: {seen and seen.outcome}"
            return
        if not held and seen.reason == "the event is over":  # it was, before we were back to hear of it
            return
        if len(held) != 1:
            yield f"{len(held)} commitments"
            return
        (one,) = held
        rows = sorted(self.targets[one.id], key=lambda row: row.start_at)
        ours = [row.target_kw for row in rows if row.modification_number == max(r.modification_number for r in rows)]
        theirs = [each["payloads"][0]["values"][0] for each in body["intervals"]]
        if ours != theirs or one.modification_number != seen.modification_number or one.cancel_requested:
            yield f"{theirs} there, {ours} here, {one.state}"
        if (seen.outcome == "in") != (one.opt_in is True):
            yield f"outcome {seen.outcome}, opt {one.opt_in}"

    def _reports3(self, life: Life, event_id: str, source: str) -> Iterable[str]:
        sent = [r for r in self.books.ven[openadr3_report] if (r.source, r.event_id) == (source, event_id)]
        came = [r for r in self.books.vtn[openadr3_object] if r.kind == "REPORT" and r.event_id == event_id]
        if life.is_long != bool(sent):
            yield f"{len(sent)} reports of an event that is{'' if life.is_long else ' not'} running"
        if any(each.sent_at is None for each in sent):
            yield "a report was not sent"
        if sorted(str(each.report_id) for each in sent) != sorted(each.id for each in came):
            yield f"{len(sent)} reports sent, {len(came)} came"


def _too_late(told: Any, last: Any) -> Iterable[str]:
    """The event was over before its last version could be told: the VTN must know of no answer to it."""
    if told is not None and (told.answered_modification or 0) > last.modification_number:
        yield f"over with version {last.modification_number} here, and {told.answered_modification} answered there"


def _gone(seen: Any, held: Rows) -> Iterable[str]:
    if seen is not None and seen.outcome != "gone":
        yield f"deleted there, {seen.outcome} here"
    if any(each.state != "cancelled" for each in held) or len(held) > 1:
        yield f"deleted there, {[each.state for each in held]} here"


def values_disagree(books: Books, source: str, request_ids: set[str] | None = None) -> Iterable[str]:
    """Where report values sent and received differ, of these requests or of all."""
    ours = [row for row in books.ven[openadr2_report] if row.source == source]
    if request_ids is not None:
        ours = [row for row in ours if row.report_request_id in request_ids]
    if any(row.sent_at is None for row in ours):
        yield "a value is not sent yet"
    ids = {row.report_request_id for row in ours} | (request_ids or set())
    sent = sorted((r.report_request_id, r.point_id, r.start_at) for r in ours)
    came = sorted((r.report_request_id, r.r_id, r.start_at) for r in books.vtn[vtn2_report_value]
                  if r.report_request_id in ids)  # fmt: skip
    if sent != came:
        yield f"values sent {sent}, received {came}"


def periodic_disagree(world: World, books: Books) -> list[str]:
    """Where values of all reports of a VEN, those sent every minute included, differ."""
    wrong = []
    for n, peer_id in enumerate(world.peer_ids):
        wrong += [f"VEN {n}: {why}" for why in values_disagree(books, f"openadr2:grid-{n}")]
        strays = {r.report_request_id for r in books.vtn[vtn2_report_value] if r.peer_id == peer_id}
        strays -= {r.report_request_id for r in books.ven[openadr2_report]}
        if strays:
            wrong.append(f"VEN {n} ({ven_id(n)}): values it does not know of, {strays}")
    return wrong
