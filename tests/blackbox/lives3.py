"""Lives of OpenADR 3 clients: some are their own business logic; events for the others are the operator's."""

from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.blackbox.peer import Peer, running_peer
from tests.blackbox.service import Service
from tests.blackbox.told import CONTEXT, at, for_ven, levels

NEW, OLD = "/openadr3/3.1.0", "/openadr3/3.0.1"
Told = list[dict[str, Any]]


@dataclass(slots=True)
class VenLife:
    """What a VEN saw of the operator's event, and what of its report is read by business logic.

    Attributes:
        first: the event as it was told; `changed` once it was modified, `cancelled` once it was cancelled.
        read: the reports on it, by business logic of 3.1.0.
    """

    peer: Peer
    event_id: str
    first: Told
    changed: Told
    cancelled: Told
    read: list[dict[str, Any]]
    facts: dict[str, Any] = field(default_factory=dict)


def both_sides(service: Service, environment: str, script: str, name: str) -> Peer:
    """A peer that is business logic and VEN at once, and lives its life by itself."""
    bl, ven = _client(service, f"{name}-bl", "bl"), _client(service, name, "ven")
    log = service.folder / f"{name}.log"
    with running_peer(environment, script, log, url=service.url + NEW, bl=bl, ven=ven) as peer:
        peer.hear("done")
        return peer


def oa3(service: Service) -> Peer:
    """The life of python-oa3-client: it is called back, too, and takes back its subscription at the end."""
    bl, ven = _client(service, "oa3-bl", "bl"), _client(service, "oa3", "ven")
    log = service.folder / "oa3.log"
    with running_peer("python-oa3-client", "oa3_client", log, url=service.url + NEW, bl=bl, ven=ven) as peer:
        peer.hear("done")
        for operation in ("CREATE", "UPDATE", "DELETE"):
            peer.hear("notified", operation=operation)
        peer.ask("unsubscribe")
        return peer


def toadr3(service: Service) -> VenLife:
    """The life of toadr3's VEN, with a subscription."""
    name, ven = "toadr", _client(service, "toadr", "ven")
    event = service.api("POST", "/api/v1/grid-events", for_ven(name, levels(1, 2), start_at=at(3600), priority=3))
    log = service.folder / f"{name}.log"
    with running_peer("toadr3", "toadr3_client", log, url=service.url + OLD, ven=ven) as peer:
        program = peer.ask("programs")[CONTEXT]
        subscription, listed = peer.ask("subscribe", program_id=program)
        facts = {"subscription": subscription, "listed": listed}
        facts["forbidden"] = peer.ask("delete_program", program_id=program)
        life = _event_life(service, peer, program, event, "events", facts)
        peer.hear("notified", operation="PUT")
        life.facts["unsubscribed"] = peer.ask("unsubscribe", subscription_id=subscription)
        return life


def ud(service: Service) -> VenLife:
    """The life of oadr30-ven-ud's VEN, which comes with its resources."""
    name, ven = "ud", _client(service, "ud", "ven")
    event = service.api("POST", "/api/v1/grid-events", for_ven(name, levels(1, 2), start_at=at(3600)))
    log = service.folder / f"{name}.log"
    with running_peer("oadr30-ven-ud", "ud_ven", log, url=service.url + OLD, ven=ven) as peer:
        facts = {"ven": peer.ask("create", name=name)}
        program = peer.ask("programs")[CONTEXT]
        facts["ids"] = peer.ask("events", program_id=program)
        return _event_life(service, peer, program, event, "series", facts)


def _event_life(
    service: Service, peer: Peer, program: str, event: dict[str, Any], way: str, facts: dict[str, Any]
) -> VenLife:
    object_id: str = event["openadr3_id"]
    first = peer.ask(way, program_id=program)
    event = service.modify(event, series=[levels(3, 0)])
    changed = peer.ask(way, program_id=program)
    facts["report"] = peer.ask("report", program_id=program, event_id=object_id)
    service.cancel(event)
    cancelled = peer.ask(way, program_id=program)
    read = _reports(service, object_id)
    return VenLife(peer, object_id, first, changed, cancelled, read, facts)


def _client(service: Service, name: str, role: str) -> dict[str, str]:
    """Add a peer and return what its client must know."""
    told = service.add_peer(name, "openadr3", role)
    return {key: told[key] for key in ("client_id", "client_secret")}


def _reports(service: Service, event_id: str) -> list[dict[str, Any]]:
    """What business logic reads; it gets its token by HTTP Basic."""
    bl = _client(service, f"reader-{event_id[:8]}", "bl")
    with httpx.Client(base_url=service.url + NEW, timeout=30) as http:
        form = {"grant_type": "client_credentials"}
        token = http.post("/auth/token", data=form, auth=(bl["client_id"], bl["client_secret"])).json()["access_token"]
        answer = http.get("/reports", params={"eventID": event_id}, headers={"authorization": f"Bearer {token}"})
        found: list[dict[str, Any]] = answer.raise_for_status().json()
        return found
