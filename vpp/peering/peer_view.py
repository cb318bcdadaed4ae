"""A peer as it is shown: to machines as JSON, with what its operator must tell the other side. For cli and portal."""

from typing import Any

from vpp.config import Settings
from vpp.domain.peer import Peer, PeerRole, Protocol
from vpp.peering.addresses import OPENADR3_OLD_PATH, openadr2_url, openadr3_url
from vpp.peering.scopes import scopes_of

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
        return {"url": peer.url, party: peer.party_id, "client_id": peer.client_id, "fingerprint": peer.fingerprint}
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
