"""Settlement arithmetic against worked examples (`settlement_arithmetic.json`) and the research text."""

import json
import os
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from market.coned_csrp import ConEdCsrp
from market.elrp import Elrp
from tests.builders_settlement import an_event, terms
from vpp.domain.money import split_cents
from vpp.measurement import CaisoRules, caiso_10_in_10, day_loads

SHARED = Path(os.environ.get("VPP_SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))
VECTORS = SHARED / "vectors" / "settlement" / "settlement_arithmetic.json"

needs_vectors = pytest.mark.skipif(
    not VECTORS.exists(), reason="shared vectors are not on this machine; set VPP_SHARED_DIR to their folder"
)


def vector(name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(v for v in json.loads(VECTORS.read_text()) if v["id"] == name)
    return found


@needs_vectors
def test_the_ratio_is_capped_as_worked_out() -> None:
    worked = vector("adj_ratio_cap")
    trading_day = date(2026, 8, 19)
    days = [trading_day - timedelta(days=back) for back in range(46)]
    for given, expected in zip(worked["inputs"], worked["expect"], strict=True):
        series = {(day, 17): 1.0 for day in days}
        for i, hour in enumerate((13, 14, 15)):
            series |= {(day, hour): given["base"][i] for day in days} | {(trading_day, hour): given["actual"][i]}
        rules = CaisoRules(cap=tuple(given["cap"]))
        found = caiso_10_in_10(trading_day, day_loads(series, days, [17], [13, 14, 15]), event_days=(), rules=rules)
        assert found.adjustment == pytest.approx(expected)


@needs_vectors
def test_elrp_pays_netted_or_floored_as_worked_out() -> None:
    worked = vector("elrp")
    pairs = zip(worked["inputs"]["baseline"], worked["inputs"]["actual"], strict=True)
    event = an_event(*(str(base - actual) for base, actual in pairs))
    for netting, kwh, dollars in (
        ("event", "ilr_netted_kwh", "pay_netted"),
        ("interval", "ilr_hour_floored_kwh", "pay_floored"),
    ):
        line = Elrp().monthly_pay(date(2026, 8, 1), [event], terms(netting=netting)).lines[0]
        assert line.quantity == worked["expect"][kwh]
        assert Decimal(line.amount_cents) / 100 == Decimal(worked["expect"][dollars])


@needs_vectors
@pytest.mark.parametrize("name", ["split_thirds", "split_zero_w"])
def test_cents_are_split_as_worked_out(name: str) -> None:
    """Holds conventions, rule 5."""
    worked = vector(name)
    assert split_cents(worked["inputs"]["cents"], worked["inputs"]["w"]) == worked["expect"]


def test_csrp_pays_pledge_times_factor_times_rate() -> None:
    """Research text: reservation = kW pledged x PF x rate, PF = mean hourly kW of 4 h / pledged."""
    event = an_event("480", "520", "500", "460")
    pay = ConEdCsrp().monthly_pay(date(2026, 8, 1), [event], terms("coned_csrp", "500"))
    assert pay.performance_factor == Decimal("0.98")
    assert [line.amount_cents for line in pay.lines] == [8820_00, 1960_00]
