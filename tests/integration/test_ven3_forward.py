"""Events our OpenADR 3 VEN hears are passed on to those below us, followed, and withdrawn with the one above."""

from datetime import timedelta

from sqlalchemy import select

from tests.builders_gateway import add_tenant
from tests.builders_ven3 import fake_vtn, running_ven3
from tests.clock import FixedClock
from vpp.bootstrap.pass_on import passing_on
from vpp.config import Settings
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer, add_peer
from vpp.store.engine import Store
from vpp.store.tables.downstream import grid_event


async def below(store: Store) -> dict[str, tuple[int, bool]]:
    """Modification and cancellation of each event below us."""
    async with store.begin() as connection:
        rows = await connection.execute(
            select(grid_event.c.event_id, grid_event.c.modification_number, grid_event.c.cancelled)
        )
        return {row.event_id: (row.modification_number, row.cancelled) for row in rows}


async def test_an_event_is_passed_on_followed_and_withdrawn_also_where_it_is_nothing_to_us(
    store: Store, clock: FixedClock
) -> None:
    await add_tenant(store)
    async with fake_vtn(clock) as vtn:
        async with store.begin() as connection:
            new = NewPeer(
                tenant_id="t1", protocol=Protocol.OPENADR3, role=PeerRole.VTN, name="north", url=vtn.url,
                client_id="us", config={"forward": True, "client_secret_name": "north"},
            )  # fmt: skip
            peer, _ = await add_peer(connection, new, at=clock.now())
        owed = vtn.event(300.0)
        priced = [{"id": 0, "payloads": [{"type": "PRICE", "values": [0.31]}]}]
        price = vtn.event(intervals=priced, payloadDescriptors=[])
        pass_on = passing_on(Settings(tenant="t1"), clock, peer)
        async with running_ven3(store, clock, vtn.url, pass_on=pass_on) as ven:
            await ven.step()
            assert await below(store) == {f"{owed}@north": (0, False), f"{price}@north": (0, False)}
            clock.advance(timedelta(minutes=1))
            vtn.event(200.0, event_id=owed)
            await ven.step()
            assert (await below(store))[f"{owed}@north"] == (1, False)
            vtn.delete(price)
            await ven.step()
            assert {event: gone for event, (_, gone) in (await below(store)).items()} == {
                f"{owed}@north": False,
                f"{price}@north": True,
            }
