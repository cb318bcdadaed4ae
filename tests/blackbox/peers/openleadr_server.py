"""A utility made of openleadr's server, as its documentation has it.

Its events are changed by hand, as users of it must; and its own handler of reports, which takes numbers only, is
replaced by one that hears of TELEMETRY_STATUS too.
"""

import asyncio
from datetime import datetime, timedelta
from typing import Any

from lines import later_commands, say
from openleadr import OpenADRServer, objects

VEN_ID, CONTEXT = "ven-of-the-utility", "http://utility.example/above"


class Utility:
    def __init__(self, server: OpenADRServer) -> None:
        self.server = server
        self.events: dict[str, objects.Event] = {}

    async def register(self, payload: dict[str, Any]) -> tuple[str, str]:
        say("registered", name=payload["ven_name"], ven_id=VEN_ID)
        return VEN_ID, "registration-1"

    async def offered(
        self,
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str,
        scale: str,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> Any:
        say("offered", measurement=measurement, unit=unit, scale=scale, resource=resource_id)
        return (lambda data: None), timedelta(0), timedelta(0)  # once, at once

    async def answered(self, ven_id: str, event_id: str, opt_type: str) -> None:
        say("answered", id=event_id, opt=opt_type)

    async def tell(self, ident: str, values: list[float], start_at: str) -> str:
        start, length = datetime.fromisoformat(start_at), timedelta(hours=1)
        intervals = [
            objects.Interval(dtstart=start + number * length, duration=length, signal_payload=value)
            for number, value in enumerate(values)
        ]
        measurement = objects.Measurement(
            name="powerReal",
            description="RealPower",
            unit="W",
            scale="k",
            power_attributes=objects.PowerAttributes(hertz=60, voltage=240, ac=True),
        )
        signal = objects.EventSignal(
            intervals=intervals,
            signal_name="LOAD_DISPATCH",
            signal_type="setpoint",
            signal_id="s1",
            measurement=measurement,
        )
        event = objects.Event(
            event_descriptor=objects.EventDescriptor(
                event_id=ident, modification_number=0, market_context=CONTEXT, event_status="far"
            ),
            event_signals=[signal],
            targets=[objects.Target(ven_id=VEN_ID)],
            active_period=objects.ActivePeriod(dtstart=start, duration=len(values) * length),
        )
        self.events[ident] = event
        self.server.add_raw_event(VEN_ID, event, callback=self.answered)
        return ident

    async def change(self, ident: str, values: list[float]) -> int:
        event = self.events[ident]
        for interval, value in zip(event.event_signals[0].intervals, values, strict=True):
            interval.signal_payload = value
        event.event_descriptor.modification_number += 1
        self.server.events_updated[VEN_ID] = True
        return int(event.event_descriptor.modification_number)

    async def cancel(self, ident: str) -> str:
        self.server.cancel_event(VEN_ID, ident)
        return ident


async def main() -> None:
    server = OpenADRServer(
        vtn_id="Utility1", show_fingerprint=False, requested_poll_freq=timedelta(seconds=1), http_port=0
    )
    utility = Utility(server)
    server.add_handler("on_create_party_registration", utility.register)
    server.add_handler("on_register_report", utility.offered)
    created = server.services["event_service"].handlers["oadrCreatedEvent"]

    async def heard(payload: dict[str, Any]) -> Any:
        for response in payload["event_responses"]:
            say(
                "opt",
                id=response["event_id"],
                number=response["modification_number"],
                opt=response["opt_type"],
                code=response["response_code"],
                why=response.get("response_description"),
            )
        return await created(payload)

    async def reported(payload: dict[str, Any]) -> Any:
        """In place of the server's own handler, which takes numbers only."""
        for report in payload["reports"]:
            values = [each["report_payload"] for each in report.get("intervals", ())]
            say("report", name=report["report_name"], values=values)
        return "oadrUpdatedReport", {}

    server.services["event_service"].handlers["oadrCreatedEvent"] = heard
    server.services["report_service"].handlers["oadrUpdateReport"] = reported
    await server.run()
    say("listening", port=server.app_runner.addresses[0][1])
    async for command in later_commands():
        say(command["do"], result=await getattr(utility, command.pop("do"))(**command))


asyncio.run(main())
