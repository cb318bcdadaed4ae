"""A VEN made of oadr30-ven-ud, in OpenADR 3.0.1, told what to do by the test."""

from typing import Any

from lines import arguments, commands, say
from oadr30.descriptors import ReportPayloadDescriptor
from oadr30.vtn import VTNOps

GIVEN = arguments()


class Ven:
    def __init__(self) -> None:
        self.ops = VTNOps(GIVEN["url"], GIVEN["ven"]["client_id"], GIVEN["ven"]["client_secret"])
        self.me: Any = None

    def create(self, name: str) -> list[Any]:
        self.me = self.ops.create_ven(name, resources=[{"resourceName": "thermostat"}])
        return [self.me["venName"], [each["resourceName"] for each in self.me.getResources()]]

    def programs(self) -> dict[str, Any]:
        return {program["programName"]: program.getId() for program in self.ops.get_programs()}

    def events(self, program_id: str) -> list[Any]:
        return [event.getId() for event in self.ops.get_events(program_id)]

    def series(self, program_id: str) -> list[Any]:
        series = self.ops.get_events(program_id).getTimeSeries()
        return [
            [each.getPayloadType(), list(each.getValues()), str(each.getStartTime()), str(each.getDuration())]
            for each in series
        ]

    def report(self, program_id: str, event_id: str) -> None:
        self.ops.send_report(event_id, program_id, self.me, ReportPayloadDescriptor({"payloadType": "OPERATING_STATE"}))


ven = Ven()
say("ready")
for command in commands():
    say(command["do"], result=getattr(ven, command.pop("do"))(**command))
