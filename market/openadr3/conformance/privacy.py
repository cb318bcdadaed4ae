"""Checks of who sees what, and of being told. Listed in `checks`."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

from market.openadr3.conformance.bodies import event, own_ven, program, ven_of
from market.openadr3.conformance.session import Client, Session3
from vpp.domain.conformance import Failed, Skipped


async def client_stamped(session: Session3) -> str:
    """What a VEN makes is marked as its own, by its token."""
    _only_newer(session)
    ven = await session.ven()
    made = (await ven.create("/vens", own_ven(session, "stamped"))).made()
    if made.get("clientID") != ven.credential.client_id:
        raise Failed(f"clientID is {made.get('clientID')!r}, not {ven.credential.client_id!r}")
    return f"clientID {made['clientID']}"


async def private(session: Session3) -> str:
    """A VEN does not see what is another's."""
    _only_newer(session)
    ven, other = await session.ven(), await session.other_ven()
    made = (await ven.create("/vens", own_ven(session, "private"))).made()["id"]
    (await other.get(f"/vens/{made}")).expect(404, 403)
    if made in await _ids(other, "/vens"):
        raise Failed("the list of vens shows another client's")
    if made not in await _ids(ven, "/vens", ("venName", f"{session.tag}-private")):
        raise Failed("the list of vens hides a client's own from it")
    (await other.replace(f"/vens/{made}", own_ven(session, "taken"))).expect(404, 403)
    return "neither read, listed nor replaced by another VEN"


async def targets(session: Session3) -> str:
    """What has targets is for those that were granted one of them, and shows only these."""
    _only_newer(session)
    bl, ven = await session.bl(), await session.ven()
    mine, others = f"{session.tag}-mine", f"{session.tag}-others"
    (await bl.create("/vens", ven_of(session, ven.credential.client_id, "targeted", targets=[mine]))).made()
    made = (await bl.create("/programs", program(session, "targeted"))).made()["id"]
    told = (await bl.create("/events", event(session, made, targets=[mine, others]))).made()["id"]
    secret = (await bl.create("/events", event(session, made, targets=[others]))).made()["id"]
    shown = (await ven.get("/events", ("programID", made), ("targets", mine))).expect(200)
    found = {each.get("id"): each.get("targets") for each in shown if isinstance(each, dict)}
    if told not in found:
        raise Failed("an event of a granted target is not shown to a VEN that asks for it")
    if found[told] != [mine]:
        raise Failed(f"of targets {mine}, {others} the VEN is shown {found[told]}")
    if secret in await _ids(ven, "/events", ("programID", made), ("targets", others)):
        raise Failed("an event is shown by a target the VEN was not granted")
    if {told, secret} & await _ids(ven, "/events", ("programID", made)):
        raise Failed("events with targets are shown to a VEN that names none")
    (await ven.get(f"/events/{secret}")).expect(404, 403)
    return "shown by a granted target, with that target alone; hidden otherwise"


async def ven_grants_nothing(session: Session3) -> str:
    """A VEN cannot grant itself a target."""
    _only_newer(session)
    bl, ven = await session.bl(), await session.ven()
    wanted = f"{session.tag}-wanted"
    answer = await ven.create("/vens", own_ven(session, "greedy") | {"targets": [wanted]})
    if answer.status in (400, 403):
        return f"refused: {answer.brief}"
    answer.made()
    made = (await bl.create("/programs", program(session, "greedy"))).made()["id"]
    told = (await bl.create("/events", event(session, made, targets=[wanted]))).made()["id"]
    if told in await _ids(ven, "/events", ("programID", made), ("targets", wanted)):
        raise Failed("a VEN that wrote a target on its own ven is shown what is for that target")
    return "its word on targets is passed over"


async def notifiers(session: Session3) -> str:
    """It says by which ways it tells of changes."""
    _only_newer(session)
    told = (await (await session.anybody()).get("/notifiers")).expect(200)
    if not isinstance(told, dict) or not isinstance(told.get("WEBHOOK"), bool):
        raise Failed("the answer does not say whether there are webhooks")
    return f"webhooks: {'yes' if told['WEBHOOK'] else 'no'}, MQTT: {'yes' if told.get('MQTT') else 'no'}"


async def webhook(session: Session3) -> str:
    """It asks a callback whether it wants to be called, before it keeps a subscription."""
    url, port = session.vtn.callback_url, session.vtn.callback_port
    if url is None or port is None:
        raise Skipped("needs --callback-url, public, and --callback-port, where it leads to on this machine")
    client = await session.anybody()
    made = (await client.create("/programs", program(session, "webhook"))).made()["id"]
    body = {
        "clientName": session.tag,
        "programID": made,
        "objectOperations": [{"objects": ["EVENT"], "operations": ["CREATE"], "callbackUrl": url}],
    }
    async with _callback(port, lambda echo: "something else") as asked:
        answer = await client.create("/subscriptions", body)
        if not asked:
            raise Failed(f"a subscription was answered with {answer.brief}, and {url} was never asked")
        answer.expect(400)
    async with _callback(port, lambda echo: echo):
        (await client.create("/subscriptions", body)).made()
    return "a callback that does not say back the challenge is refused, one that does is kept"


@asynccontextmanager
async def _callback(port: int, says: Callable[[str], str]) -> AsyncIterator[list[str]]:
    """A subscriber's server on this machine; yields the challenges it was asked."""
    asked: list[str] = []

    async def answer(request: web.BaseRequest) -> web.Response:
        echo = request.query.get("echo")
        if request.method == "GET" and echo is not None:
            asked.append(echo)
            return web.Response(text=says(echo))
        return web.Response(text="")

    runner = web.ServerRunner(web.Server(answer, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", port).start()
        yield asked
    except OSError as error:
        raise Skipped(f"port {port} of this machine cannot be listened on: {error.strerror}") from error
    finally:
        await runner.cleanup()


def _only_newer(session: Session3) -> None:
    if session.is_older:
        raise Skipped("3.0.1 does not have it")


async def _ids(client: Client, path: str, *query: tuple[str, str]) -> set[Any]:
    found = (await client.get(path, *query)).expect(200)
    return {each.get("id") for each in found if isinstance(each, dict)} if isinstance(found, list) else set()
