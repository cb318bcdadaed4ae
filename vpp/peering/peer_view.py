"""A peer as it is shown: to machines as JSON, with what its operator must tell the other side. For cli and portal."""

from pathlib import Path
from typing import Any

from vpp.config import Settings
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering.addresses import OPENADR3_OLD_PATH, openadr2_url, openadr3_url
from vpp.peering.credentials import certificate_fingerprint
from vpp.peering.scopes import scopes_of

_SECRET_FILES = ("cert_name", "key_name", "key_passphrase_name", "ca_name", "client_secret_name")
_SERVICES = ("EiRegisterParty", "EiEvent", "EiReport", "EiOpt", "OadrPoll")


def peer_json(peer: Peer, settings: Settings) -> dict[str, Any]:
    """Return a peer with its ids and addresses, by the words its protocol has for them; it holds no secret."""
    known: dict[str, Any] = {
        "id": peer.id,
        "protocol": peer.protocol.value,
        "role": peer.role.value,
        "name": peer.name,
        "groups": list(peer.groups),
        "granted_targets": list(peer.granted_targets),
        "config": dict(peer.config),
        "created_at": peer.created_at,
        "revoked_at": peer.revoked_at,
    }
    return known | _ids(peer, settings)


def _ids(peer: Peer, settings: Settings) -> dict[str, Any]:
    """What the two sides know each other by, and where they meet."""
    if peer.role is PeerRole.VTN:
        party = "vtn_id" if peer.protocol is Protocol.OPENADR2 else "ven_name_there"
        ours = _our_fingerprint(peer, settings)
        return {
            "url": peer.url, party: peer.party_id, "client_id": peer.client_id, "fingerprint": peer.fingerprint,
            "our_fingerprint": ours, "how": _how_above(peer, settings, ours),
        }  # fmt: skip
    if peer.protocol is Protocol.OPENADR3:
        base = openadr3_url(settings)
        return {
            "client_id": peer.client_id,
            "url": base,
            "url_3_0_1": openadr3_url(settings, OPENADR3_OLD_PATH),
            "token_url": settings.openadr3_oauth_token_url or f"{base}/auth/token",
            "scopes": sorted(scopes_of(peer.role)),
            **({"ven_name": peer.party_id} if peer.role is PeerRole.VEN else {}),
        }
    base = openadr2_url(settings)
    return {
        "ven_id": peer.party_id,
        "vtn_id": settings.openadr2_vtn_id,
        "url": base,
        "services": {service: f"{base}/{service}" for service in _SERVICES},
        "push_url": peer.url,
        "fingerprint": peer.fingerprint,
        "how": _how(peer, base),
    }


def _secret_file(peer: Peer, key: str, settings: Settings) -> Path | None:
    name = peer.config.get(key)
    return None if name is None or settings.secrets_dir is None else settings.secrets_dir / str(name)


def _our_fingerprint(peer: Peer, settings: Settings) -> str | None:
    """What a utility must know of our certificate; None where we show none, or it cannot be read here."""
    path = _secret_file(peer, "cert_name", settings)
    try:
        return None if path is None else certificate_fingerprint(path.read_bytes())
    except (OSError, InvalidRequest):
        return None


def _how_above(peer: Peer, settings: Settings, fingerprint: str | None) -> list[str]:
    """What is left to do before we connect to a VTN above us."""
    steps = []
    for key in _SECRET_FILES:
        path = _secret_file(peer, key, settings)
        if peer.config.get(key) is not None and (path is None or not path.is_file()):
            folder = settings.secrets_dir or "the folder that VPP_SECRETS_DIR is to name"
            steps.append(f"put {peer.config[key]} into {folder}: no such file can be read there")
    name = peer.config.get("ven_name") or peer.config.get("ven_id")
    told = [f"our VEN name {name}"] if name else []
    told += [f"the fingerprint of our certificate, {fingerprint}"] if fingerprint else []
    if told:
        steps.append(f"tell the utility {' and '.join(told)}")
    return [*steps, f"vpp gateway connects by itself; vpp peers log --peer {peer.name} shows what is said"]


def _how(peer: Peer, base: str) -> list[str]:
    """What a VEN of 2.0b does to take part."""
    proof = (
        f"shows the client certificate with fingerprint {peer.fingerprint}"
        if peer.fingerprint
        else "has no certificate with us yet, so whoever gives this venID is taken for it"
    )
    return [
        f"send oadrCreatePartyRegistration to {base}/EiRegisterParty with oadrVenName {peer.name}"
        f" and, if it can be set, venID {peer.party_id}; the VEN {proof}",
        "register its reports at EiReport, then poll OadrPoll as often as the registration's answer says",
    ]
