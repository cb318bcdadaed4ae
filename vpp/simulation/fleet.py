"""Room simulation: a whole virtual fleet from a seed: who is in, what is installed, how it lived until today.

Called by the demo's conductor (which enrols it and loads its history) and by `devices` (which serves it).
Two processes that make a fleet from the same arguments hold the same fleet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet import Floats
from vpp.domain.site import ProgramEnrolment, Site
from vpp.domain.time import as_utc
from vpp.simulation.control import Control
from vpp.simulation.enrolling import enrolment_csv, site_rows
from vpp.simulation.history import QUARTER, History, replay
from vpp.simulation.people import People
from vpp.simulation.physics import Params
from vpp.simulation.recipes import PEAK_HOURS, Kind, Recipe, draw
from vpp.simulation.tesla_modes import TeslaSettings, time_of_use_tariff
from vpp.simulation.weather import Weather

TIME_ZONE = "America/Los_Angeles"
HISTORY_DAYS = 60
FIRST_TESLA_SITE = 2_252_100_000_000
HOST = "127.0.0.1"
BASE_PORT = 15_100
COMMERCE_SHARE, HOSPITAL_SHARE = 0.22, 0.015
PEAK_PERCENTILE = 99.7
SHAVE_AT, FILL_TO = 0.7, 0.25
"""A shaver holds imports at the mean plus 0.7 of the way to the peak, and refills up to 0.25 of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualSite:
    """One site: `site` is what it enrols with, `recipe` how it really is; `phases` 1 or 3."""

    site: Site
    owner_name: str
    owner_email: str
    recipe: Recipe
    phases: int
    tesla: TeslaSettings | None


@dataclass(frozen=True, slots=True, kw_only=True)
class VirtualFleet:
    """Everything there is to know about a virtual fleet at `start_at`.

    Attributes:
        sites: in the order of every array's site axis; `sites[i].site.id` is ordered too.
        params: what is installed.
        weather: load and PV, minute by minute.
        past: the 60 days before `start_at` under native control.
    """

    seed: int
    start_at: datetime
    sites: tuple[VirtualSite, ...]
    params: Params
    weather: Weather
    past: History

    @property
    def site_ids(self) -> tuple[str, ...]:
        return tuple(virtual.site.id for virtual in self.sites)

    @property
    def reserve_soc(self) -> Floats:
        """The owners' reserves as enrolled, 0-1, shape (site,)."""
        return np.array([virtual.site.reserve_soc for virtual in self.sites])

    @property
    def start_soc(self) -> Floats:
        """State of charge at `start_at`, 0-1, shape (site,)."""
        return self.past.final_soc

    def control(self) -> Control:
        """The owners' own settings, before anyone commands anything."""
        return native_control(self.sites, self.reserve_soc, self.start_at)

    def site_rows(self) -> list[dict[str, Any]]:
        """The sites as the entries `POST /api/v1/sites` takes."""
        return site_rows(self.sites)

    def enrolment_csv(self) -> str:
        """The sites as the file `vpp enrol` reads."""
        return enrolment_csv(self.sites)

    def history(self, days: int = HISTORY_DAYS) -> tuple[tuple[datetime, ...], Floats, Floats]:
        """The last `days` before `start_at` in whole hours, with each battery under its own native control.

        Returns:
            The start of each hour (UTC), energy at the utility meter (export positive) and at the battery's
            sub-meter (discharge positive) [kWh], each of shape (hour, site).
        """
        return self.past.hourly(days)


def make_fleet(
    *,
    seed: int,
    sites: int,
    day: date,
    tesla_share: float = 0.35,
    start_at: datetime | None = None,
    tenant_id: str = "demo",
    programs: Sequence[tuple[str, Decimal]] = (("elrp", Decimal("0.80")),),
    base_port: int = BASE_PORT,
) -> VirtualFleet:
    """Make the fleet of a seed.

    Args:
        seed: the same seed and arguments give the same fleet, bit for bit.
        sites: how many.
        day: the local day of the simulation.
        tesla_share: share of all sites that are homes with Tesla batteries; the rest speak SunSpec.
        start_at: when the simulation begins; local midnight of `day` if None. On a whole quarter of an hour.
        tenant_id: put into the sites' domain objects.
        programs: programmes every site enrols in, with the owner's share.
        base_port: the SunSpec devices listen on consecutive ports from here, in the order of the sites.

    Raises:
        InvalidRequest: an argument outside its range.
    """
    if not 1 <= sites <= 20_000:
        raise InvalidRequest("sites", sites, "1 to 20000")
    if not 0 <= tesla_share <= 1:
        raise InvalidRequest("tesla_share", tesla_share, "a share from 0 to 1")
    midnight = as_utc(datetime.combine(day, time(), ZoneInfo(TIME_ZONE)))
    start_at = midnight if start_at is None else as_utc(start_at)
    recipes = _draw_all(seed, sites, tesla_share)
    weather = Weather(recipes, time_zone=TIME_ZONE, seed=seed)
    past_start = start_at - timedelta(days=HISTORY_DAYS)
    params, recipes = _installed(recipes, weather, seed, past_start)
    virtual = _enrolled(recipes, params, seed, tenant_id, programs, base_port)
    reserve_soc = np.array([recipe.reserve_soc for recipe in recipes])
    first_soc = np.maximum(reserve_soc, [recipe.first_soc for recipe in recipes])
    control = native_control(virtual, reserve_soc, start_at)
    past = replay(params, control, weather, first_soc=first_soc, start_at=past_start, days=HISTORY_DAYS)
    virtual = tuple(_with_peaks(site, row, past, day) for row, site in enumerate(virtual))
    return VirtualFleet(seed=seed, start_at=start_at, sites=virtual, params=params, weather=weather, past=past)


def native_control(sites: Sequence[VirtualSite], reserve_soc: Floats, at: datetime) -> Control:
    """The devices' settings as their owners made them."""
    control = Control.untouched(reserve_soc)
    local_day = at.astimezone(ZoneInfo(TIME_ZONE)).date()
    for row, site in enumerate(sites):
        if site.tesla is not None:
            control.set_tesla(row, site.tesla, local_day)
    return control


def _draw_all(seed: int, sites: int, tesla_share: float) -> list[Recipe]:
    tesla = round(sites * tesla_share)
    hospitals = min(round(sites * HOSPITAL_SHARE), sites - tesla)
    commerce = min(max(1, round(sites * COMMERCE_SHARE)), sites - tesla - hospitals)
    homes = sites - tesla - hospitals - commerce
    kinds = [(Kind.HOME, "tesla")] * tesla + [(Kind.HOSPITAL, "sunspec")] * hospitals
    kinds += [(Kind.COMMERCE, "sunspec")] * commerce + [(Kind.HOME, "sunspec")] * homes
    random = np.random.default_rng([seed, 0])
    profiles = Weather((), time_zone=TIME_ZONE, seed=seed).profiles
    shuffled = [kinds[place] for place in random.permutation(sites)]
    return [draw(random, kind, adapter, profiles) for kind, adapter in shuffled]


def _installed(
    recipes: Sequence[Recipe], weather: Weather, seed: int, past_start: datetime
) -> tuple[Params, list[Recipe]]:
    """What an installer would size from the site's own load: connection limits and the shaver's thresholds."""
    random = np.random.default_rng([seed, 2])
    load_kw, pv_kw = weather.means(past_start, HISTORY_DAYS * 96, QUARTER)
    net_kw = load_kw - pv_kw
    mean_kw, peak_kw = net_kw.mean(axis=0), np.percentile(net_kw, PEAK_PERCENTILE, axis=0)
    most_kw = load_kw.max(axis=0)
    home = np.array([recipe.kind is Kind.HOME for recipe in recipes])
    hospital = np.array([recipe.kind is Kind.HOSPITAL for recipe in recipes])
    backup = np.array([recipe.backup_only for recipe in recipes])
    charge, discharge = (
        np.array([getattr(recipe.battery, name) for recipe in recipes])
        for name in ("max_charge_kw", "max_discharge_kw")
    )
    rated_pv_kw = np.array([recipe.pv_kw for recipe in recipes])
    head_room = np.where(hospital, 1.1, random.uniform(1.25, 1.6, len(recipes)))
    import_kw = np.where(home, np.maximum(24.0, most_kw + charge), np.ceil(most_kw * head_room / 5.0) * 5.0)
    generous = np.where(home, discharge + rated_pv_kw, discharge * random.uniform(0.5, 1.0, len(recipes)))
    zero = np.array([recipe.zero_export for recipe in recipes])
    rise = np.maximum(peak_kw - mean_kw, 0.0)
    params = Params(
        max_charge_kw=charge,
        max_discharge_kw=discharge,
        capacity_kwh=np.array([recipe.battery.capacity_kwh for recipe in recipes]),
        charge_efficiency=np.array([recipe.battery.charge_efficiency for recipe in recipes]),
        discharge_efficiency=np.array([recipe.battery.discharge_efficiency for recipe in recipes]),
        import_limit_kw=np.round(import_kw, 1),
        export_limit_kw=np.where(zero, 0.0, np.round(np.maximum(generous, 1.0), 1)),
        ramp_kw_per_s=np.maximum(charge, discharge) / np.array([recipe.ramp_s for recipe in recipes]),
        shave_kw=np.where(backup, np.inf, np.where(home, 0.0, mean_kw + SHAVE_AT * rise)),
        fill_kw=np.where(backup, 3.0, np.where(home, 0.0, mean_kw + FILL_TO * rise)),
        is_tesla=np.array([recipe.adapter == "tesla" for recipe in recipes]),
    )
    return params, list(recipes)


def _enrolled(
    recipes: Sequence[Recipe],
    params: Params,
    seed: int,
    tenant_id: str,
    programs: Sequence[tuple[str, Decimal]],
    base_port: int,
) -> tuple[VirtualSite, ...]:
    people = People(seed)
    made = []
    port = base_port
    for row, recipe in enumerate(recipes):
        owner = people.owner_of(recipe.kind)
        address = str(FIRST_TESLA_SITE + row)
        if recipe.adapter == "sunspec":
            address, port = f"{HOST}:{port}/1", port + 1
        site = Site(
            id=f"site-{row + 1:05d}",
            tenant_id=tenant_id,
            name=people.name_site(owner, recipe.kind),
            owner_id=owner.id,
            utility_account=f"GCE-{10_000_000 + 7 * row}",
            time_zone=TIME_ZONE,
            device_id=row + 1,
            adapter=recipe.adapter,
            address=address,
            battery=recipe.battery,
            import_limit_kw=float(params.import_limit_kw[row]),
            export_limit_kw=float(params.export_limit_kw[row]),
            reserve_soc=recipe.reserve_soc,
            tariff=recipe.tariff,
            programs=tuple(ProgramEnrolment(program=name, owner_share=share) for name, share in programs),
        )
        made.append(
            VirtualSite(
                site=site,
                owner_name=owner.name,
                owner_email=owner.email,
                recipe=recipe,
                phases=1 if recipe.kind is Kind.HOME else 3,
                tesla=_tesla_settings(recipe, float(params.export_limit_kw[row])),
            )
        )
    return tuple(made)


def _tesla_settings(recipe: Recipe, export_limit_kw: float) -> TeslaSettings | None:
    if recipe.adapter != "tesla":
        return None
    peak, other = (float(period.price_per_kwh) for period in recipe.tariff.energy)
    mode = "backup" if recipe.backup_only else "autonomous" if recipe.trades else "self_consumption"
    return TeslaSettings(
        backup_reserve_percent=round(recipe.reserve_soc * 100),
        default_real_mode=mode,
        customer_preferred_export_rule="pv_only" if export_limit_kw > 0 else "never",
        disallow_charge_from_grid_with_solar_installed=not recipe.backup_only,
        tariff_content_v2=time_of_use_tariff(peak, other, float(recipe.tariff.export_price_per_kwh), PEAK_HOURS),
    )


def _with_peaks(virtual: VirtualSite, row: int, past: History, day: date) -> VirtualSite:
    """The site with what its meter has recorded since the billing period began, on the first of the month."""
    site = virtual.site
    if not site.tariff.demand:
        return virtual
    zone = ZoneInfo(site.time_zone)
    billing_start = day.replace(day=1)
    since = as_utc(datetime.combine(billing_start, time(), zone))
    peaks = {
        charge.name: round(past.import_peak_kw(row, charge, since, zone), 3) if past.end_at > since else 0.0
        for charge in site.tariff.demand
    }
    return replace(virtual, site=replace(site, peak_so_far_kw=peaks, billing_start=billing_start))
