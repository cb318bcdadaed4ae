"""Room bootstrap: our OpenADR 3 VENs, run by `vpp gateway` beside those of 2.0b, and woken through `vpp serve`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from market.openadr3.client import Openadr3Client, Where
from market.openadr3.client_auth import Credential
from market.openadr3.client_http import Wire
from vpp.bootstrap.frame import Secrets
from vpp.bootstrap.pass_on import passing_on
from vpp.bootstrap.translator import Translator
from vpp.bootstrap.wiring import decision, programs
from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.gateway.ven3 import Alarm, FleetFigures, Openadr3Ven, Ven3Terms, source_of
from vpp.peering import list_peers
from vpp.ports import Clock, MessageLog
from vpp.store.engine import Store

TIMEOUT_S = 15.0


@dataclass(frozen=True, slots=True)
class Vens3:
    """Who is asked over OpenADR 3, and our side at each of them. `alarm` wakes them before they would ask."""

    settings: Settings
    store: Store
    clock: Clock
    log: MessageLog
    seed: int
    alarm: Alarm = field(default_factory=Alarm)

    async def peers(self) -> Sequence[Peer]:
        """Every OpenADR 3 VTN above us."""
        async with self.store.begin() as connection:
            return await list_peers(
                connection, tenant_id=self.settings.tenant, protocol=Protocol.OPENADR3, role=PeerRole.VTN
            )

    def make(self, peer: Peer) -> Openadr3Ven:
        """Our side at one VTN.

        Raises:
            InvalidRequest: its configuration, secrets or certificates cannot be used.
        """
        settings = self.settings
        public_url = settings.public_url.rstrip("/") if settings.public_url else None
        terms = Ven3Terms.of(
            peer,
            ven_name=settings.openadr2_ven_name,
            poll_s=settings.openadr2_poll_s,
            public_url=public_url,
            seed=self.seed,
        )
        client = self._client(peer)
        ear = None
        if terms.hears_mqtt:
            from market.openadr3.client_mqtt import MqttEar  # loads an MQTT client, which few VTNs need

            ear = MqttEar(client, client_id=str(peer.client_id), ca_path=self._file(peer, "ca_name"))
        known = programs()
        return Openadr3Ven(
            self.store,
            self.clock,
            client,
            terms,
            programs=known,
            decide=decision(settings, self.clock),
            translator=Translator(),
            figures=FleetFigures(settings.tenant, known, max_age_s=1.5 * settings.idle_read_interval_s),
            wake=self.alarm.of(source_of(peer.name)),
            ear=ear,
            pass_on=passing_on(settings, self.clock, peer),
        )

    def _client(self, peer: Peer) -> Openadr3Client:
        if peer.url is None or urlsplit(peer.url).scheme not in ("http", "https"):
            raise InvalidRequest("url", peer.url, f"the address of VTN {peer.name}")
        secret_name = str(peer.config.get("client_secret_name") or "")
        secret = Secrets(self.settings.secrets_dir).get(secret_name) if secret_name else None
        if peer.client_id is None or secret is None:
            raise InvalidRequest(
                "config.client_secret_name",
                secret_name,
                "a file in VPP_SECRETS_DIR, beside the client_id we have there",
            )
        wire = Wire(
            peer.id,
            self.log,
            timeout_s=TIMEOUT_S,
            ca_path=self._file(peer, "ca_name"),
            cert_path=self._file(peer, "cert_name"),
            key_path=self._file(peer, "key_name"),
        )
        return Openadr3Client(
            source_of(peer.name),
            wire,
            self.clock,
            Where(peer.url, _said(peer, "version"), _said(peer, "token_url")),
            Credential(peer.client_id, secret, _said(peer, "scope")),
        )

    def _file(self, peer: Peer, key: str) -> Path | None:
        """A file of `VPP_SECRETS_DIR`, which must be there where it is named."""
        name, folder = _said(peer, key), self.settings.secrets_dir
        if name is None:
            return None
        if folder is None or not (folder / name).is_file():
            raise InvalidRequest(f"config.{key}", name, f"a file in VPP_SECRETS_DIR ({folder})")
        return folder / name


def _said(peer: Peer, key: str) -> str | None:
    value = peer.config.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"config.{key}", value, "a text")
    return value or None
