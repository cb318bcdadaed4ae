"""Splitting a month's pay over sites and events: exact to the cent, whatever the numbers."""

from collections import Counter
from datetime import date
from decimal import ROUND_HALF_UP, Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vpp.domain.errors import NotReady
from vpp.domain.settlement import MonthlyPay, PayLine
from vpp.settlement.lines import Allocation, SiteCredit, SiteTerms, allocate

EVENTS = [UUID(int=n) for n in range(1, 4)]


def pay_of(*lines: tuple[UUID | None, int]) -> MonthlyPay:
    return MonthlyPay(
        program="elrp",
        month=date(2026, 8, 1),
        currency="USD",
        performance_factor=None,
        lines=tuple(
            PayLine(
                kind="performance" if event else "reservation",
                commitment_id=event,
                quantity=Decimal(cents) / 100,
                unit="kWh",
                price=Decimal(1),
                amount_cents=cents,
                clause="test",
            )
            for event, cents in lines
        ),
    )


def credit(event: UUID, site: str, kwh: str) -> SiteCredit:
    return SiteCredit(commitment_id=event, site_id=site, metered_kwh=Decimal(kwh), credited_kwh=Decimal(kwh))


def shares(*sites: str, share: str = "0.7") -> dict[str, SiteTerms]:
    return {site: SiteTerms(f"owner of {site}", Decimal(share)) for site in sites}


def gross(allocation: Allocation) -> dict[str, int]:
    found: Counter[str] = Counter()
    for line in allocation.lines:
        found[line.credit.site_id] += line.gross_cents
    return dict(found)


def test_an_events_pay_is_shared_by_credited_energy_with_the_odd_cent_to_the_lower_site() -> None:
    credits_ = [credit(EVENTS[0], site, "2.5") for site in ("c", "a", "b")]
    allocation = allocate(pay_of((EVENTS[0], 10000)), credits_, shares("a", "b", "c"))
    assert gross(allocation) == {"a": 3334, "b": 3333, "c": 3333}
    assert [line.owner_cents for line in allocation.lines] == [2334, 2333, 2333]


def test_a_site_without_credit_has_a_line_of_zero() -> None:
    allocation = allocate(
        pay_of((EVENTS[0], 1)), [credit(EVENTS[0], s, k) for s, k in (("a", "0"), ("b", "5"))], shares("a", "b")
    )
    assert gross(allocation) == {"a": 0, "b": 1}


def test_a_months_pay_is_shared_by_the_months_energy_and_then_over_each_sites_events() -> None:
    credits_ = [credit(EVENTS[0], "a", "1"), credit(EVENTS[0], "b", "3"), credit(EVENTS[1], "a", "3")]
    allocation = allocate(pay_of((None, 700)), credits_, shares("a", "b"))
    assert [(line.credit.site_id, line.gross_cents) for line in allocation.lines] == [
        ("a", 100),
        ("a", 300),
        ("b", 300),
    ]


def test_pay_nobody_was_credited_for_is_kept_apart() -> None:
    allocation = allocate(pay_of((EVENTS[0], 500)), [credit(EVENTS[0], "a", "0")], shares("a"))
    assert allocation.unallocated_cents == 500
    assert gross(allocation) == {"a": 0}


def test_terms_settled_before_go_before_todays() -> None:
    credits_ = [credit(EVENTS[0], "a", "1"), credit(EVENTS[1], "a", "1")]
    kept = {("a", EVENTS[0]): SiteTerms("first owner", Decimal("0.5"))}
    allocation = allocate(pay_of((None, 2000)), credits_, shares("a", share="0.9"), kept)
    assert [(line.terms.owner_id, line.owner_cents) for line in allocation.lines] == [
        ("first owner", 500),
        ("owner of a", 900),
    ]


def test_a_site_without_terms_is_named() -> None:
    with pytest.raises(NotReady, match="site-9"):
        allocate(pay_of((None, 1)), [credit(EVENTS[0], "site-9", "1")], {})


kwh = st.integers(0, 200_000).map(lambda wh: Decimal(wh) / 1000)


@given(
    energies=st.lists(st.tuples(st.sampled_from(EVENTS), st.integers(1, 8), kwh), min_size=1, max_size=24),
    cents=st.lists(st.tuples(st.sampled_from([None, *EVENTS]), st.integers(0, 10**8)), min_size=1, max_size=6),
    share=st.integers(0, 100_000).map(lambda n: Decimal(n) / 100_000),
)
def test_no_cent_is_made_or_lost(
    energies: list[tuple[UUID, int, Decimal]], cents: list[tuple[UUID | None, int]], share: Decimal
) -> None:
    """Holds conventions, rule 5."""
    credits_ = [
        credit(event, f"s{n}", str(energy)) for (event, n), energy in {(e, n): k for e, n, k in energies}.items()
    ]
    terms = {c.site_id: SiteTerms("o", share) for c in credits_}
    pay = pay_of(*cents)
    allocation = allocate(pay, credits_, terms)
    assert sum(gross(allocation).values()) + allocation.unallocated_cents == pay.total_cents
    for line in allocation.lines:
        assert line.gross_cents == 0 or line.credit.credited_kwh > 0
        exact = Decimal(line.gross_cents) * share
        assert line.owner_cents == int(exact.quantize(Decimal(1), rounding=ROUND_HALF_UP))
        for part in line.parts:
            fair = Decimal(part["resource_cents"]) * Decimal(part["site_kwh"]) / Decimal(part["all_sites_kwh"])
            assert abs(part["site_cents"] - fair) < 1
