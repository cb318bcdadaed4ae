"""Room bootstrap: the process of portal, API and OpenADR 3 VTN (`vpp serve`)."""

import asyncio

import uvicorn
from fastapi import FastAPI

from vpp.bootstrap.bounded_http import HttpBounds, bounded_http
from vpp.bootstrap.changes import changes_for
from vpp.bootstrap.connections import room_for
from vpp.bootstrap.frame import clock_for, open_store
from vpp.bootstrap.notify import callback_check, notifiers_for
from vpp.bootstrap.openadr3 import openadr3_vtn
from vpp.bootstrap.translator import Translator
from vpp.bootstrap.wiring import ADAPTERS, programs
from vpp.config import Settings
from vpp.gateway.ven3.callback import callback_router
from vpp.peering import ForwardingChanges, listening
from vpp.portal import create_app


async def serve(settings: Settings, *, host: str, port: int) -> None:
    """Portal, API and OpenADR 3 VTN until told to stop."""
    settings = listening(settings, "public_url", host=host, port=port)
    translator = Translator()
    async with (
        open_store(settings, pool_size=10) as store,
        clock_for(settings, "portal") as clock,
        openadr3_vtn(
            settings,
            store,
            clock,
            changes=ForwardingChanges(changes_for(settings), translator),
            callbacks=callback_check(settings),
            notifiers=notifiers_for(settings, store, clock),
        ) as vtn,
    ):
        app: FastAPI = create_app(
            store, clock, settings, programs(), routers=(callback_router(store),), mounts=vtn, translator=translator,
            changes=changes_for(settings),
        )  # fmt: skip
        app.state.adapter_names = frozenset(ADAPTERS)
        server = uvicorn.Server(
            uvicorn.Config(
                app, host=host, port=port, http=_bounded(settings), log_level="warning", timeout_graceful_shutdown=5
            )
        )
        await server.serve()


def _bounded(settings: Settings) -> type[asyncio.Protocol]:
    most = room_for(settings.serve_connections, process="serve")
    return bounded_http(HttpBounds(connections=most, per_address=settings.serve_connections_per_address))
