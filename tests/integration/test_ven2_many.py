"""Several utilities at once: each by its own ids, none held up by another, and all of it changed while we run."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import select
from structlog.testing import capture_logs

from market.openadr2 import Openadr2Client
from tests.builders_gateway import CONTEXT, Fleet, add_tenant, running_ven, ven_of
from tests.builders_ven2 import ScriptedVtn, grid_event
from tests.clock import FixedClock
from vpp.clock import SystemClock
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway import Openadr2Ven, OptChanges, Supervisor, VtnTerms
from vpp.peering import NewPeer, add_peer, list_peers, revoke_peer, standings, update_peer
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment
from vpp.store.tables.gateway import openadr2_registration

HOUR = timedelta(hours=1)
DEADLINE_S = 15


@pytest.fixture
async def fleet_store(store: Store) -> Store:
    await add_tenant(store)
    return store


@pytest.fixture
async def two() -> AsyncIterator[tuple[ScriptedVtn, ScriptedVtn]]:
    async with AsyncExitStack() as stack:
        first, second = ScriptedVtn(ven_id="ven-1"), ScriptedVtn(ven_id="ven-2", vtn_id="Utility3")
        for vtn in (first, second):
            vtn.poll = timedelta(seconds=1)
            await stack.enter_async_context(vtn.serving())
        yield first, second


async def add(store: Store, name: str, url: str, **config: Any) -> Peer:
    new = NewPeer(
        tenant_id="t1",
        protocol=Protocol.OPENADR2,
        role=PeerRole.VTN,
        name=name,
        url=url,
        config={"ven_name": "fleet", "programs": {CONTEXT: "flat"}, "poll_s": 1} | config,
    )
    async with store.begin() as connection:
        peer, _ = await add_peer(connection, new, at=datetime.now(UTC))
        return peer


@asynccontextmanager
async def supervised(store: Store, *, make: Callable[[Peer], Any] | None = None) -> AsyncIterator[Supervisor]:
    """What the gateway's process runs, on the machine's clock."""
    clock = SystemClock()

    async def peers() -> list[Peer]:
        async with store.begin() as connection:
            return await list_peers(connection, tenant_id="t1", protocol=Protocol.OPENADR2, role=PeerRole.VTN)

    def a_ven(peer: Peer) -> Openadr2Ven:
        terms = VtnTerms.of(peer, ven_name="fleet", poll_s=60.0)
        client = Openadr2Client(peer.name, peer.url or "", timeout_s=5.0)
        return ven_of(store, clock, client, fleet=Fleet(), program_of=terms.program_of, vtn_id=terms.vtn_id)

    supervisor = Supervisor(store, clock, peers=peers, make=make or a_ven, every_s=60.0, restart_s=(0.05, 0.1))
    running = asyncio.create_task(supervisor.run())
    try:
        yield supervisor
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for has no event of its own
            await asyncio.sleep(0.02)


@pytest.mark.conformance("2.0b", "EiEvent", "VEN: several VTNs at once, each with its own ids")
async def test_the_same_event_id_of_two_utilities_is_two_commitments_with_an_answer_each(
    fleet_store: Store, two: tuple[ScriptedVtn, ScriptedVtn]
) -> None:
    for name, vtn in zip(("north", "south"), two, strict=True):
        vtn.tell(grid_event("E1", datetime.now(UTC) + HOUR, 100.0))
        await add(fleet_store, name, vtn.url)
    async with supervised(fleet_store):
        await until(lambda: all(("E1", 0, "in", 200) in vtn.opts for vtn in two))
    async with fleet_store.begin() as connection:
        sources = (await connection.execute(select(commitment.c.source).order_by(commitment.c.source))).scalars().all()
        rows = await connection.execute(select(openadr2_registration).order_by(openadr2_registration.c.source))
        known = [(row.source, row.ven_id, row.vtn_id) for row in rows]
    assert sources == ["openadr2:north", "openadr2:south"]
    assert known == [("openadr2:north", "ven-1", "Utility2"), ("openadr2:south", "ven-2", "Utility3")]


async def test_a_utility_that_never_answers_holds_up_no_other(
    fleet_store: Store, two: tuple[ScriptedVtn, ScriptedVtn]
) -> None:
    dead, alive = two
    never = asyncio.Event()
    dead.delay = never.wait
    alive.tell(grid_event("E1", datetime.now(UTC) + HOUR, 100.0))
    for name, vtn in zip(("dead", "alive"), two, strict=True):
        await add(fleet_store, name, vtn.url)
    async with supervised(fleet_store):
        await until(lambda: dead.heard and ("E1", 0, "in", 200) in alive.opts)
        assert len(dead.heard) == 1
    never.set()


async def test_peers_are_begun_changed_and_ended_while_we_run(
    fleet_store: Store, two: tuple[ScriptedVtn, ScriptedVtn]
) -> None:
    first, second = two
    async with supervised(fleet_store) as supervisor:
        await asyncio.sleep(0.1)
        assert supervisor.names == ()
        peer = await add(fleet_store, "north", first.url)
        await until(lambda: first.all(m.Poll))
        async with fleet_store.begin() as connection:
            await update_peer(connection, peer.id, {"url": second.url}, tenant_id="t1")
        await until(lambda: second.all(m.CreateRegistration) or second.all(m.Poll))
        assert first.all(m.CancelRegistration) == []
        async with fleet_store.begin() as connection:
            await revoke_peer(connection, peer.id, at=datetime.now(UTC))
        await until(lambda: second.all(m.CancelRegistration))
        await until(lambda: supervisor.names == ())
    async with fleet_store.begin() as connection:
        assert (await connection.execute(select(openadr2_registration))).all() == []


async def test_a_peer_that_cannot_be_served_is_named_once_and_the_others_are_served(
    fleet_store: Store, two: tuple[ScriptedVtn, ScriptedVtn]
) -> None:
    await add(fleet_store, "broken", two[1].url, opt_changes="sometimes")
    await add(fleet_store, "north", two[0].url)
    with capture_logs() as logs:
        async with supervised(fleet_store) as supervisor:
            await until(lambda: two[0].all(m.Poll))
            await supervisor.refresh()
            assert supervisor.names == ("openadr2:north",)
    said = [entry for entry in logs if entry["event"] == "peer cannot be served"]
    assert [entry["peer"] for entry in said] == ["broken"]
    assert "opt_changes" in said[0]["error"]


class Crashing:
    """A loop with a defect, the first two times."""

    def __init__(self, name: str) -> None:
        self.name, self.runs, self.closed = name, 0, False

    async def run(self) -> None:
        self.runs += 1
        if self.runs < 3:
            raise ZeroDivisionError("a defect")
        await asyncio.Event().wait()

    async def leave(self) -> None:
        pass

    async def close(self) -> None:
        self.closed = True


async def test_a_loop_that_ends_by_a_defect_is_begun_anew(fleet_store: Store) -> None:
    made: list[Crashing] = []

    def make(peer: Peer) -> Crashing:
        made.append(Crashing(f"openadr2:{peer.name}"))
        return made[-1]

    peer = await add(fleet_store, "north", "http://127.0.0.1:9/x")
    with capture_logs() as logs:
        async with supervised(fleet_store, make=make):
            await until(lambda: made and made[0].runs == 3)
            async with fleet_store.begin() as connection:
                known = await standings(connection, [peer])
    assert "ZeroDivisionError" in str(known[peer.id].trouble)
    assert made[0].closed
    assert [entry["event"] for entry in logs].count("loop failed") == 2


async def test_polls_of_several_utilities_do_not_fall_together(
    fleet_store: Store, two: tuple[ScriptedVtn, ScriptedVtn]
) -> None:
    clock = FixedClock(datetime(2026, 8, 19, 19, 0, tzinfo=UTC))
    phases = []
    for name, vtn in zip(("north", "south"), two, strict=True):
        vtn.poll = timedelta(seconds=60)
        for _ in range(2):  # the same after a restart
            async with running_ven(fleet_store, clock, vtn.url, peer=name, terms={"spread": True}) as ven:
                phases.append((await ven.step() - clock.now()).total_seconds())
    north, same_north, south, same_south = phases
    assert (north, south) == (same_north, same_south)
    assert 0 < north < 60
    assert abs(north - south) > 1


def a_peer(**config: object) -> Peer:
    return Peer(
        id="p", tenant_id="t1", protocol=Protocol.OPENADR2, role=PeerRole.VTN, name="north", party_id="Utility2",
        url="https://north.example", config=config,
    )  # fmt: skip


def test_terms_come_from_the_peer_and_have_their_defaults() -> None:
    bare = VtnTerms.of(a_peer(), ven_name="fleet", poll_s=30.0)
    assert (bare.ven_name, bare.poll_s, bare.vtn_id, bare.opt_changes) == ("fleet", 30.0, "Utility2", OptChanges.ALWAYS)
    full = VtnTerms.of(
        a_peer(ven_name="ours", ven_id="v9", programs={"c": "elrp"}, poll_s=10, opt_changes="never"),
        ven_name="fleet",
        poll_s=30.0,
    )
    assert (full.ven_name, full.ven_id, full.program_of, full.poll_s) == ("ours", "v9", {"c": "elrp"}, 10.0)
    assert full.opt_changes is OptChanges.NEVER


@pytest.mark.parametrize(
    "config", [{"programs": ["elrp"]}, {"poll_s": 0}, {"poll_s": True}, {"opt_changes": "x"}, {"ven_name": 7}]
)
def test_terms_that_cannot_be_are_refused_by_name(config: dict[str, object]) -> None:
    with pytest.raises(InvalidRequest, match=f"config.{next(iter(config))}"):
        VtnTerms.of(a_peer(**config), ven_name="fleet", poll_s=30.0)
