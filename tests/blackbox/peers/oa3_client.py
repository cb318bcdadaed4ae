"""Business logic and a VEN made of python-oa3-client with openadr3, in OpenADR 3.1.0: one life of event and report."""

from datetime import datetime, timedelta
from typing import Any

from callback import listen
from lines import arguments, commands, say
from openadr3_client import BlClient, VenClient

GIVEN = arguments()
NAME = "oa3 prices"


def an_event(program_id: str, *prices: float) -> dict[str, Any]:
    start = datetime.now().astimezone() + timedelta(seconds=1)
    return {
        "programID": program_id,
        "eventName": "peak",
        "targets": ["feeder-9"],
        "intervalPeriod": {"start": start.isoformat(), "duration": "PT1H"},
        "payloadDescriptors": [
            {"objectType": "EVENT_PAYLOAD_DESCRIPTOR", "payloadType": "PRICE", "units": "KWH", "currency": "EUR"}
        ],
        "reportDescriptors": [{"payloadType": "USAGE", "readingType": "DIRECT_READ", "units": "KWH"}],
        "intervals": [
            {"id": number, "payloads": [{"type": "PRICE", "values": [price]}]} for number, price in enumerate(prices)
        ],
    }


def a_report(event_id: str) -> dict[str, Any]:
    interval = {"id": 0, "payloads": [{"type": "USAGE", "values": [1.25]}]}
    return {
        "eventID": event_id,
        "clientName": "oa3",
        "reportName": "usage",
        "resources": [{"resourceName": "battery", "intervals": [interval]}],
    }


def made(answer: Any) -> dict[str, Any]:
    answer.raise_for_status()
    body: dict[str, Any] = answer.json()
    return body


def seen(ven: VenClient, program_id: str) -> list[list[Any]]:
    """The events of the programme as the client's own models have them."""
    return [
        [event.event_name, [[float(value) for value in interval.payloads[0].values] for interval in event.intervals]]
        for event in ven.events(programID=program_id, targets="feeder-9")
    ]


def main() -> None:
    bl = BlClient(url=GIVEN["url"], **GIVEN["bl"]).start()
    ven = VenClient(url=GIVEN["url"], **GIVEN["ven"]).start()
    program = made(bl.create_program({"programName": NAME, "targets": ["feeder-9"]}))
    say("again", status=bl.create_program({"programName": NAME}).status_code)
    ven.register("oa3")
    resource = made(
        ven.create_resource({"objectType": "VEN_RESOURCE_REQUEST", "resourceName": "battery", "venID": ven.ven_id})
    )
    say("ven", id=ven.ven_id, again=ven.register("oa3").ven_id, resource=resource["resourceName"])
    say("forbidden", status=ven.create_program({"programName": "not mine"}).status_code)
    found = made(bl.get_ven_by_id(ven.ven_id))
    granted = found | {"objectType": "BL_VEN_REQUEST", "targets": ["feeder-9"]}
    say(
        "granted",
        before=[each.program_name for each in ven.programs(targets="feeder-9")],
        targets=made(bl.update_ven(ven.ven_id, granted))["targets"],
    )
    operation = {
        "objects": ["EVENT"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "callbackUrl": listen(),
        "bearerToken": "open-sesame",
    }
    subscription = made(
        ven.create_subscription(
            {"clientName": "oa3", "programID": program["id"], "targets": ["feeder-9"], "objectOperations": [operation]}
        )
    )
    event = made(bl.create_event(an_event(program["id"], 0.25, 0.5)))
    say("created", id=event["id"], events=seen(ven, program["id"]))
    changed = an_event(program["id"], 0.75, 0.5)
    made(bl.update_event(event["id"], changed))
    say("modified", events=seen(ven, program["id"]))
    report = made(ven.create_report(a_report(event["id"])))
    read = list(bl.reports(eventID=event["id"]))
    values = [str(each.resources[0]) for each in read]
    say("reported", id=report["id"], read=[each.id for each in read], values=str(values))
    made(bl.delete_event(event["id"]))
    say("deleted", events=seen(ven, program["id"]), reports=len(bl.reports(eventID=event["id"])))
    say("done", subscription=subscription["id"])
    for command in commands():
        made(ven.delete_subscription(subscription["id"]))
        say(command["do"], result=ven.get_subscription_by_id(subscription["id"]).status_code)


main()
