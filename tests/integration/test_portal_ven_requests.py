"""What the operator asks of a 2.0b VEN by API reaches it on its polls."""

from datetime import timedelta

from tests.builders_portal import browser, portal
from tests.builders_vtn2 import add_ven, raw_ven, running_vtn
from tests.clock import FixedClock
from vpp.domain.openadr2 import (
    CancelRegistration,
    CancelReports,
    CreatedReports,
    CreateReports,
    Openadr2Message,
    PointOffer,
    RegisterReports,
    ReportOffer,
    RequestReregistration,
    Response,
)
from vpp.portal import create_token
from vpp.store.engine import Store

WANTED = {"specifier_id": "spec", "points": [{"r_id": "p1", "reading_type": "Direct Read"}]}


async def test_reports_are_asked_for_and_ended_and_registrations_asked_anew(store: Store, clock: FixedClock) -> None:
    peer, other = await add_ven(store, clock, "a"), await add_ven(store, clock, "b")
    async with store.begin() as connection:
        token = await create_token(connection, tenant_id="t1", label="m", scope="operate", now=clock.now())
    point = PointOffer(r_id="p1", report_type="usage", reading_type="Direct Read", unit="kW", item="powerReal")
    offer = ReportOffer(specifier_id="spec", name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=clock.now())
    async with running_vtn(store, clock) as vtn, raw_ven(vtn.url, "a") as ven, browser(portal(store, clock)) as api:
        api.headers.update({"authorization": f"Bearer {token}", "accept": "application/json"})
        at = f"/api/v1/peers/{peer.id}"

        async def polled(kind: type[Openadr2Message]) -> Openadr2Message:
            await vtn.heard(lambda: any(isinstance(q.message, kind) for q in vtn.desk.room.view.vens[peer.id].queue))
            return await ven.poll()

        assert (await api.post(f"{at}/reports", json=WANTED)).status_code == 404, "it has offered nothing yet"
        await ven.say("EiReport", RegisterReports(request_id="o1", offers=(offer,), ven_id=ven.ven_id))
        history = WANTED | {"start_at": "2026-08-19T00:00:00Z", "duration_s": 3600, "granularity_s": 900}
        asked = (await api.post(f"{at}/reports", json=history)).json()["report_request_id"]
        told = await polled(CreateReports)
        assert isinstance(told, CreateReports)
        (demand,) = told.demands
        assert (demand.report_request_id, demand.points) == (asked, (("p1", "Direct Read"),))
        assert (demand.granularity, demand.duration) == (timedelta(minutes=15), timedelta(hours=1))
        await ven.say(
            "EiReport",
            CreatedReports(response=Response(200, "OK", told.request_id), pending=(asked,), ven_id=ven.ven_id),
        )
        shown = (await api.get(f"{at}/reports")).json()
        assert [each["specifier_id"] for each in shown["offered"]] == ["spec"]
        assert [(each["report_request_id"], each["state"]) for each in shown["asked"]] == [(asked, "running")]
        assert (await api.delete(f"/api/v1/peers/{other.id}/reports/{asked}")).status_code == 404, "not of that VEN"
        assert (await api.delete(f"{at}/reports/{asked}", params={"to_follow": True})).status_code == 204
        ended = await polled(CancelReports)
        assert isinstance(ended, CancelReports)
        assert (ended.report_request_ids, ended.to_follow) == ((asked,), True)
        for path, kind in (("reregister", RequestReregistration), ("end-registration", CancelRegistration)):
            assert (await api.post(f"{at}/{path}")).status_code == 202
            await vtn.heard(
                lambda kind=kind: any(isinstance(q.message, kind) for q in vtn.desk.room.view.vens[peer.id].queue)
            )
        assert (await api.post(f"/api/v1/peers/{other.id}/reregister")).status_code == 404, "it never registered"
