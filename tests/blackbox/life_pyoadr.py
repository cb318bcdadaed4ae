"""The life of pyoadr-ven's agent as a VEN of ours: it writes what the schema does not allow, and is understood."""

from dataclasses import dataclass
from typing import Any

from tests.blackbox.peer import Peer, running_peer
from tests.blackbox.service import Service
from tests.blackbox.told import at, for_ven, levels
from vpp.domain.openadr2 import ReportOffer
from vpp.peering import (
    VenAnswer,
    VenReportValue,
    event_answers,
    next_report_values,
    report_offers,
    report_requests,
)

NAME = "lenient"
REPORTS = 'reports={"TELEMETRY_USAGE": {"granularity_s": 1, "back_s": 1}}'


@dataclass(slots=True)
class AgentLife:
    """What came of it; `tolerated` are the deviations by kind of message, as the message log names them."""

    ven: Peer
    event: str
    registered: dict[str, Any]
    answer: VenAnswer
    offers: list[ReportOffer]
    state: str
    values: list[VenReportValue]
    tolerated: dict[str, set[str]]


def pyoadr_agent(service: Service) -> AgentLife:
    """Live it: with real processes, real time and the operator's API."""
    peer_id = service.add_peer(NAME, "openadr2", "ven", "--config", REPORTS)["id"]
    told = for_ven(NAME, levels(1, 2), start_at=at(3600))
    event = service.api("POST", "/api/v1/grid-events", told)
    ident, url = event["event_id"], service.vtn2_url.removesuffix("/OpenADR2/Simple/2.0b")
    with running_peer("pyoadr-ven", "pyoadr_agent", service.folder / "pyoadr.log", name=NAME, url=url) as ven:
        registered = ven.hear("registered")
        ven.hear("event", id=ident, number=0)
        event = service.modify(event, series=[levels(2, 3)])
        ven.hear("event", id=ident, number=1, status="far")
        event = service.modify(event, start_at=at(-1), series=[levels(3, 1)])
        ven.hear("event", id=ident, number=2, status="active")
        event = service.modify(event, series=[levels(1, 1)])
        ven.hear("event", id=ident, number=3, status="active")
        service.cancel(event)
        ven.hear("event", id=ident, status="cancelled")
        return AgentLife(
            ven=ven,
            event=ident,
            registered=registered,
            answer=service.until(lambda c: _answer(c, ident, 4)),
            offers=service.look(lambda c: report_offers(c, peer_id)),
            values=service.until(lambda c: _values(c, peer_id)),
            state=service.look(lambda c: report_requests(c, peer_id))[0].state,
            tolerated=_tolerated(service, peer_id),
        )


async def _answer(connection: Any, ident: str, number: int) -> VenAnswer | None:
    found = [
        each
        for each in await event_answers(connection, ident, tenant_id="default")
        if each.answered_modification == number
    ]
    return found[0] if found else None


async def _values(connection: Any, peer_id: str) -> list[VenReportValue]:
    every = await next_report_values(connection, "blackbox", tenant_id="default")
    found = [each for each in every if each.peer_id == peer_id]
    return found if len(found) > 2 else []


def _tolerated(service: Service, peer_id: str) -> dict[str, set[str]]:
    page = service.api("GET", f"/api/v1/peers/messages?peer={peer_id}&direction=in&limit=100")
    found: dict[str, set[str]] = {}
    for each in page["items"]:
        parts = each["summary"].split("; ")
        names = (part.removeprefix("tolerated: ").split(", ") for part in parts if part.startswith("tolerated: "))
        found.setdefault(each["kind"], set()).update(*names)
    return found
