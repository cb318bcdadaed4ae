"""Room bootstrap: the process of our OpenADR 2.0b VEN (`vpp gateway`)."""

import secrets
from datetime import datetime

from sqlalchemy.ext.asyncio import AsyncConnection

from market.openadr2 import Openadr2Client
from vpp.bootstrap.wiring import clock_for, decision, open_store, programs, until_stopped, watched_loops
from vpp.commitments import in_force
from vpp.config import Settings
from vpp.dispatch import delivered_kw
from vpp.domain.errors import NotReady
from vpp.gateway import Openadr2Ven
from vpp.observability import WatchedClock
from vpp.ports import Clock, VenClient
from vpp.store.engine import Store


async def gateway(settings: Settings) -> None:
    """Our VEN at the utility's VTN until told to stop.

    Raises:
        NotReady: no VTN is configured.
    """
    if settings.openadr2_vtn_url is None:
        raise NotReady("VPP_OPENADR2_VTN_URL names the utility's VTN; it is not set")
    client = Openadr2Client(
        settings.openadr2_peer,
        settings.openadr2_vtn_url,
        ven_name=settings.openadr2_ven_name,
        program_of=settings.openadr2_programs,
        cert_path=settings.openadr2_cert,
        key_path=settings.openadr2_key,
        ca_path=settings.openadr2_ca,
        vtn_fingerprint=settings.openadr2_vtn_fingerprint,
        sign=settings.openadr2_sign,
    )
    try:
        with watched_loops(settings) as pulse:
            async with open_store(settings) as store, clock_for(settings, "gateway") as clock:
                watched = WatchedClock(clock, pulse, "gateway")
                await until_stopped(openadr2_ven(settings, store, watched, client).run())
    finally:
        await client.close()


def openadr2_ven(settings: Settings, store: Store, clock: Clock, client: VenClient) -> Openadr2Ven:
    """Our side at one utility, told how to decide and what to report."""

    async def delivered(connection: AsyncConnection, at: datetime) -> float | None:
        found = await in_force(connection, at, tenant_id=settings.tenant)
        powers = [await delivered_kw(connection, commitment, at) for commitment in found]
        known = [power for power in powers if power is not None]
        return sum(known) if known else None

    return Openadr2Ven(
        store,
        clock,
        client,
        tenant_id=settings.tenant,
        programs=programs(),
        decide=decision(settings, clock),
        delivered_kw=delivered,
        poll_s=settings.openadr2_poll_s,
        seed=secrets.randbits(32) if settings.seed is None else settings.seed,
    )
