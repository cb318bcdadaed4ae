"""A VEN made of toadr3, in OpenADR 3.0.1, told what to do by the test."""

import asyncio
from typing import Any

from callback import listen
from lines import arguments, later_commands, say
from toadr3 import OAuthScopeConfig, ToadrClient, ToadrError
from toadr3.models import Interval, ObjectOperation, Report, ReportData, Subscription, ValuesMap

GIVEN = arguments()


class Ven:
    def __init__(self, client: ToadrClient) -> None:
        self.client = client

    async def programs(self) -> dict[str, Any]:
        return {program.program_name: program.id for program in await self.client.get_programs()}

    async def events(self, program_id: str) -> list[dict[str, Any]]:
        return [
            {
                "id": event.id,
                "name": event.event_name,
                "priority": event.priority,
                "start_at": event.interval_period and str(event.interval_period.start),
                "duration_s": event.interval_period and event.interval_period.duration.total_seconds(),
                "targets": [[target.type, list(target.values)] for target in event.targets or ()],
                "units": [descriptor.units for descriptor in event.payload_descriptors or ()],
                "values": [
                    [payload.type, list(payload.values)]
                    for interval in event.intervals
                    for payload in interval.payloads
                ],
            }
            for event in await self.client.get_events(program_id=program_id)
        ]

    async def report(self, program_id: str, event_id: str) -> list[Any]:
        payload = ValuesMap(type="USAGE", values=[2.5])
        resource = ReportData(resource_name="heat-pump", intervals=[Interval(id=0, payloads=[payload])])
        made = await self.client.post_report(
            Report(program_id=program_id, event_id=event_id, client_name="toadr3", resources=[resource])
        )
        return [made.id, [each.id for each in await self.client.get_reports(event_id=event_id)]]

    async def subscribe(self, program_id: str) -> list[Any]:
        operation = ObjectOperation(
            objects=["EVENT"], operations=["POST", "PUT", "DELETE"], callback_url=listen(), bearer_token="open-sesame"
        )
        made = await self.client.post_subscription(
            Subscription(client_name="toadr3", program_id=program_id, object_operations=[operation])
        )
        return [made.id, [each.id for each in await self.client.get_subscriptions(client_name="toadr3")]]

    async def unsubscribe(self, subscription_id: str) -> Any:
        await self.client.delete_subscription(subscription_id)
        return await self.client.get_subscription(subscription_id)

    async def delete_program(self, program_id: str) -> int | None:
        try:
            await self.client.delete_program(program_id)
        except ToadrError as error:
            return error.status_code
        return None


async def main() -> None:
    config = OAuthScopeConfig(
        token_url=GIVEN["url"] + "/auth/token",
        grant_type="client_credentials",
        scope="read_all write_reports write_subscriptions",
        **GIVEN["ven"],
    )
    async with ToadrClient(GIVEN["url"], config) as client:
        token = await client.token
        say("token", has=token is not None and not token.is_expired())
        ven = Ven(client)
        async for command in later_commands():
            say(command["do"], result=await getattr(ven, command.pop("do"))(**command))


asyncio.run(main())
