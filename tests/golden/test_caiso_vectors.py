"""CAISO 10-in-10 against independently computed cases on real homes (CityLearn 2022)."""

import csv
import json
import os
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from vpp.measurement.baselines.caiso_10_in_10 import Rules, caiso_10_in_10
from vpp.measurement.baselines.days import day_loads

SHARED = Path(os.environ.get("VPP_SHARED_DIR", Path(__file__).resolve().parents[3] / "shared"))
VECTORS = SHARED / "vectors" / "settlement" / "day_matching_citylearn.json"
HOMES = SHARED / "data" / "citylearn2022"
FIRST_HOUR = datetime(2016, 7, 31, 23, tzinfo=UTC)  # row 0 is hour ending 24, local clock (SOURCES.md); UTC as a label

METHODS = ("caiso_10in10", "caiso_10in10_noadj")


def cases() -> list[dict]:
    if VECTORS.exists() and HOMES.exists():
        return json.loads(VECTORS.read_text())
    if os.environ.get("VPP_REQUIRE_ALL") == "1":
        raise FileNotFoundError(f"VPP_REQUIRE_ALL=1 but {VECTORS} or {HOMES} is missing")
    return []


CASES = cases()


def home_series(building: int, series: str) -> dict[tuple[date, int], float]:
    """Hourly load, or load net of PV, of one home by (local day, hour beginning) [kWh]."""
    buildings = json.loads((HOMES / "schema.json").read_text())["buildings"]
    pv_kw = buildings[f"Building_{building}"]["pv"]["attributes"]["nominal_power"]
    found = {}
    with (HOMES / f"Building_{building}.csv").open() as file:
        for row_number, row in enumerate(csv.DictReader(file)):
            at = FIRST_HOUR + timedelta(hours=row_number)
            pv_kwh = float(row["solar_generation"]) * pv_kw / 1000 if series != "load" else 0.0
            found[(at.date(), at.hour)] = float(row["non_shiftable_load"]) - pv_kwh
    return found


@pytest.mark.skipif(not CASES, reason="shared vectors are not on this machine; set VPP_SHARED_DIR to their folder")
@pytest.mark.parametrize(
    ("case", "method"),
    [pytest.param(c, m, id=f"{c['case']}-{m}") for c in CASES for m in METHODS if m in c["methods"]],
)
def test_baseline_equals_the_independent_computation(case: dict, method: str) -> None:
    expected = case["methods"][method]
    trading_day = date.fromisoformat(case["day"])
    hours = case["event_hours_begin"]
    days = [trading_day - timedelta(days=back) for back in range(46)]
    loads = day_loads(
        home_series(case["building"], case["series"]), days, hours, [hours[0] - back for back in (4, 3, 2)]
    )
    found = caiso_10_in_10(
        trading_day,
        loads,
        event_days={date.fromisoformat(day) for day in case["event_days"]},
        rules=Rules(adjusted=method == "caiso_10in10"),
    )
    assert [day.isoformat() for day in found.days] == expected["days"]
    assert found.unadjusted_kwh == pytest.approx(expected["unadjusted"], abs=1e-6)
    assert found.ratio == pytest.approx(expected["ratio"], abs=1e-6)
    assert found.adjustment == pytest.approx(expected["adjustment"], abs=1e-6)
    assert found.baseline_kwh == pytest.approx(expected["baseline"], abs=1e-6)
