"""A VEN made of openleadr's client, as its documentation has it: it registers, polls by itself and reports."""

import asyncio
from datetime import timedelta
from typing import Any

from lines import arguments, later_commands, say
from openleadr import OpenADRClient, enums
from openleadr.objects import Target

GIVEN = arguments()
HOUR = timedelta(hours=1)


class Ven:
    def __init__(self) -> None:
        self.client = OpenADRClient(ven_name=GIVEN["name"], vtn_url=GIVEN["url"], show_fingerprint=False)
        self.client.add_handler("on_event", self.on_event)
        self.client.add_handler("on_update_event", self.on_update_event)
        self.client.add_hook("after_parse_xml", self.heard)
        self.says = "optIn"
        self.offered: list[Any] = []

    def offer(self) -> None:
        common = {"resource_id": "meter", "sampling_rate": timedelta(seconds=1), "report_duration": HOUR}
        self.client.add_report(
            callback=lambda: 12.5, measurement="RealPower", unit="W", scale="k",
            report_specifier_id="usage", r_id="power", **common,
        )  # fmt: skip
        self.client.add_report(
            callback=lambda: 7.25, measurement="RealPower", unit="W", scale="k", report_specifier_id="once",
            r_id="capacity", **common,
        )  # fmt: skip

    async def on_event(self, event: dict[str, Any]) -> str:
        say("new", id=event["event_descriptor"]["event_id"])
        return self.says

    async def on_update_event(self, event: dict[str, Any]) -> str:
        say("changed", id=event["event_descriptor"]["event_id"])
        return self.says

    def heard(self, kind: str, payload: dict[str, Any]) -> None:
        say("heard", kind=kind, code=payload.get("response", {}).get("response_code"))
        for event in payload.get("events", ()):
            said = event["event_descriptor"]
            say(
                "event",
                id=said["event_id"],
                number=said["modification_number"],
                status=said["event_status"],
                test=said["test_event"],
                comment=said.get("vtn_comment"),
                start_at=event["active_period"]["dtstart"].isoformat(),
                signals=[signal(each) for each in event["event_signals"]],
            )

    async def registration(self) -> dict[str, Any]:
        return {"ven_id": self.client.ven_id, "registration_id": self.client.registration_id}

    async def opt_out(self, event_id: str, number: int, opt_id: str) -> Any:
        return await self.client.create_opt(
            enums.OPT.OPT_OUT, enums.OPT_REASON.ECONOMIC, [Target(ven_id=self.client.ven_id)], event_id=event_id,
            modification_number=number, opt_id=opt_id,
        )  # fmt: skip

    async def opt_back(self, opt_id: str) -> Any:
        return await self.client.cancel_opt(opt_id)

    async def cancel_registration(self) -> bool:
        await self.client.cancel_party_registration()
        return self.client.registration_id is None

    async def register_again(self) -> dict[str, Any]:
        """The client forgets everything when it cancels: a new one, as after a restart."""
        await self.client.stop()
        self.__init__()  # type: ignore[misc]
        await self.client.run()
        return await self.registration()

    async def answer_with(self, says: str) -> str:
        self.says = says
        return says


def signal(each: dict[str, Any]) -> dict[str, Any]:
    intervals = [[interval["duration"].total_seconds(), interval["signal_payload"]] for interval in each["intervals"]]
    return {"name": each["signal_name"], "type": each["signal_type"], "intervals": intervals}


async def main() -> None:
    ven = Ven()
    ven.offer()
    await ven.client.run()
    say("registered", poll_s=ven.client.poll_frequency.total_seconds(), **await ven.registration())
    async for command in later_commands():
        say(command["do"], result=await getattr(ven, command.pop("do"))(**command))


asyncio.run(main())
