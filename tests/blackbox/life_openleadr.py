"""The life of openleadr's client as a VEN of ours, through a killed VTN."""

import os
import signal
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tests.blackbox.peer import Peer, running_peer
from tests.blackbox.service import Service, until
from tests.blackbox.told import at, for_ven, levels, setpoints
from vpp.peering import (
    VenAnswer,
    VenReportValue,
    VenState,
    ask_report,
    ask_reregistration,
    cancel_report,
    event_answers,
    next_report_values,
    report_offers,
    report_requests,
    ven_states,
)

NAME = "stock"
SECOND = timedelta(seconds=1)


@dataclass(slots=True)
class ClientLife:
    """What came of it.

    Attributes:
        first: the event that is told, modified before and during, and cancelled; `last` the one kept all along.
        short: an event of two seconds.
        answers: to `first`, by modification; `opted` and `unopted`: to `last`, with its opt and without it.
        values: by report request: `periodic`, `once`.
    """

    ven: Peer
    first: str
    last: str
    short: str
    registered: dict[str, Any]
    answers: dict[int, VenAnswer]
    opted: VenAnswer
    unopted: VenAnswer
    offered: list[str]
    periodic: list[VenReportValue]
    once: list[VenReportValue]
    states: dict[str, str]
    ended: VenState
    again: dict[str, Any]
    told_again: dict[str, Any]


def openleadr_client(service: Service) -> ClientLife:
    """Live it: with real processes, real time and the operator's API."""
    peer_id = service.add_peer(NAME, "openadr2", "ven", "--group", "feeder-7")["id"]
    grouped = [{"kind": "group", "value": "feeder-7"}]
    last = service.api(
        "POST", "/api/v1/grid-events",
        for_ven(NAME, levels(1), start_at=at(7200), priority=1, is_test=True, comment="a trial") | {"targets": grouped},
    )  # fmt: skip
    event = service.api(
        "POST", "/api/v1/grid-events", for_ven(NAME, setpoints(8.0, 4.0), levels(2, length_s=3600), start_at=at(3600))
    )
    with running_peer(
        "openleadr", "openleadr_client", service.folder / "stock.log", name=NAME, url=service.vtn2_url
    ) as ven:
        registered = ven.hear("registered")
        offered = [offer.specifier_id for offer in service.until(lambda c: report_offers(c, peer_id))]
        periodic, once = _ask_reports(service, peer_id)
        answers = _live_event(service, ven, event)
        opted, unopted = _opt(service, ven, last["event_id"])
        short = _short_event(service, ven)
        known = _values(service, periodic, 2)
        _stop_report(service, periodic)
        states = {each.demand.specifier_id: each.state for each in service.look(lambda c: report_requests(c, peer_id))}
        return ClientLife(
            ven=ven, first=event["event_id"], last=last["event_id"], short=short, registered=registered,
            answers=answers, opted=opted, unopted=unopted, offered=offered, periodic=known,
            once=_values(service, once, 1), states=states, **_registrations(service, ven, peer_id, last["event_id"]),
        )  # fmt: skip


def _live_event(service: Service, ven: Peer, event: dict[str, Any]) -> dict[int, VenAnswer]:
    """Modified before, near, at its beginning, while the VTN is down, then cancelled."""
    ident, answers = event["event_id"], {}

    def answered(number: int) -> None:
        answers[number] = service.until(lambda c: _answer(c, ident, number))

    ven.hear("event", id=ident, number=0)
    answered(0)
    ven.ask("answer_with", says="optOut")
    event = service.modify(event, series=[setpoints(6.0, 3.0), levels(2, length_s=3600)])
    ven.hear("event", id=ident, number=1, status="far")
    answered(1)
    ven.ask("answer_with", says="optIn")
    event = service.modify(event, start_at=at(300), duration_s=3600, ramp_up_s=600, series=_moved(6.0, 3.0))
    ven.hear("event", id=ident, number=2, status="near")
    event = service.modify(event, start_at=at(-1), series=_moved(5.0, 2.0))
    ven.hear("event", id=ident, number=3, status="active")
    answered(3)
    _kill_vtn(service)
    event = service.modify(event, comment="told while the VTN was down")
    ven.hear("event", id=ident, number=4, status="active")
    answered(4)
    service.cancel(event)
    ven.hear("event", id=ident, number=5, status="cancelled")
    answered(5)
    return answers


def _moved(*values_kw: float) -> list[dict[str, Any]]:
    return [setpoints(*values_kw), levels(2, length_s=3600)]


def _kill_vtn(service: Service) -> None:
    """The VTN's process is gone without a word; `vpp serve` starts another."""
    children = Path(f"/proc/{service.pid}/task/{service.pid}/children")
    (vtn,) = [int(each) for each in children.read_text().split()]
    os.kill(vtn, signal.SIGKILL)
    until(lambda: children.read_text().split() not in ([], [str(vtn)]))


def _short_event(service: Service, ven: Peer) -> str:
    told = for_ven(NAME, setpoints(1.0, length_s=3.0), start_at=at(0.5))
    ident: str = service.api("POST", "/api/v1/grid-events", told)["event_id"]
    ven.hear("event", id=ident, status="active")
    ven.hear("event", id=ident, status="completed")
    return ident


def _opt(service: Service, ven: Peer, ident: str) -> tuple[VenAnswer, VenAnswer]:
    ven.ask("opt_out", event_id=ident, number=0, opt_id="opt-1")
    opted = service.look(lambda c: _answer(c, ident, 0))
    ven.ask("opt_back", opt_id="opt-1")
    unopted = service.look(lambda c: _answer(c, ident, 0))
    assert opted is not None
    assert unopted is not None
    return opted, unopted


async def _answer(connection: Any, ident: str, number: int) -> VenAnswer | None:
    answers = {each.name: each for each in await event_answers(connection, ident, tenant_id="default")}
    found = answers.get(NAME)
    return found if found is not None and found.answered_modification == number else None


def _ask_reports(service: Service, peer_id: str) -> tuple[str, str]:
    now = datetime.now(UTC)
    ask = {"at": now}
    once = service.look(
        lambda c: ask_report(
            c, peer_id, specifier_id="once", points=[("capacity", "Direct Read")], granularity=timedelta(0),
            back=timedelta(0), **ask,
        )
    )  # fmt: skip
    periodic = service.look(
        lambda c: ask_report(
            c, peer_id, specifier_id="usage", points=[("power", "Direct Read")], granularity=SECOND, back=SECOND, **ask
        )
    )
    return periodic, once


def _values(service: Service, request_id: str, least: int) -> list[VenReportValue]:
    async def enough(connection: Any) -> list[VenReportValue]:
        found = await next_report_values(connection, "blackbox", tenant_id="default", report_request_ids=[request_id])
        return found if len(found) >= least else []

    return service.until(enough)


def _stop_report(service: Service, request_id: str) -> None:
    service.look(lambda c: cancel_report(c, request_id, tenant_id="default", at=datetime.now(UTC)))


def _registrations(service: Service, ven: Peer, peer_id: str, last: str) -> dict[str, Any]:
    """Asked to register anew, it does; it ends its registration, and registers again."""
    number = len(ven.said)
    service.look(lambda c: ask_reregistration(c, peer_id, at=datetime.now(UTC)))
    ven.hear("heard", since=number, kind="oadrRequestReregistration")
    ven.hear("heard", since=number, kind="oadrCreatedPartyRegistration", code=200)
    told_again = ven.hear("event", since=number, id=last)
    assert ven.ask("cancel_registration")
    ended = service.until(lambda c: _ended(c, peer_id))
    again = ven.ask("register_again")

    return {"ended": ended, "again": again, "told_again": told_again}


async def _ended(connection: Any, peer_id: str) -> VenState | None:
    states = await ven_states(connection, tenant_id="default")
    return next((each for each in states if each.peer_id == peer_id and each.cancelled_at is not None), None)
