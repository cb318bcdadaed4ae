"""What our OpenADR 3 VEN reports of a real fleet, and how bootstrap makes it from a peer."""

from dataclasses import replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from tests.builders_dispatch import World, a_world
from tests.builders_peering import stored_peer
from tests.builders_settlement import a_fleet, an_accepted_event, local, meter
from tests.builders_ven3 import CLIENT, SECRET, NullLog, fake_vtn
from tests.clock import FixedClock
from vpp.bootstrap.ven3 import Vens3
from vpp.bootstrap.wiring import programs
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.domain.time import Interval
from vpp.enrolment import load_sites
from vpp.gateway.ven3 import About, FleetFigures, Ven3Terms
from vpp.gateway.ven3.figures import EACH
from vpp.store.engine import Store
from vpp.store.tables.openadr3_ven import openadr3_event_seen


async def told(world: World, about: About, interval: Interval) -> dict[str, Any]:
    """What is told of all together; BASELINE has tests of its own."""
    async with world.store.begin() as connection:
        found = {kind: await figures(world).together(connection, kind, about, [interval]) for kind in EACH}
    return {kind: values[interval].value for kind, values in found.items() if values}


async def told_of(world: World, site_id: str, about: About, interval: Interval) -> dict[str, Any]:
    """What is told of one site by itself."""
    async with world.store.begin() as connection:
        found = {kind: await figures(world).of_each(connection, kind, about, interval) for kind in EACH}
    return {kind: values[site_id].value for kind, values in found.items() if site_id in values}


def figures(world: World) -> FleetFigures:
    return FleetFigures(world.commitment.tenant_id, programs(), max_age_s=900.0)


async def test_what_is_reported_is_what_the_fleet_measured(store: Store) -> None:
    world = await a_world(store, 12.0)
    about = About(world.commitment.source, world.commitment.external_id, world.commitment.program, world.sites)
    start_at = world.clock.now()
    await world.play(3)
    await world.report()
    during = Interval(start_at, world.clock.now())
    said = await told(world, about, during)
    assert said["DELTA_USAGE"] == pytest.approx(-12.0 * 0.25, rel=0.05)  # delivered: less consumption
    assert said["OPERATING_STATE"] == "IDLE_CURTAILED"
    assert "DEMAND" not in said  # the sites export, of which DEMAND has no word
    assert said["STORAGE_USABLE_CAPACITY"] == pytest.approx(6 * 13.5)
    assert said["STORAGE_MAX_DISCHARGE_POWER"] == pytest.approx(30.0)
    level = sum(world.battery(site.id).soc for site in world.sites) / len(world.sites)
    assert said["STORAGE_CHARGE_LEVEL"] == pytest.approx(level)  # a share of one
    assert said["LOAD_SHED_DELTA_AVAILABLE"] == pytest.approx(30.0 - world.delivered_kw())
    assert said["DOWN_REGULATION_AVAILABLE"] == pytest.approx(30.0 + world.delivered_kw())

    alone = [await told_of(world, site.id, about, during) for site in world.sites]
    for kind in set(said) - {"OPERATING_STATE", "STORAGE_CHARGE_LEVEL"}:
        assert sum(each[kind] for each in alone) == pytest.approx(said[kind])
    assert alone[0]["STORAGE_CHARGE_LEVEL"] == pytest.approx(world.battery(world.sites[0].id).soc)

    world.silent.update(site.id for site in world.sites[:2])
    world.clock.advance(timedelta(minutes=30))
    await world.report()
    later = Interval(world.clock.now() - timedelta(minutes=5), world.clock.now())
    assert await told(world, about, later) == {"OPERATING_STATE": "ERROR"}  # two of six are silent: no sums
    assert await told_of(world, world.sites[0].id, about, later) == {"OPERATING_STATE": "ERROR"}
    heard = await told_of(world, world.sites[5].id, replace(about, sites=world.sites[5:]), later)
    assert heard["STORAGE_CHARGE_LEVEL"] == pytest.approx(world.battery(world.sites[5].id).soc)


async def test_the_baseline_is_the_programmes_and_else_there_is_none(store: Store) -> None:
    day = date(2026, 8, 19)
    async with store.begin() as connection:
        sites = await a_fleet(connection, 2)
        event = await an_accepted_event(connection, local(day, 17), 6.0, 5.0)
        for site in sites:
            at = local(day - timedelta(days=46), 0)
            await meter(connection, site, "grid", at, [-2.0] * round((local(day, 17) - at) / timedelta(hours=1)))
        fleet = FleetFigures(event.tenant_id, programs(), max_age_s=900.0)
        about = About(event.source, event.external_id, event.program, await load_sites(connection, tenant_id="acme"))
        first = Interval(local(day, 17), local(day, 18))
        found = await fleet.together(connection, "BASELINE", about, [first])
        assert [(value.value, value.units) for value in found.values()] == [(pytest.approx(4.0), "KWH")]
        for other in (replace(about, is_part=True), replace(about, event_id="of prices")):
            with pytest.raises(NotReady):
                await fleet.together(connection, "BASELINE", other, [first])


async def test_consumption_is_reported_while_there_is_some(store: Store) -> None:
    world = await a_world(store, 12.0)
    start_at = world.clock.now()
    world.clock.advance(timedelta(hours=1))
    await world.report()
    other = About("openadr3:utility", "an event of prices", world.commitment.program, world.sites)
    said = await told(world, other, Interval(start_at, world.clock.now()))
    assert said["USAGE"] == pytest.approx(said["DEMAND"])
    assert said["DEMAND"] > 0
    assert said["OPERATING_STATE"] == "RUNNING_OPTED_OUT"
    assert "DELTA_USAGE" not in said


async def test_bootstrap_makes_a_ven_from_a_peer(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    (tmp_path / "vtn-secret").write_text(SECRET + "\n")
    settings = Settings(secrets_dir=tmp_path, tenant="default", public_url="https://vpp.example/")
    vens = Vens3(settings, store, clock, NullLog(), seed=1)
    async with fake_vtn(clock) as vtn:
        vtn.event(300.0)
        await stored_peer(
            store,
            "utility",
            role=PeerRole.VTN,
            url=vtn.url,
            client_id=CLIENT,
            config={"client_secret_name": "vtn-secret", "programs": {"Flat": "elrp"}, "push": "webhook"},
        )
        (peer,) = await vens.peers()
        ven = vens.make(peer)
        try:
            await ven.step()
        finally:
            await ven.close()
        (subscription,) = vtn.objects["subscriptions"].values()
    assert subscription["objectOperations"][0]["callbackUrl"] == "https://vpp.example/openadr3/callback/utility"
    async with store.begin() as connection:
        row = (await connection.execute(select(openadr3_event_seen))).one()
    assert (row.source, row.program) == ("openadr3:utility", "elrp")


@pytest.mark.parametrize(
    ("config", "field"),
    [
        ({}, "config.client_secret_name"),
        ({"client_secret_name": "nowhere"}, "config.client_secret_name"),
        ({"programs": ["Flat"]}, "config.programs"),
        ({"push": "pigeon"}, "config.push"),
        ({"push": ["webhook", "mqtt"]}, "VPP_PUBLIC_URL"),
        ({"poll_s": 0}, "config.poll_s"),
        ({"resources": "fleet"}, "config.resources"),
        ({"attributes": {"LOCATION": [True]}}, "config.attributes.LOCATION"),
        ({"client_secret_name": "vtn-secret", "ca_name": "nowhere.pem"}, "config.ca_name"),
    ],
)
def test_a_peer_that_cannot_work_is_refused_by_the_field(
    clock: FixedClock, tmp_path: Path, config: dict[str, Any], field: str
) -> None:
    (tmp_path / "vtn-secret").write_text(SECRET)
    store = Store("postgresql://nobody@127.0.0.1:1/x", "redis://127.0.0.1:1")
    vens = Vens3(Settings(secrets_dir=tmp_path), store, clock, NullLog(), seed=1)
    with pytest.raises(InvalidRequest) as refused:
        vens.make(a_peer(config))
    assert refused.value.field == field


def a_peer(config: dict[str, Any]) -> Peer:
    return Peer(
        id="p1",
        tenant_id="t1",
        protocol=Protocol.OPENADR3,
        role=PeerRole.VTN,
        name="utility",
        client_id="us",
        url="https://vtn.example",
        config=config,
    )


def test_a_ven_is_known_by_the_name_agreed_with_the_vtn() -> None:
    def named(**config: Any) -> str:
        terms = Ven3Terms.of(a_peer(config), ven_name="vpp", poll_s=60.0, public_url=None, seed=1)
        return terms.wanted.name

    assert (named(), named(ven_name="north")) == ("vpp", "north")
