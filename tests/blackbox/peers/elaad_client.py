"""Business logic and a VEN made of ElaadNL's openadr3-client, in OpenADR 3.1.0: one life of event and report."""

import os
from datetime import UTC, datetime, timedelta
from typing import Any

from lines import arguments, say
from openadr3_client._models.common.interval import Interval
from openadr3_client._models.common.interval_period import IntervalPeriod
from openadr3_client.bl.http_factory import BusinessLogicHttpClientFactory
from openadr3_client.oadr310._vtn.interfaces.filters import PaginationFilter, TargetFilter
from openadr3_client.oadr310.models.event.event import EventUpdate, NewEvent
from openadr3_client.oadr310.models.event.event_payload import EventPayload, EventPayloadDescriptor, EventPayloadType
from openadr3_client.oadr310.models.program.program import NewProgram
from openadr3_client.oadr310.models.report.report import NewReport, ReportResource
from openadr3_client.oadr310.models.report.report_payload import ReportPayload, ReportPayloadType
from openadr3_client.oadr310.models.resource.resource import NewResourceVenRequest
from openadr3_client.oadr310.models.ven.ven import NewVenVenRequest, VenUpdateBlRequest
from openadr3_client.ven.http_factory import VirtualEndNodeHttpClientFactory
from openadr3_client.version import OADRVersion

GIVEN = arguments()
os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # this machine talks to itself
COMMON = {"vtn_base_url": GIVEN["url"], "allow_insecure_http": True, "version": OADRVersion.OADR_310}
TARGETS = TargetFilter(targets=["feeder-3"])
PAGE = PaginationFilter(skip=0, limit=50)


def intervals(*limits_kw: float) -> tuple[Any, ...]:
    return tuple(
        Interval(id=number, payloads=(EventPayload(type=EventPayloadType.IMPORT_CAPACITY_LIMIT, values=(limit_kw,)),))
        for number, limit_kw in enumerate(limits_kw)
    )


def limits(event: Any) -> list[Any]:
    return [interval.payloads[0].values[0] for interval in event.intervals]


def main() -> None:
    bl = BusinessLogicHttpClientFactory.create_http_bl_client(**COMMON, **GIVEN["bl"])
    ven = VirtualEndNodeHttpClientFactory.create_http_ven_client(**COMMON, **GIVEN["ven"])
    say("auth", url=str(bl.auth.get_auth_server().token_url))
    program = bl.programs.create_program(NewProgram(program_name="elaad limits", targets=("feeder-3",)))
    me = ven.vens.create_ven(NewVenVenRequest(ven_name="elaad"))
    resource = ven.resources.create_resource(NewResourceVenRequest(resource_name="charger", venID=me.id))
    say("ven", name=me.ven_name, resource=resource.resource_name, client_id=me.client_id)
    say("hidden", programs=len(ven.programs.get_programs(target=TARGETS, pagination=PAGE)))
    granted = VenUpdateBlRequest(ven_name="elaad", targets=("feeder-3",), clientID=me.client_id)
    say("granted", targets=bl.vens.update_ven_by_id(me.id, granted).targets)
    period = IntervalPeriod(start=datetime.now(UTC), duration=timedelta(hours=1))
    descriptor = EventPayloadDescriptor(payload_type=EventPayloadType.IMPORT_CAPACITY_LIMIT, units="KW")
    common = {"programID": program.id, "event_name": "limit", "targets": ("feeder-3",), "interval_period": period}
    event = bl.events.create_event(
        NewEvent(**common, payload_descriptors=(descriptor,), intervals=intervals(11.0, 7.5), priority=1)
    )

    def seen() -> list[Any]:
        return [limits(each) for each in ven.events.get_events(target=TARGETS, pagination=PAGE, program_id=program.id)]

    say("created", events=seen(), one=limits(ven.events.get_event_by_id(event.id)))
    bl.events.update_event_by_id(event.id, EventUpdate(**common, intervals=intervals(6.0, 7.5)))
    say("modified", events=seen())
    payload = ReportPayload(type=ReportPayloadType.DEMAND, values=(5.5,))
    made = ven.reports.create_report(
        NewReport(
            eventID=event.id,
            client_name="elaad",
            report_name="demand",
            resources=(ReportResource(resource_name="charger", intervals=(Interval(id=0, payloads=(payload,)),)),),
        )
    )
    read = bl.reports.get_reports(pagination=PAGE, program_id=program.id, event_id=event.id, client_name="elaad")
    say("reported", id=made.id, read=[[each.id, each.resources[0].intervals[0].payloads[0].values[0]] for each in read])
    bl.events.delete_event_by_id(event.id)
    say("deleted", events=seen())
    bl.programs.delete_program_by_id(program.id)
    say("done")


main()
