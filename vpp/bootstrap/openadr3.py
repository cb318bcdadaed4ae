"""Room bootstrap: our OpenADR 3 VTN, beside the portal in the process of `vpp serve`."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

from fastapi import FastAPI

from market.openadr3.vtn.app import VtnParts, create_vtn
from vpp.bootstrap.frame import Secrets
from vpp.config import Settings
from vpp.peering import Changes, OwnAuthority, SqlMessageLog, SqlObjectShelf, run_retention
from vpp.ports import CallbackCheck, Clock, Notifiers
from vpp.store.engine import Store


@asynccontextmanager
async def openadr3_vtn(
    settings: Settings,
    store: Store,
    clock: Clock,
    *,
    changes: Changes | None = None,
    callbacks: CallbackCheck | None = None,
    notifiers: Notifiers | None = None,
) -> AsyncIterator[dict[str, FastAPI]]:
    """Both versions of our VTN by the path they are mounted at, while the message log is written and peers are
    watched for changes.

    Args:
        changes: told of every object that changes, within the transaction.
        callbacks: asked before a subscription is kept; None takes any callback address.
        notifiers: tells of MQTT; None where there are only webhooks.
    """
    authority = OwnAuthority(store, clock, settings, secrets=Secrets(settings.secrets_dir))
    log = SqlMessageLog(store, clock, days=settings.message_log_days, rows=settings.message_log_rows)
    parts = VtnParts(
        shelf=SqlObjectShelf(store, clock, changes),
        authority=authority,
        clock=clock,
        log=log,
        callbacks=callbacks,
        notifiers=notifiers,
        issues_tokens=settings.openadr3_oauth_issuer is None,
    )
    keep_for = timedelta(days=settings.openadr2_vtn_keep_days)
    async with _beside(authority.run(), log.run(), run_retention(store, clock, keep_for=keep_for)):
        yield {f"/openadr3/{version}": app for version, app in create_vtn(parts).items()}


@asynccontextmanager
async def _beside(*loops: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run loops beside the block; one that fails ends the block too, and with it the process."""
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(each) for each in loops]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
