"""A peer's row becomes our side at its VTN: with its certificates, or with the reason why it cannot."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from market.openadr2 import Openadr2Client
from tests.builders_gateway import add_tenant, ven_of
from tests.builders_pki import TestAuthority
from tests.builders_ven2 import ScriptedVtn, grid_event
from tests.clock import FixedClock
from tests.integration.test_ven2_many import add
from tests.integration.test_ven2_wire import HeardLog
from vpp.bootstrap.gateway import vens
from vpp.bootstrap.pass_on import passing_on
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import SeriesType
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.downstream import grid_event as grid_event_table

HOUR = timedelta(hours=1)


@pytest.fixture
def secrets_dir(tmp_path: Path) -> Path:
    authority = TestAuthority(tmp_path)
    mine = authority.certify("ven", "ec")
    (tmp_path / "our.pem").write_bytes(mine.cert.read_bytes())
    (tmp_path / "our.key").write_bytes(mine.key.read_bytes())
    return tmp_path


def settings(**changes: Any) -> Settings:
    return Settings(**({"tenant": "t1", "openadr2_programs": {"c": "elrp"}} | changes))


def a_peer(**changes: Any) -> Peer:
    config = {"programs": {"c": "elrp"}} | changes.pop("config", {})
    return Peer(
        id="p1", tenant_id="t1", protocol=Protocol.OPENADR2, role=PeerRole.VTN, name="north",
        **({"url": "https://north.example/x"} | changes), config=config,
    )  # fmt: skip


async def test_a_peer_with_its_files_is_served_and_signs(store: Store, clock: FixedClock, secrets_dir: Path) -> None:
    made = vens(settings(secrets_dir=secrets_dir), store, clock, HeardLog())
    files = {"cert_name": "our.pem", "key_name": "our.key", "ca_name": "ca.pem", "sign": True}
    ven = made.make(a_peer(config=files, fingerprint="AA:BB:CC:DD:EE:FF:00:11:22:33"))
    assert ven.name == "openadr2:north"
    await ven.close()


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"config": {"cert_name": "gone.pem"}}, "gone.pem"),
        ({"config": {"sign": True}, "fingerprint": "AA:BB:CC:DD:EE:FF:00:11:22:33"}, "certificate and key"),
        ({"config": {"signed": True}}, "fingerprint"),
        ({"config": {"opt_changes": "at times"}}, "config.opt_changes"),
        ({"url": None}, "url"),
    ],
)
async def test_a_peer_that_cannot_be_served_is_refused_with_the_reason(
    store: Store, clock: FixedClock, secrets_dir: Path, changes: dict[str, Any], why: str
) -> None:
    made = vens(settings(secrets_dir=secrets_dir), store, clock, HeardLog())
    with pytest.raises(InvalidRequest, match=why):
        made.make(a_peer(**changes))


async def test_the_settings_name_one_more_vtn_and_its_name_is_taken(store: Store, clock: FixedClock) -> None:
    async with store.begin() as connection:
        await connection.execute(tenant.insert().values(id="t1", name="Tenant"))
    await add(store, "north", "https://north.example/x")
    await add(store, "utility", "https://another.example/x")
    alone = vens(settings(), store, clock, HeardLog())
    assert [peer.name for peer in await alone.peers()] == ["north", "utility"]
    beside = vens(settings(openadr2_vtn_url="http://127.0.0.1:9/x"), store, clock, HeardLog())
    with capture_logs() as logs:
        named, north = await beside.peers()
    assert (named.url, north.name) == ("http://127.0.0.1:9/x", "north")
    assert [entry["peer"] for entry in logs] == ["utility"]
    ven = beside.make(named)
    assert ven.name == "openadr2:utility"
    await ven.close()
    others = vens(settings(openadr2_vtn_url="http://127.0.0.1:9/x", tenant="t2"), store, clock, HeardLog())
    with capture_logs() as logs:
        assert await others.peers() == []  # what is kept of it would be kept under one name with that of t1
    assert [entry["peer"] for entry in logs] == ["utility"]


async def test_what_a_peer_says_is_passed_on_followed_and_withdrawn_with_it(store: Store) -> None:
    clock = FixedClock(datetime.now(UTC).replace(second=0, microsecond=0))
    await add_tenant(store)
    async with ScriptedVtn(now=clock.now).serving() as vtn:
        peer = await add(store, "north", vtn.url, forward=True)
        pass_on = passing_on(settings(), clock, peer)
        client = Openadr2Client(peer.name, vtn.url, timeout_s=5.0)
        ven = ven_of(store, clock, client, pass_on=pass_on)
        priced = (SeriesType.PRICE, "ELECTRICITY_PRICE/price", "KWH")
        dispatch = grid_event("E1", clock.now() + HOUR, 400.0)
        vtn.tell(dispatch, grid_event("E2", clock.now() + HOUR, 0.3, kind=priced))
        await ven.step()
        assert await below(store) == {"E1@north": (0, False), "E2@north": (0, False)}
        vtn.tell(grid_event("E1", clock.now() + HOUR, 300.0, number=1), grid_event("E3", clock.now() + HOUR, 1.0))
        await ven.step()
        assert (await below(store))["E1@north"] == (1, False)
        vtn.tell(grid_event("E3", clock.now() + HOUR, 1.0))  # the others are listed no longer
        await ven.step()
        gone = {event_id: cancelled for event_id, (_, cancelled) in (await below(store)).items()}
        assert gone == {"E1@north": True, "E2@north": True, "E3@north": False}
        await ven.close()


async def below(store: Store) -> dict[str, tuple[int, bool]]:
    """Modification and cancellation of each event below us."""
    async with store.begin() as connection:
        rows = await connection.execute(
            select(grid_event_table.c.event_id, grid_event_table.c.modification_number, grid_event_table.c.cancelled)
        )
        return {row.event_id: (row.modification_number, row.cancelled) for row in rows}
