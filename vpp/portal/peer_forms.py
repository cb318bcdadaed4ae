"""What an operator filled in about a peer, turned into a `NewPeer`. Called by `peers` and `peers_api`."""

from collections.abc import Mapping
from typing import Any

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import NewPeer

KINDS = {
    "openadr3-ven": "OpenADR 3: a VEN that comes to our VTN",
    "openadr3-bl": "OpenADR 3: business logic that runs our VTN",
    "openadr3-vtn": "OpenADR 3: a VTN above us",
    "openadr2-ven": "OpenADR 2.0b: a VEN that comes to our VTN",
    "openadr2-vtn": "OpenADR 2.0b: a VTN above us",
}
ROLE_WORDS = {PeerRole.VEN: "VEN", PeerRole.VTN: "VTN", PeerRole.BL: "business logic"}
PROTOCOL_WORDS = {Protocol.OPENADR2: "OpenADR 2.0b", Protocol.OPENADR3: "OpenADR 3"}
FIELDS = (
    "kind", "name", "party_id", "url", "certificate", "fingerprint", "groups", "targets", "client_id", "ven_name",
    "programs", "client_secret_name", "cert_name", "key_name", "ca_name", "poll_s", "sign", "forward",
)  # fmt: skip
_CONFIG = ("ven_name", "client_secret_name", "cert_name", "key_name", "ca_name")


def peer_of_form(filled: Mapping[str, str], *, tenant_id: str) -> NewPeer:
    """Return the peer a form describes; what is empty is not given.

    Raises:
        InvalidRequest: a field cannot be.
    """
    given = {name: filled.get(name, "").strip() for name in FIELDS}
    if given["kind"] not in KINDS:
        raise InvalidRequest("kind", given["kind"], ", ".join(KINDS))
    protocol, role = (kind(word) for kind, word in zip((Protocol, PeerRole), given["kind"].split("-"), strict=True))
    config: dict[str, Any] = {name: given[name] for name in _CONFIG if given[name]}
    targets = _lines(given["targets"])
    if role is PeerRole.VTN:
        config |= _of_vtn(given) | ({"targets": list(targets)} if targets else {})
    return NewPeer(
        tenant_id=tenant_id,
        protocol=Protocol(protocol),
        role=PeerRole(role),
        name=given["name"],
        party_id=given["party_id"] or None,
        client_id=given["client_id"] or None,
        url=given["url"] or None,
        fingerprint=given["fingerprint"] or None,
        certificate_pem=given["certificate"].encode() or None,
        groups=_lines(given["groups"]),
        granted_targets=() if role is PeerRole.VTN else targets,
        config=config,
    )


def _of_vtn(given: Mapping[str, str]) -> dict[str, Any]:
    config: dict[str, Any] = {name: True for name in ("sign", "forward") if given[name]}
    programs: dict[str, str] = {}
    for line in _lines(given["programs"]):
        context, sign, program = line.rpartition("=")
        if not sign or not context.strip() or not program.strip():
            raise InvalidRequest("programs", line, "the VTN's name for it = our programme, one a line")
        programs[context.strip()] = program.strip()
    if programs:
        config["programs"] = programs
    if given["poll_s"]:
        try:
            config["poll_s"] = float(given["poll_s"])
        except ValueError as error:
            raise InvalidRequest("poll_s", given["poll_s"], "seconds") from error
    return config


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.splitlines() if line.strip())
