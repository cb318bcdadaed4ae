"""A VEN made of pyoadr-ven's agent, ticked as its documentation has it; it measures every time it is ticked.

Two of its faults end it on any VTN's modified event and on any poll frequency told: its parser's check of simple
types cannot take a modificationDateTime and is switched off, and it cannot read the frequency, which is set here.
"""

import time
from datetime import UTC, datetime
from typing import Any

from lines import arguments, say
from pony import orm
from pyoadr_ven import OpenADRVenAgent, database, oadr_20b

GIVEN = arguments()
oadr_20b.Validate_simpletypes_ = False
TICK_S = 0.25
USAGE = {
    "r_id": "actual",
    "report_type": "reading",
    "reading_type": "Direct Read",
    "units": "powerReal",
    "method_name": "get_actual",
    "min_frequency": 1,
    "max_frequency": 1,
}


def an_agent() -> OpenADRVenAgent:
    usage = {
        "report_name_metadata": "METADATA_TELEMETRY_USAGE",
        "report_interval_secs_default": 1,
        "telemetry_parameters": {"actual": USAGE},
    }
    return OpenADRVenAgent(
        ven_id="",
        vtn_id="",
        vtn_address=GIVEN["url"],
        client_pem_bundle=None,
        vtn_ca_cert=None,
        poll_interval_secs=5,
        opt_timeout_secs=0,
        report_parameters={"usage": usage},
    )


def tell_changes(known: dict[str, Any]) -> None:
    with orm.db_session:
        events = [
            {
                "id": event.event_id,
                "number": event.modification_number,
                "status": event.status,
                "opt": event.opt_type,
                "start_at": event.official_start.isoformat() + "+00:00",
                "signals": event.signals,
            }
            for event in database.Event.select()
        ]
    for event in events:
        if known.get(event["id"]) != event:
            known[event["id"]] = event
            say("event", **event)


def main() -> None:
    agent, known = an_agent(), {}  # type: ignore[var-annotated]
    while not agent.ven_id:  # the VTN may be down just now
        try:
            agent.register(ven_name=GIVEN["name"])
        except Exception as error:  # noqa: BLE001 - it is tried again
            say("trouble", error=f"{type(error).__name__}: {error}"[:500])
        time.sleep(0 if agent.ven_id else TICK_S)
    agent.poll_interval_secs = 1
    say("registered", ven_id=agent.ven_id, vtn_id=agent.vtn_id)
    asked = False
    while True:
        time.sleep(TICK_S)
        try:
            if not asked:
                agent.request_events()
                asked = True
            with orm.db_session:
                agent.add_telemetry_json(
                    "usage", {"get_actual": 3.5}, start_time=datetime.now(UTC).replace(tzinfo=None)
                )
            agent.tick()
        except Exception as error:  # noqa: BLE001 - an agent's own faults are what the test wants to hear of
            say("trouble", error=f"{type(error).__name__}: {error}"[:500])
        tell_changes(known)


main()
