"""Room simulation: a utility with an OpenADR 2.0b VTN that plays a script. Runs in a process of its own.

Built on openleadr's server with the state kept here, as openleadr advises for a serious VTN: an event is
told on every poll until the VEN has answered its latest modification. It is the world, not our product:
it shares no code with `market/openadr2`, and it need not survive its own restart.
"""

import json
import logging
import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import openleadr.messaging
from aiohttp import web
from openleadr import OpenADRServer
from openleadr.messaging import create_message, etree

from vpp.ports import Clock
from vpp.simulation.utility_script import PlayedEvent, UtilityScript

PREFIX = "/OpenADR2/Simple/2.0b"
IDLE = timedelta(hours=6)
REAL_POWER = {"name": "powerReal", "description": "RealPower", "unit": "W", "scale": "k"} | {
    "power_attributes": {"hertz": 60, "voltage": 240, "ac": True}
}


class SimulatedUtility:
    """The VTN of one utility, for any number of VENs that all get the same events."""

    def __init__(self, clock: Clock, script: UtilityScript) -> None:
        self._clock, self._script = clock, script
        self._events = [PlayedEvent(event) for event in script.events]
        self._registered: dict[str, dict[str, str]] = {}
        self._reports: list[dict[str, Any]] = []
        self._runner: web.AppRunner | None = None

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> str:
        """Serve and return the VTN's address; the state as JSON is at `/state` of the same port."""
        logging.getLogger("openleadr").setLevel(logging.ERROR)
        openleadr.messaging.XML_PARSER = etree.XMLParser(  # the stock parser can be crashed from outside
            schema=openleadr.messaging.XML_SCHEMA, resolve_entities=False, no_network=True
        )
        self._play()
        self._runner = web.AppRunner(self._app(), access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0][1]
        return f"http://{host}:{bound}{PREFIX}"

    async def run(self) -> None:
        """Play the script until cancelled."""
        while True:
            self._play()
            now = self._clock.now()
            ahead = [at for event in self._events for at in event.instants() if at > now]
            await self._clock.sleep_until(min(ahead, default=now + IDLE))

    async def stop(self) -> None:
        """Stop serving."""
        if self._runner is not None:
            await self._runner.cleanup()

    def state(self) -> dict[str, Any]:
        """What was told, answered and reported so far, JSON-able."""
        return {
            "now": self._clock.now().isoformat(),
            "registered": sorted(self._registered),
            "events": [
                {
                    "event_id": event.script.event_id,
                    "status": event.status,
                    "modification_number": event.modification,
                    "blocks": [block.model_dump() for block in event.blocks],
                    "acks": {str(number): ack for number, ack in event.acks.items()},
                }
                for event in self._events
            ],
            "reports": list(self._reports),
        }

    def _play(self) -> None:
        for event in self._events:
            event.play(self._clock.now())

    def _app(self) -> web.Application:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", web.NotAppKeyWarning)  # the library's way to use aiohttp
            server = OpenADRServer(
                vtn_id=self._script.vtn_id,
                show_fingerprint=False,
                http_path_prefix=PREFIX,
                requested_poll_freq=timedelta(seconds=self._script.poll_s),
            )
        for service in server.services.values():  # on the instance: the library keeps these on the class
            service._create_message = partial(create_message, cert=None, key=None)
            service.ven_lookup = self._lookup
        server.add_handler("on_poll", self._on_poll)
        server.add_handler("on_create_party_registration", self._on_registration)
        server.add_handler("on_register_report", self._on_register_report)
        # the library's own handlers for these use the machine's clock and drop the modification number
        handlers = server.services["event_service"].handlers
        handlers["oadrRequestEvent"] = self._on_request_event
        handlers["oadrCreatedEvent"] = self._on_created_event
        server.app.router.add_get("/state", self._on_state)
        app: web.Application = server.app
        return app

    def _lookup(self, ven_id: str) -> dict[str, str] | None:
        return self._registered.get(ven_id)

    def _on_registration(self, payload: dict[str, Any]) -> tuple[str, str]:
        ven_id = f"VEN-{payload['ven_name']}"
        registration_id = f"REG-{payload['ven_name']}"
        self._registered[ven_id] = {"ven_id": ven_id, "registration_id": registration_id}
        return ven_id, registration_id

    def _on_poll(self, ven_id: str) -> tuple[str, dict[str, Any]] | None:
        return self._distribution() if any(e.told and not e.answered for e in self._events) else None

    def _on_request_event(self, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        return self._distribution()

    def _on_created_event(self, payload: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        for response in payload["event_responses"]:
            event = next((e for e in self._events if e.script.event_id == str(response["event_id"])), None)
            if event is not None:
                event.acks[int(response["modification_number"])] = {
                    "opt": response["opt_type"],
                    "code": int(response["response_code"]),
                    "reason": str(response.get("response_description", "")),
                    "at": self._clock.now().isoformat(),
                }
        return "oadrResponse", {}

    def _on_register_report(
        self,
        ven_id: str,
        resource_id: str,
        measurement: str,
        unit: str | None,
        scale: str | None,
        min_sampling_interval: timedelta,
        max_sampling_interval: timedelta,
    ) -> tuple[Callable[[list[tuple[datetime, float]]], None], timedelta, timedelta] | None:
        """Ask for power alone: the library's server falls over the values of a status."""
        if unit != "W":
            return None
        every = timedelta(seconds=self._script.report_s)
        return partial(self._on_values, ven_id, scale), every, every

    def _on_values(self, ven_id: str, scale: str | None, values: list[tuple[datetime, float]]) -> None:
        for start_at, value in values:
            entry = {"ven_id": ven_id, "start_at": start_at.isoformat(), "value": value, "unit": f"{scale}W"}
            self._reports.append(entry | {"received_at": self._clock.now().isoformat()})

    async def _on_state(self, request: web.Request) -> web.Response:
        return web.json_response(self.state(), dumps=json.dumps)

    def _distribution(self) -> tuple[str, dict[str, Any]]:
        return "oadrDistributeEvent", {"events": [self._wire(event) for event in self._events if event.told]}

    def _wire(self, event: PlayedEvent) -> dict[str, Any]:
        script, begin_at, intervals = event.script, event.script.start_at, []
        for block in event.blocks:
            length = timedelta(minutes=block.minutes)
            intervals.append({"dtstart": begin_at, "duration": length, "signal_payload": block.value})
            begin_at += length
        dispatch = script.signal == "LOAD_DISPATCH"
        signal = {
            "signal_name": script.signal,
            "signal_type": "setpoint" if dispatch else "level",
            "signal_id": "S1",
            "intervals": intervals,
            "measurement": dict(REAL_POWER) if dispatch else None,
        }
        period: dict[str, Any] = {"dtstart": script.start_at, "duration": begin_at - script.start_at}
        if script.start_tolerance_s > 0:
            period["tolerance"] = {"startafter": timedelta(seconds=script.start_tolerance_s)}
        return {
            "event_descriptor": {
                "event_id": script.event_id,
                "modification_number": event.modification,
                "modification_date_time": event.stated_at,
                "priority": 1,
                "market_context": script.market_context,
                "created_date_time": script.announce_at,
                "event_status": event.status,
                "test_event": script.is_test,
            },
            "active_period": period,
            "event_signals": [signal],
            "targets": [{"resource_id": "fleet"}],
            "response_required": "always",
        }


async def serve_utility(
    clock: Clock,
    script: UtilityScript,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    on_ready: Callable[[str], None] | None = None,
) -> None:
    """Serve and play a script until cancelled; `on_ready` is told the VTN's address once it listens."""
    utility = SimulatedUtility(clock, script)
    address = await utility.start(host, port)
    if on_ready is not None:
        on_ready(address)
    try:
        await utility.run()
    finally:
        await utility.stop()
