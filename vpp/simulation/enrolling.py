"""Room simulation: a virtual fleet as the file its operator would enrol. Called through `VirtualFleet`."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from vpp.domain.site import DemandCharge, EnergyPeriod
from vpp.enrolment import read_site_forms, write_sites_csv

if TYPE_CHECKING:
    from vpp.simulation.fleet import VirtualSite


def site_rows(sites: "Iterable[VirtualSite]") -> list[dict[str, Any]]:
    """The sites as the entries `POST /api/v1/sites` takes."""
    return [_row(virtual) for virtual in sites]


def enrolment_csv(sites: "Iterable[VirtualSite]") -> str:
    """The sites as the file `vpp enrol` reads."""
    return write_sites_csv(read_site_forms(site_rows(sites)))


def _row(virtual: "VirtualSite") -> dict[str, Any]:
    site = virtual.site
    return {
        "site": site.id,
        "name": site.name,
        "owner": site.owner_id,
        "owner_name": virtual.owner_name,
        "owner_email": virtual.owner_email,
        "utility_account": site.utility_account,
        "time_zone": site.time_zone,
        "programs": [{"program": part.program, "owner_share": part.owner_share} for part in site.programs],
        "battery": asdict(site.battery),
        "import_limit_kw": site.import_limit_kw,
        "export_limit_kw": site.export_limit_kw,
        "reserve_soc": site.reserve_soc,
        "tariff": {
            "name": site.tariff.name,
            "energy": [_period(period) for period in site.tariff.energy],
            "export_price_per_kwh": site.tariff.export_price_per_kwh,
            "demand": [_period(charge) for charge in site.tariff.demand],
        },
        "billing_start": site.billing_start,
        "peaks_so_far_kw": dict(site.peak_so_far_kw),
        "adapter": site.adapter,
        "address": site.address,
    }


def _period(period: EnergyPeriod | DemandCharge) -> dict[str, Any]:
    return asdict(period)
