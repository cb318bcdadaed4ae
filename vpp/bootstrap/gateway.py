"""Room bootstrap: the process of our VENs (`vpp gateway`), one at each utility's VTN, of OpenADR 2.0b and 3."""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from market.openadr2 import Openadr2Client
from vpp.bootstrap.frame import Secrets, clock_for, open_store, until_stopped, watched_loops
from vpp.bootstrap.pass_on import passing_on
from vpp.bootstrap.ven3 import Vens3
from vpp.bootstrap.wiring import decision, programs
from vpp.commitments import taken_part
from vpp.config import Settings
from vpp.dispatch import delivered_kw
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway import Openadr2Ven, OptChanges, PassOn, PeerLoop, Supervisor, Telemetry, VtnTerms
from vpp.observability import WatchedClock
from vpp.peering import SqlMessageLog, is_of_another_tenant, list_peers, note_standing
from vpp.ports import Clock, MessageLog, VenClient
from vpp.store.engine import Store
from vpp.store.tables.fleet import device, site
from vpp.store.tables.telemetry import reading

log = structlog.get_logger(__name__)

FROM_SETTINGS = "settings"
"""The id of the peer that `VPP_OPENADR2_*` describe."""


async def gateway(settings: Settings) -> None:
    """Our VEN at every utility's VTN that is a peer, and at that of `VPP_OPENADR2_VTN_URL`, until told to stop."""
    with watched_loops(settings) as pulse:
        async with open_store(settings, pool_size=10) as store, clock_for(settings, "gateway") as clock:
            watched = WatchedClock(clock, pulse, "gateway")
            message_log = SqlMessageLog(store, clock, days=settings.message_log_days, rows=settings.message_log_rows)
            made = vens(settings, store, watched, message_log)
            if settings.clock_address is not None:  # in a simulation one loop takes its turn, at the VTN of the play
                await until_stopped(made.make(_from_settings(settings)).run(), message_log.run())
                return
            made3 = Vens3(settings, store, watched, message_log, made.seed)

            async def peers() -> Sequence[Peer]:
                return [*await made.peers(), *await made3.peers()]

            def make(peer: Peer) -> PeerLoop:
                return made3.make(peer) if peer.protocol is Protocol.OPENADR3 else made.make(peer)

            await until_stopped(
                Supervisor(store, watched, peers=peers, make=make).run(), made3.alarm.listen(store), message_log.run()
            )


@dataclass(frozen=True, slots=True)
class Vens:
    """Who is asked, and our side at each of them."""

    settings: Settings
    store: Store
    clock: Clock
    log: MessageLog
    seed: int

    async def peers(self) -> Sequence[Peer]:
        """Every VTN above us: that of the settings, and those of the table."""
        async with self.store.begin() as connection:
            found = await list_peers(
                connection, tenant_id=self.settings.tenant, protocol=Protocol.OPENADR2, role=PeerRole.VTN
            )
            if self.settings.openadr2_vtn_url is None:
                return found
            named = _from_settings(self.settings)
            protocol, tenant_id = named.protocol, named.tenant_id
            if await is_of_another_tenant(connection, protocol=protocol, name=named.name, tenant_id=tenant_id):
                log.error("peer ignored: another tenant's VTN has the name of VPP_OPENADR2_PEER", peer=named.name)
                return found
        for peer in found:
            if peer.name == named.name:
                log.error("peer ignored: VPP_OPENADR2_PEER has its name", peer=peer.name)
                ignored = "cannot be served: VPP_OPENADR2_PEER has its name"
                await note_standing(self.store, peer.id, ignored, at=self.clock.now())
        return [named, *(peer for peer in found if peer.name != named.name)]

    def make(self, peer: Peer) -> Openadr2Ven:
        """Our side at one VTN.

        Raises:
            InvalidRequest: its configuration or certificates cannot be used.
        """
        if peer.id == FROM_SETTINGS:
            return openadr2_ven(self.settings, self.store, self.clock, _settings_client(self.settings, self))
        terms = VtnTerms.of(peer, ven_name=self.settings.openadr2_ven_name, poll_s=self.settings.openadr2_poll_s)
        pass_on = passing_on(self.settings, self.clock, peer)
        client = _client(self.settings, peer, self)
        return _ven(self.settings, self.store, self.clock, client, terms, self.seed, pass_on)


def vens(settings: Settings, store: Store, clock: Clock, message_log: MessageLog) -> Vens:
    """Return what the gateway's process runs."""
    return Vens(settings, store, clock, message_log, _seed(settings))


def openadr2_ven(settings: Settings, store: Store, clock: Clock, client: VenClient) -> Openadr2Ven:
    """Our side at the one utility of the settings, told how to decide and what to report."""
    terms = VtnTerms(
        ven_name=settings.openadr2_ven_name,
        program_of=settings.openadr2_programs,
        poll_s=settings.openadr2_poll_s,
        opt_changes=OptChanges(settings.openadr2_opt_changes),
        spread=settings.clock_address is None,
    )
    return _ven(settings, store, clock, client, terms, _seed(settings))


def _ven(
    settings: Settings,
    store: Store,
    clock: Clock,
    client: VenClient,
    terms: VtnTerms,
    seed: int,
    pass_on: PassOn | None = None,
) -> Openadr2Ven:
    return Openadr2Ven(
        store,
        clock,
        client,
        terms=terms,
        tenant_id=settings.tenant,
        programs=programs(),
        decide=decision(settings, clock),
        telemetry=telemetry(settings),
        seed=seed,
        pass_on=pass_on,
    )


def _seed(settings: Settings) -> int:
    return secrets.randbits(32) if settings.seed is None else settings.seed


def telemetry(settings: Settings) -> Telemetry:
    """What the tenant's fleet can tell of itself."""
    fresh = timedelta(seconds=1.5 * settings.idle_read_interval_s)

    async def delivered(connection: AsyncConnection, at: datetime) -> float | None:
        found = await taken_part(connection, at, tenant_id=settings.tenant)
        powers = [await delivered_kw(connection, commitment, at) for commitment in found]
        known = [power for power in powers if power is not None]
        return sum(known) if known else None

    async def is_online(connection: AsyncConnection, at: datetime) -> bool:
        heard = (
            select(reading.c.device_id)
            .join(device, device.c.id == reading.c.device_id)
            .join(site, site.c.id == device.c.site_id)
            .where(site.c.tenant_id == settings.tenant)
            .where(reading.c.measured_at <= at, reading.c.measured_at > at - fresh)
        )
        return (await connection.execute(heard.limit(1))).first() is not None

    return Telemetry(delivered_kw=delivered, is_online=is_online)


def _from_settings(settings: Settings) -> Peer:
    return Peer(
        id=FROM_SETTINGS,
        tenant_id=settings.tenant,
        protocol=Protocol.OPENADR2,
        role=PeerRole.VTN,
        name=settings.openadr2_peer,
        url=settings.openadr2_vtn_url,
    )


def _settings_client(settings: Settings, made: Vens) -> Openadr2Client:
    if settings.openadr2_vtn_url is None:
        raise InvalidRequest("VPP_OPENADR2_VTN_URL", None, "the address of the utility's VTN")
    return Openadr2Client(
        settings.openadr2_peer,
        settings.openadr2_vtn_url,
        cert_path=settings.openadr2_cert,
        key_path=settings.openadr2_key,
        ca_path=settings.openadr2_ca,
        vtn_fingerprint=settings.openadr2_vtn_fingerprint,
        sign=settings.openadr2_sign,
        clock=made.clock,
        log=made.log,
    )


def _client(settings: Settings, peer: Peer, made: Vens) -> Openadr2Client:
    """The wire to a peer. Its messages must be signed where ours are (`sign`), unless `signed` says otherwise."""
    if peer.url is None:
        raise InvalidRequest("url", None, f"the address of VTN {peer.name}")
    config, sign = peer.config, peer.config.get("sign") is True
    signed = config.get("signed", sign) is True
    if signed and peer.fingerprint is None:
        raise InvalidRequest("fingerprint", None, f"of the certificate {peer.name} signs with")
    passphrase_name = config.get("key_passphrase_name")
    return Openadr2Client(
        peer.name,
        peer.url,
        cert_path=_secret_path(settings, config.get("cert_name")),
        key_path=_secret_path(settings, config.get("key_name")),
        passphrase=Secrets(settings.secrets_dir).get(str(passphrase_name)) if passphrase_name else None,
        ca_path=_secret_path(settings, config.get("ca_name")),
        vtn_fingerprint=peer.fingerprint if signed else None,
        tls_fingerprint=peer.fingerprint if peer.url.startswith("https:") else None,
        sign=sign,
        clock=made.clock,
        log=made.log,
        peer_id=peer.id,
    )


def _secret_path(settings: Settings, name: object) -> Path | None:
    """A file of `VPP_SECRETS_DIR`, which must be there where it is named."""
    if not name:
        return None
    if settings.secrets_dir is None or not (path := settings.secrets_dir / str(name)).is_file():
        raise InvalidRequest("VPP_SECRETS_DIR", str(settings.secrets_dir), f"a folder with a file {name}")
    return path
