"""Sites for machines and people: enrol, list, and the owner's reserve. Mounted by `app.create_app`."""

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict

from vpp.domain.errors import NotFound
from vpp.domain.site import Site
from vpp.enrolment import (
    EnrolmentRefused,
    SiteForm,
    enrol_sites,
    get_site,
    load_sites,
    read_site_forms,
    reserve_changes,
    set_reserve,
)
from vpp.portal.auth import Subject, require
from vpp.portal.context import Ctx
from vpp.portal.problems import problem

router = APIRouter(prefix="/api/v1/sites", tags=["sites"])

MAX_SITES = 1000
"""A request; more are sent in several, or with `vpp enrol`."""

Operate = Annotated[Subject, Depends(require(roles=("operator",), scope="operate"))]
Read = Annotated[Subject, Depends(require(roles=("operator", "owner"), scope="read"))]
Change = Annotated[Subject, Depends(require(roles=("operator", "owner"), scope="operate"))]


class EnrolledOut(BaseModel):
    """What an enrolment did. `reserves_kept`: sites whose owner has set another reserve since, which stays."""

    sites: list[str]
    created: list[str]
    reserves_kept: list[str]


class SiteOut(BaseModel):
    """A site as enrolled: kW, kWh, shares 0-1."""

    site: str
    name: str
    owner: str
    utility_account: str
    time_zone: str
    device_id: int
    adapter: str
    programs: dict[str, str]
    max_charge_kw: float
    max_discharge_kw: float
    capacity_kwh: float
    import_limit_kw: float
    export_limit_kw: float
    reserve_soc: float
    tariff: str
    peaks_so_far_kw: dict[str, float]


class ReserveIn(BaseModel):
    """The reserve wanted, a share 0-1."""

    model_config = ConfigDict(extra="forbid")

    reserve_soc: float


class ReserveChangeOut(BaseModel):
    """The reserve as somebody set it."""

    reserve_soc: float
    changed_at: datetime
    changed_by: str


class ReserveOut(BaseModel):
    """The reserve in force, a share 0-1, and who set it, newest first."""

    site: str
    reserve_soc: float
    changes: list[ReserveChangeOut]


@router.post(
    "",
    status_code=201,
    response_model=EnrolledOut,
    responses={422: {}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": {"type": "array", "items": SiteForm.model_json_schema()}}},
        }
    },
)
async def enrol(request: Request, context: Ctx, subject: Operate) -> Response:
    """Enrol or update sites, all or none. Refused with every bad field of every entry."""
    try:
        entries = await request.json()
    except ValueError:
        return problem(request, 422, "Not acceptable as given", "send a JSON list of sites")
    if not isinstance(entries, list) or not 1 <= len(entries) <= MAX_SITES:
        return problem(request, 422, "Not acceptable as given", f"send a JSON list of 1 to {MAX_SITES} sites")
    try:
        forms = read_site_forms(
            entries,
            adapters=getattr(request.app.state, "adapter_names", None),
            programs=context.programs.keys() or None,
        )
        async with context.store.begin() as connection:
            enrolled = await enrol_sites(connection, subject.tenant_id, forms, now=context.clock.now())
    except EnrolmentRefused as refused:
        listed = [
            {"entry": one.line, "field": one.column, "value": one.value, "allowed": one.allowed}
            for one in refused.problems
        ]
        return problem(request, 422, "Not acceptable as given", str(refused), problems=listed)
    body = {
        "sites": list(enrolled.site_ids),
        "created": list(enrolled.created),
        "reserves_kept": list(enrolled.reserves_kept),
    }
    return JSONResponse(body, 201)


@router.get("")
async def sites(context: Ctx, subject: Read, program: str | None = None) -> list[SiteOut]:
    """Every site of the tenant; of an owner, the own ones."""
    async with context.store.begin() as connection:
        found = await load_sites(connection, tenant_id=subject.tenant_id, program=program, owner_id=subject.owner_id)
    return [_site_out(site) for site in found]


@router.get("/{site_id}/reserve")
async def reserve(context: Ctx, subject: Read, site_id: str) -> ReserveOut:
    """The reserve in force and its history."""
    async with context.store.begin() as connection:
        return await _reserve_out(connection, await _own_site(connection, subject, site_id))


@router.patch("/{site_id}/reserve")
async def change_reserve(context: Ctx, subject: Change, site_id: str, wanted: ReserveIn) -> ReserveOut:
    """Set the owner's backup reserve. It is the floor of every plan from the next control cycle on."""
    async with context.store.begin() as connection:
        await _own_site(connection, subject, site_id)
        by = f"{subject.role}:{subject.account_id}" if subject.account_id else subject.role
        await set_reserve(connection, site_id, wanted.reserve_soc, by=by, now=context.clock.now())
        return await _reserve_out(connection, await _own_site(connection, subject, site_id))


async def _own_site(connection: Any, subject: Subject, site_id: str) -> Site:
    """The site, if it is the subject's to see: another tenant's or owner's does not exist for them."""
    site = await get_site(connection, site_id, tenant_id=subject.tenant_id)
    if subject.owner_id is not None and site.owner_id != subject.owner_id:
        raise NotFound(f"no site {site_id!r}")
    return site


async def _reserve_out(connection: Any, site: Site) -> ReserveOut:
    changes = await reserve_changes(connection, site.id)
    listed = [{key: value for key, value in asdict(one).items() if key != "site_id"} for one in changes]
    return ReserveOut.model_validate({"site": site.id, "reserve_soc": site.reserve_soc, "changes": listed})


def _site_out(site: Site) -> SiteOut:
    battery = site.battery
    return SiteOut(
        site=site.id,
        name=site.name,
        owner=site.owner_id,
        utility_account=site.utility_account,
        time_zone=site.time_zone,
        device_id=site.device_id,
        adapter=site.adapter,
        programs={entry.program: f"{entry.owner_share:f}" for entry in site.programs},
        max_charge_kw=battery.max_charge_kw,
        max_discharge_kw=battery.max_discharge_kw,
        capacity_kwh=battery.capacity_kwh,
        import_limit_kw=site.import_limit_kw,
        export_limit_kw=site.export_limit_kw,
        reserve_soc=site.reserve_soc,
        tariff=site.tariff.name,
        peaks_so_far_kw=site.peak_so_far_kw,
    )
