"""Checks of objects: made, read, replaced, removed, refused. Listed in `checks`."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NoReturn

from market.openadr3.conformance.bodies import (
    PAYLOAD,
    VALUES,
    event,
    own_ven,
    program,
    report,
    resource_of,
    shape_error,
    ven_of,
)
from market.openadr3.conformance.session import Answer, Client, Session3
from vpp.domain.conformance import Failed, Skipped

_TIMES = ("createdDateTime", "modificationDateTime")


async def programs(session: Session3) -> str:
    """Business logic makes, replaces and removes a programme."""
    return await _life(session, _Life(await session.bl(), "programs", program(session, "life")))


async def events(session: Session3) -> str:
    """The same for an event."""
    bl = await session.bl()
    made = (await bl.create("/programs", program(session, "events"))).made()
    return await _life(session, _Life(bl, "events", event(session, made["id"])))


async def vens(session: Session3) -> str:
    """The same for a ven."""
    bl = await session.bl()
    return await _life(session, _Life(bl, "vens", ven_of(session, _client_id(session), "life")))


async def resources(session: Session3) -> str:
    """The same for a resource."""
    bl, client_id = await session.bl(), _client_id(session)
    ven = (await bl.create("/vens", ven_of(session, client_id, "with-resource"))).made()["id"]
    path = f"/vens/{ven}/resources" if session.is_older else "/resources"
    body = resource_of(session, ven, client_id, "life")
    return await _life(session, _Life(bl, "resources", body, path))


async def reports(session: Session3) -> str:
    """A VEN makes, replaces and removes a report on an event."""
    bl, ven = await session.bl(), await session.ven()
    made = (await bl.create("/programs", program(session, "reports"))).made()
    told = (await bl.create("/events", event(session, made["id"]))).made()
    return await _life(session, _Life(ven, "reports", report(session, made["id"], told["id"])))


async def own_vens(session: Session3) -> str:
    """A VEN makes, replaces and removes a ven of its own."""
    ven = await session.ven()
    return await _life(session, _Life(ven, "vens", own_ven(session, "own")))


async def duplicate_program(session: Session3) -> str:
    """Two programmes have no name in common."""
    bl = await session.bl()
    (await bl.create("/programs", program(session, "twice"))).made()
    answer = await bl.create("/programs", program(session, "twice"))
    answer.expect(409)
    return f"refused: {answer.brief}"


async def duplicate_ven(session: Session3) -> str:
    """Two vens have no name in common."""
    bl, client_id = await session.bl(), _client_id(session)
    (await bl.create("/vens", ven_of(session, client_id, "twice"))).made()
    answer = await bl.create("/vens", ven_of(session, client_id, "twice"))
    answer.expect(409)
    return f"refused: {answer.brief}"


async def unknown_id(session: Session3) -> str:
    """What does not exist is not found."""
    answer = await (await session.anybody()).get("/programs/conformance-does-not-exist")
    answer.expect(404)
    return f"refused: {answer.brief}"


async def invalid_body(session: Session3) -> str:
    """A body the document does not allow is refused."""
    bl = await session.bl()
    answers = [
        await bl.create("/programs", {"programName": 7}),
        await bl.create("/programs", {}),
        await bl.create("/events", {"intervals": []}),
    ]
    for each in answers:
        each.expect(400)
    return "a name that is a number, no name, and an event of no programme are refused"


async def explicit_nulls(session: Session3) -> str:
    """Where the document says nullable, null is taken."""
    bl = await session.bl()
    nulls = {"targets": None, "payloadDescriptors": None}
    made = (await bl.create("/programs", program(session, "nulls", **nulls))).made()
    more = nulls | {"priority": None, "reportDescriptors": None}
    (await bl.create("/events", event(session, made["id"], **more))).made()
    return "taken for targets, payloadDescriptors, reportDescriptors and priority"


async def custom_payload(session: Session3) -> str:
    """A payload type of one's own is kept as it was sent."""
    bl = await session.bl()
    made = (await bl.create("/programs", program(session, "custom"))).made()
    told = (await bl.create("/events", event(session, made["id"]))).made()
    found = (await bl.get(f"/events/{told['id']}")).made()
    kept = found.get("intervals")
    payloads = kept[0].get("payloads") if isinstance(kept, list) and kept and isinstance(kept[0], dict) else None
    if payloads != [{"type": PAYLOAD, "values": VALUES}]:
        raise Failed(f"payload {PAYLOAD} with values {VALUES} came back as {payloads}")
    return f"{PAYLOAD} came back with its number, text and truth value"


async def zoned(session: Session3) -> str:
    """Times say their zone."""
    found = [
        (answer.asked, name, answer.content[name])
        for answer in session.answers
        if answer.status in (200, 201) and isinstance(answer.content, dict)
        for name in _TIMES
        if name in answer.content
    ]
    if not found:
        raise Skipped("no object was shown to us")
    for asked, name, text in found:
        if not _has_zone(text):
            raise Failed(f"{asked}: {name} {text!r} is no RFC 3339 time with a zone")
    return f"all {len(found)} of them"


async def problems(session: Session3) -> str:
    """Every refusal says why, as a `problem`."""
    refusals = [each for each in session.answers if each.status >= 400]
    if not refusals:
        raise Skipped("nothing was refused")
    for each in refusals:
        if (why := _problem_error(each)) is not None:
            raise Failed(f"{each.asked}, HTTP {each.status}: {why}")
    return f"all {len(refusals)} refusals"


async def json_bodies(session: Session3) -> str:
    """Every success is JSON."""
    judged = [each for each in session.answers if 200 <= each.status < 300]
    if not judged:
        raise Skipped("nothing succeeded")
    for each in judged:
        if each.content_type.partition(";")[0].strip().lower() != "application/json":
            raise Failed(f"{each.asked}: Content-Type {each.content_type or 'none'}")
        try:
            json.loads(each.body, parse_constant=_refused)
        except (ValueError, RecursionError) as error:
            raise Failed(f"{each.asked}: no JSON: {str(error)[:100]}") from error
    return f"all {len(judged)} answers"


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is none of JSON's numbers")


@dataclass(frozen=True, slots=True)
class _Life:
    """Who makes what, and where."""

    client: Client
    kind: str
    body: dict[str, Any]
    path: str = ""

    @property
    def collection(self) -> str:
        return self.path or f"/{self.kind}"


async def _life(session: Session3, life: _Life) -> str:
    answer = await life.client.create(life.collection, life.body)
    answer.expect(201)
    made = answer.made()
    if (why := shape_error(session, life.kind, made)) is not None:
        raise Failed(f"{answer.asked}: {why}")
    lost = [key for key, value in life.body.items() if key != "objectType" and made.get(key) != value]
    if lost:
        raise Failed(f"{answer.asked}: {', '.join(lost)} came back other than sent")
    one = f"{life.collection}/{made['id']}"
    read = (await life.client.get(one)).made()
    if read.get("id") != made["id"]:
        raise Failed(f"GET {one} shows {read.get('id')}")
    replaced = (await life.client.replace(one, life.body)).made()
    if (replaced.get("id"), replaced.get("createdDateTime")) != (made["id"], made["createdDateTime"]):
        raise Failed(f"PUT {one} changed its id or createdDateTime")
    (await life.client.delete(one)).expect(200)
    (await life.client.get(one)).expect(404)
    return "made, read, replaced and removed; not found afterwards"


def _client_id(session: Session3) -> str:
    return session.vtn.ven.client_id if session.vtn.ven is not None else session.tag


def _has_zone(text: object) -> bool:
    if not isinstance(text, str):
        return False
    try:
        return "T" in text.upper() and datetime.fromisoformat(text.replace("Z", "+00:00")).tzinfo is not None
    except ValueError:
        return False


def _problem_error(answer: Answer) -> str | None:
    said = answer.content
    if not isinstance(said, dict):
        return "the body is no JSON object"
    if "error" in said and "status" not in said:
        return None  # RFC 6749's own, of a token endpoint
    if said.get("status", answer.status) != answer.status:
        return f"status in the body is {said['status']}"
    if not isinstance(said.get("title"), str) and not isinstance(said.get("detail"), str):
        return "neither title nor detail says why"
    return None
