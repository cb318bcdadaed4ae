"""Room bootstrap: the process of our OpenADR 2.0b VTN (`vpp vtn`)."""

import asyncio
import gc
import os
import ssl
import sys
from datetime import timedelta

import structlog

from market.openadr2.codec import Signer
from market.openadr2.push import Openadr2Pusher
from market.openadr2.rendering import Renderer, can_say
from market.openadr2.tls import server_context
from market.openadr2.vtn import Openadr2Vtn, VtnOptions
from vpp.bootstrap.connections import room_for
from vpp.bootstrap.frame import clock_for, open_store, until_stopped, watched_loops
from vpp.bootstrap.replays import ValkeyReplay
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.gateway.notify import AddressRules, CallbackGuard, pushable
from vpp.gateway.vtn import PushLoop, VtnDesk
from vpp.observability import WatchedClock
from vpp.peering import SqlMessageLog, listening
from vpp.ports import Clock
from vpp.store.engine import Store

PARENT_EVERY_S = 1.0
SWITCH_S = 0.0005
"""How long the thread that redacts messages for the log may keep one that answers a VEN waiting at a time."""

log = structlog.get_logger(__name__)


async def vtn2(settings: Settings, *, host: str, port: int, with_parent: int | None = None) -> None:
    """Our OpenADR 2.0b VTN until told to stop.

    Args:
        with_parent: id of the process that started this one, and without which it stops.

    Raises:
        NotReady: a certificate is missing, or the address cannot be listened on.
    """
    tls = _tls(settings)
    settings = listening(settings, "openadr2_public_url", host=host, port=port, tls=tls is not None)
    with watched_loops(settings) as pulse:
        async with open_store(settings, pool_size=10) as store, clock_for(settings, "vtn") as clock:
            watched, signer = WatchedClock(clock, pulse, "vtn"), _signer(settings, clock)
            messages = SqlMessageLog(store, clock, days=settings.message_log_days, rows=settings.message_log_rows)
            desk = vtn2_desk(settings, store, watched)
            at_once = room_for(settings.openadr2_vtn_connections, process="vtn")
            server = Openadr2Vtn(
                desk, clock, _options(settings, at_once), messages=messages, signer=signer, replay=ValkeyReplay(store)
            )
            pusher = Openadr2Pusher(clock, Renderer(signer), messages=messages, tls=_client_tls(settings))
            public_only = settings.openadr2_vtn_push_public_only
            allowed = CallbackGuard(AddressRules()).destination if public_only else pushable
            pushing = PushLoop(desk, pusher, allowed=allowed)
            await desk.open()
            if desk.registered > at_once:
                log.warning("more VENs are registered than can be connected", vens=desk.registered, at_once=at_once)
            gc.collect()
            sys.setswitchinterval(SWITCH_S)
            gc.freeze()  # what is there now stays: looking through it again and again costs a tenth of every poll
            await server.start(host=host, port=port, tls=tls)
            log.info("OpenADR 2.0b VTN listens", host=host, port=port, vtn_id=desk.vtn_id, tls=tls is not None)
            loops = [desk.run(), pushing.run(), messages.run()]
            try:
                await until_stopped(*loops, *([] if with_parent is None else [watch_parent(with_parent)]))
            finally:
                await server.stop()
                await pusher.close()


def vtn2_desk(settings: Settings, store: Store, clock: Clock) -> VtnDesk:
    """What our VTN says, as the settings have it."""
    if settings.openadr2_vtn_id.islower():
        log.warning("some VENs refuse a vtnID without a capital letter", vtn_id=settings.openadr2_vtn_id)
    return VtnDesk(
        store,
        clock,
        tenant_id=settings.tenant,
        vtn_id=settings.openadr2_vtn_id,
        poll=timedelta(seconds=settings.openadr2_vtn_poll_s),
        must_show_certificate=settings.openadr2_vtn_require_mtls,
        can_say=can_say,
        keep_for=timedelta(days=settings.openadr2_vtn_keep_days),
    )


async def watch_parent(parent: int) -> None:
    """Return once this process is no longer a child of that one."""
    while True:
        if os.getppid() != parent:
            return
        await asyncio.sleep(PARENT_EVERY_S)


def _options(settings: Settings, at_once: int) -> VtnOptions:
    return VtnOptions(
        max_connections=at_once,
        max_per_address=settings.openadr2_vtn_connections_per_address,
        idle_s=settings.openadr2_vtn_idle_s,
        ven_per_s=settings.openadr2_vtn_ven_per_s,
        address_per_s=settings.openadr2_vtn_address_per_s,
        stranger_per_s=settings.openadr2_vtn_stranger_per_s,
        require_signature=settings.openadr2_vtn_require_signature,
        sign_all=settings.openadr2_vtn_sign,
        proxies=frozenset(settings.openadr2_vtn_proxies),
        proxy_header=settings.openadr2_vtn_proxy_header,
    )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    cert, key = settings.openadr2_vtn_cert, settings.openadr2_vtn_key
    behind_proxy = bool(settings.openadr2_vtn_proxies)
    if settings.openadr2_vtn_require_mtls and cert is None and not behind_proxy:
        raise NotReady("VPP_OPENADR2_VTN_REQUIRE_MTLS: set VPP_OPENADR2_VTN_CERT and _KEY, or name the proxies")
    if cert is None or behind_proxy:
        return None
    if key is None:
        raise NotReady("VPP_OPENADR2_VTN_KEY: the key of VPP_OPENADR2_VTN_CERT is not set")
    return server_context(cert, key, settings.openadr2_vtn_ca, require_client=settings.openadr2_vtn_require_mtls)


def _client_tls(settings: Settings) -> ssl.SSLContext | None:
    """Our certificate for VENs that are pushed to."""
    cert, key, ca = settings.openadr2_vtn_cert, settings.openadr2_vtn_key, settings.openadr2_vtn_ca
    if cert is None or key is None:
        return None
    context = ssl.create_default_context(cafile=None if ca is None else str(ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(cert, key)
    return context


def _signer(settings: Settings, clock: Clock) -> Signer | None:
    cert, key = settings.openadr2_vtn_cert, settings.openadr2_vtn_key
    if cert is None or key is None:
        if settings.openadr2_vtn_sign:
            raise NotReady("VPP_OPENADR2_VTN_SIGN: set VPP_OPENADR2_VTN_CERT and _KEY")
        return None
    try:
        return Signer(cert.read_bytes(), key.read_bytes(), clock=clock)
    except OSError as error:
        raise NotReady(f"VPP_OPENADR2_VTN_CERT: {error}") from error
