"""Checks of lists: their bounds, their order, and what they leave out. Listed in `checks`."""

from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

from market.openadr3.conformance.bodies import event, program, shape_error
from market.openadr3.conformance.session import Client, Session3
from vpp.domain.conformance import Failed, Skipped

PAGE_MAX = 50


def listing(path: str) -> Callable[[Session3], Awaitable[str]]:
    """Return the check that a collection is a list of what it should hold."""

    async def run(session: Session3) -> str:
        client = await session.anybody()
        found = await _list(client, f"/{path}")
        if len(found) > PAGE_MAX:
            raise Failed(f"{len(found)} objects in one page; the document allows {PAGE_MAX}")
        for each in found:
            if (why := shape_error(session, path, each)) is not None:
                raise Failed(f"/{path}/{each.get('id') if isinstance(each, dict) else '?'}: {why}")
        return f"{len(found)} objects, each as the document has it"

    return run


async def limit(session: Session3) -> str:
    """A page holds no more than was asked for, and nobody can ask for what the document forbids."""
    client = await session.anybody()
    found = await _list(client, "/programs", ("limit", "1"))
    if len(found) > 1:
        raise Failed(f"limit=1 was answered with {len(found)} objects")
    for name, value in (("limit", str(PAGE_MAX + 1)), ("limit", "-1"), ("skip", "-1"), ("limit", "many")):
        (await client.get("/programs", (name, value))).expect(400)
    return f"limit=1 is heeded; limit={PAGE_MAX + 1}, limit=-1, skip=-1 and limit=many are refused"


async def order(session: Session3) -> str:
    """Pages fit together: the same order each time, so that nothing is missed or told twice."""
    bl = await session.bl()
    made = [(await bl.create("/programs", program(session, f"order-{number}"))).made()["id"] for number in range(3)]
    page = [each.get("id") for each in await _list(bl, "/programs", ("skip", "0"), ("limit", "10"))]
    if page != [each.get("id") for each in await _list(bl, "/programs", ("skip", "0"), ("limit", "10"))]:
        raise Failed("the same page came in two orders")
    single = [
        each.get("id")
        for skip in range(3)
        for each in await _list(bl, "/programs", ("skip", str(skip)), ("limit", "1"))
    ]
    if single != page[:3]:
        raise Failed("pages of one object are not the beginning of a page of ten")
    for each in made:
        (await bl.delete(f"/programs/{each}")).expect(200)
    return "pages of one are the beginning of a page of ten, twice"


async def active(session: Session3) -> str:
    """`active` leaves out events that are over."""
    if session.is_older:
        raise Skipped("3.0.1 has no `active`")
    bl = await session.bl()
    made = (await bl.create("/programs", program(session, "active"))).made()
    over_at = session.clock.now() - timedelta(days=30)
    over = (await bl.create("/events", event(session, made["id"], start_at=over_at))).made()["id"]
    to_come = (await bl.create("/events", event(session, made["id"]))).made()["id"]
    mine = ("programID", made["id"])
    every = {each.get("id") for each in await _list(bl, "/events", mine)}
    if every != {over, to_come}:
        raise Failed("programID does not list the programme's two events")
    shown = {each.get("id") for each in await _list(bl, "/events", mine, ("active", "true"))}
    if over in shown:
        raise Failed("active=true shows an event that ended a month ago")
    if to_come not in shown:
        raise Failed("active=true hides an event that is still to come")
    return "an event of last month is left out, one to come is not"


async def _list(client: Client, path: str, *query: tuple[str, str]) -> list[Any]:
    answer = await client.get(path, *query)
    found = answer.expect(200)
    if not isinstance(found, list):
        raise Failed(f"{answer.asked} was answered with no JSON list")
    return found
