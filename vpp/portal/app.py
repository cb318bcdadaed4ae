"""The portal's application: pages for people, `/api/v1` for machines, health for the orchestrator.

Called by bootstrap (`vpp serve`), the simulation and the tests. Everything it needs is handed in.
"""

from collections.abc import AsyncIterator, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from fastapi.staticfiles import StaticFiles
from starlette.types import ASGIApp

from vpp.clock import SystemClock
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.peering import Changes
from vpp.portal import (
    events,
    grid_event_pages,
    grid_events,
    health,
    heard_pages,
    ledger,
    messages,
    operator,
    owner,
    peers,
    peers_api,
    reasons,
    sign_in,
    sites,
    statements,
    telemetry,
    utility,
    ven_requests,
)
from vpp.portal.context import Context
from vpp.portal.live import LiveFeeds
from vpp.portal.mounts import WithMounts
from vpp.portal.problems import install_problem_handlers
from vpp.portal.render import BUNDLE, HERE
from vpp.portal.security import SecurityHeaders
from vpp.ports import Clock, EventTranslator, MarketProgram
from vpp.store.engine import Store
from vpp.telemetry import MAX_BODY_BYTES

SLACK_BYTES = 65_536
"""Above what telemetry takes, so that its own refusal, which says more, comes first."""
_ROUTERS = (
    health, sign_in, operator, peers, messages, utility, owner, events, reasons, sites, telemetry, statements, ledger,
    peers_api, ven_requests, grid_events, grid_event_pages, heard_pages,
)  # fmt: skip


def create_app(
    store: Store,
    clock: Clock,
    settings: Settings,
    programs: Mapping[str, MarketProgram],
    *,
    wall_clock: Clock | None = None,
    adapter_names: Collection[str] | None = None,
    routers: Iterable[APIRouter] = (),
    mounts: Mapping[str, ASGIApp] | None = None,
    translator: EventTranslator | None = None,
    changes: Changes | None = None,
) -> FastAPI:
    """Return the application.

    Args:
        clock: the fleet's time, which a simulation may step.
        programs: the programmes this installation takes part in, by name.
        wall_clock: real time, which ends sessions; the machine's own unless a test brings another.
        adapter_names: the adapters a site may be enrolled with; None takes any name.
        routers: more routes to mount, as of a gateway that listens.
        mounts: whole applications by the path they stand below, as our OpenADR 3 VTN.
        translator: says events in the words of either protocol; without one none can be told downstream.
        changes: who is told that an event became an object of our OpenADR 3 VTN; None tells in 2.0b only.

    Raises:
        NotReady: the scripts and styles of the pages were not built.
    """
    require_bundle(BUNDLE)
    app = WithMounts(
        mounts=mounts or {},
        title="Virtual power plant aggregator",
        version="1",
        description="Events, sites, telemetry, statements and the ledger of one tenant. "
        "Send a bearer token of scope operate, telemetry or read.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=_lifespan,
        max_body_size=MAX_BODY_BYTES + SLACK_BYTES,
    )
    app.state.context = Context(
        store=store, clock=clock, wall_clock=wall_clock or SystemClock(), settings=settings, programs=programs,
        translator=translator, changes=changes,
    )  # fmt: skip
    app.state.adapter_names = adapter_names
    app.state.feeds = LiveFeeds()
    app.add_middleware(SecurityHeaders)
    install_problem_handlers(app)
    for module in _ROUTERS:
        app.include_router(module.router)
    for router in routers:
        app.include_router(router)
    app.mount("/static", StaticFiles(directory=HERE / "static"), name="static")
    return app


def require_bundle(folder: Path) -> None:
    """Refuse to serve pages that cannot work.

    Raises:
        NotReady: the scripts and styles were not built into `folder`.
    """
    if not (folder / "app.js").is_file():
        raise NotReady("the pages' scripts are not built: run `uv sync --reinstall-package vpp-aggregator`")


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await app.state.feeds.close()
