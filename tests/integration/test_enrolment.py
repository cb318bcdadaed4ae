"""Enrolment writes all or nothing, repeats without effect, and keeps what an owner has set since."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from tests.builders import TENANT
from tests.builders_enrolment import site_form
from tests.builders_telemetry import add_tenant, enrolled_sites
from tests.clock import NOON
from vpp.domain.errors import InvalidRequest, NotFound
from vpp.domain.settlement import ProgramTerms
from vpp.enrolment import (
    EnrolmentRefused,
    enrol,
    enrol_sites,
    get_site,
    load_sites,
    program_terms,
    reserve_changes,
    set_program_terms,
    set_reserve,
)
from vpp.store.engine import Store


async def test_an_enrolled_site_loads_as_it_was_written(store: Store) -> None:
    (site,) = await enrolled_sites(store, 1)
    form = site_form(1)
    assert (site.id, site.owner_id, site.utility_account) == ("site-001", "owner-001", "ACC-00001")
    assert site.tariff == form.tariff.tariff()
    assert site.battery.capacity_kwh == 13.5
    assert site.peak_so_far_kw == {"summer": 4.0}
    assert site.billing_start == date(2026, 8, 1)
    assert [(p.program, p.owner_share) for p in site.programs] == [("elrp", Decimal("0.8"))]
    assert site.name == "site-001"


async def test_enrolling_the_same_again_changes_nothing(store: Store) -> None:
    before = await enrolled_sites(store, 3)
    async with store.begin() as connection:
        again = await enrol_sites(connection, TENANT, [site_form(n) for n in (1, 2, 3)], now=NOON + timedelta(days=1))
        assert again.created == ()
        assert again.reserves_kept == ()
        assert await load_sites(connection, tenant_id=TENANT) == before
        assert len(await reserve_changes(connection, "site-001")) == 1


async def test_changed_terms_are_taken_and_a_left_programme_is_left(store: Store) -> None:
    await enrolled_sites(store, 2)
    async with store.begin() as connection:
        await enrol(connection, TENANT, [site_form(1, programs=[], import_limit_kw=15.0, reserve_soc=0.3)], now=NOON)
        site = await get_site(connection, "site-001")
        assert (site.programs, site.import_limit_kw, site.reserve_soc) == ((), 15.0, 0.3)
        assert [s.id for s in await load_sites(connection, tenant_id=TENANT, program="elrp")] == ["site-002"]


async def test_a_reserve_the_owner_set_outlives_a_new_import_and_is_reported(store: Store) -> None:
    await enrolled_sites(store, 1)
    async with store.begin() as connection:
        await set_reserve(connection, "site-001", 0.5, by="owner:1", now=NOON)
        kept = await enrol_sites(connection, TENANT, [site_form(1, reserve_soc=0.1)], now=NOON)
        assert kept.reserves_kept == ("site-001",)
        assert (await get_site(connection, "site-001")).reserve_soc == 0.5
        assert [c.changed_by for c in await reserve_changes(connection, "site-001")] == ["owner:1", "enrolment"]


async def test_a_peak_only_rises_within_a_billing_period(store: Store) -> None:
    await enrolled_sites(store, 1)
    for peak_kw, start, expected_kw in ((9.0, "2026-08-01", 9.0), (5.0, "2026-08-01", 9.0), (1.0, "2026-09-01", 1.0)):
        form = site_form(1, peaks_so_far_kw={"summer": peak_kw}, billing_start=start)
        async with store.begin() as connection:
            await enrol(connection, TENANT, [form], now=NOON)
            assert (await get_site(connection, "site-001")).peak_so_far_kw == {"summer": expected_kw}


async def test_an_account_of_another_site_refuses_the_whole_import(store: Store) -> None:
    await enrolled_sites(store, 1)
    forms = [site_form(2), site_form(3, utility_account="ACC-00001").at_line(7)]
    with pytest.raises(EnrolmentRefused) as refused:
        async with store.begin() as connection:
            await enrol(connection, TENANT, forms, now=NOON)
    (problem,) = refused.value.problems
    assert (problem.line, problem.column, problem.value) == (7, "utility_account", "ACC-00001")
    assert "site-001" in problem.allowed
    async with store.begin() as connection:
        assert len(await load_sites(connection, tenant_id=TENANT)) == 1


async def test_ids_of_another_tenant_are_taken_and_its_sites_unseen(store: Store) -> None:
    await enrolled_sites(store, 1, "one")
    await add_tenant(store, "two")
    with pytest.raises(EnrolmentRefused) as refused:
        async with store.begin() as connection:
            await enrol(connection, "two", [site_form(1)], now=NOON)
    assert {p.column for p in refused.value.problems} == {"site", "owner"}
    async with store.begin() as connection:
        await enrol(connection, "two", [site_form(2, utility_account="ACC-00001")], now=NOON)
        assert [s.id for s in await load_sites(connection, tenant_id="two")] == ["site-002"]
        with pytest.raises(NotFound):
            await get_site(connection, "site-001", tenant_id="two")


@pytest.mark.parametrize("reserve_soc", [20.0, -0.1, float("nan"), True])
async def test_a_reserve_that_is_no_share_is_refused(store: Store, reserve_soc: float) -> None:
    await enrolled_sites(store, 1)
    async with store.begin() as connection:
        with pytest.raises(InvalidRequest):
            await set_reserve(connection, "site-001", reserve_soc, by="owner:1", now=NOON)
        with pytest.raises(NotFound):
            await set_reserve(connection, "nowhere", 0.2, by="owner:1", now=NOON)


async def test_programme_terms_keep_exact_numbers(store: Store) -> None:
    await add_tenant(store)
    options = {"price_per_kwh": Decimal("2.00"), "months": [5, 6], "from": date(2026, 5, 1), "deep": {"x": None}}
    terms = ProgramTerms(program="elrp", nominated_kw=Decimal("1234.567"), options=options)
    async with store.begin() as connection:
        with pytest.raises(NotFound):
            await program_terms(connection, tenant_id=TENANT, program="elrp")
        for _ in range(2):
            stored = await set_program_terms(connection, terms, tenant_id=TENANT)
        assert await program_terms(connection, tenant_id=TENANT, program="elrp") == stored
    assert stored.nominated_kw == Decimal("1234.567")
    assert stored.options["price_per_kwh"] == "2.00"


async def test_thousands_of_sites_are_enrolled_in_one_import(store: Store) -> None:
    assert len(await enrolled_sites(store, 3000)) == 3000
