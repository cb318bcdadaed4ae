"""Builders of enrolment forms and files for tests."""

from typing import Any

from vpp.enrolment import SiteForm

TARIFF: dict[str, Any] = {
    "name": "B-19",
    "energy": [
        {"name": "peak", "price_per_kwh": "0.45", "start_h": 16, "end_h": 21, "weekdays": [1, 2, 3, 4, 5]},
        {"name": "rest", "price_per_kwh": "0.20"},
    ],
    "export_price_per_kwh": "0.05",
    "demand": [{"name": "summer", "price_per_kw": "18.50", "start_h": 16, "end_h": 21}],
}


def site_entry(number: int = 1, **changes: Any) -> dict[str, Any]:
    """One API entry; `changes` replace top-level fields."""
    return {
        "site": f"site-{number:03}",
        "owner": f"owner-{number:03}",
        "owner_email": f"owner{number}@example.com",
        "utility_account": f"ACC-{number:05}",
        "time_zone": "America/Los_Angeles",
        "programs": [{"program": "elrp", "owner_share": "0.8"}],
        "battery": {
            "max_charge_kw": 5.0,
            "max_discharge_kw": 5.0,
            "capacity_kwh": 13.5,
            "charge_efficiency": 0.95,
            "discharge_efficiency": 0.95,
        },
        "import_limit_kw": 20.0,
        "export_limit_kw": 10.0,
        "reserve_soc": 0.2,
        "tariff": TARIFF,
        "billing_start": "2026-08-01",
        "peaks_so_far_kw": {"summer": 4.0},
        "adapter": "sunspec",
        "address": f"127.0.0.1:{5000 + number}/1",
    } | changes


def site_form(number: int = 1, **changes: Any) -> SiteForm:
    """One checked form."""
    return SiteForm.model_validate(site_entry(number, **changes))
