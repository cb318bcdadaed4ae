"""What a peer must look like before it is stored. Called by `peers`; free of SQL.

Goal: a mistake in an id, address or certificate is named when it is typed, not when a utility calls.
"""

import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering.credentials import certificate_fingerprint, checked_fingerprint, checked_secret_name
from vpp.peering.report_wishes import report_wishes

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_ID = re.compile(r"[!-~](?:[ -~]{0,126}[!-~])?")
_CLIENT_ID = re.compile(r"[A-Za-z0-9_.@-]{1,128}")
_LIST_MAX = 200
_URL_MAX = 2048
_CONFIG_MAX_CHARS = 16_384
SECRET_NAMES = ("client_secret_name", "cert_name", "key_name", "key_passphrase_name", "ca_name")
"""Keys of a peer's configuration that hold names of files in `VPP_SECRETS_DIR`."""
_LOOKS_SECRET = re.compile(r"secret|password|passphrase|private|token$|api_?key", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPeer:
    """A peer to be added.

    Attributes:
        name: letters, digits, `.`, `_`, `-`; unique for tenant, protocol and role.
        party_id: venID or vtnID in 2.0b, venName in 3; a VEN that brings none is known by its name.
        client_id: who it is to our token endpoint (made up where it is None), or who we are to its own.
        url: needed for a VTN; for a 2.0b VEN, where pushes go.
        certificate_pem: the certificate it will show; `fingerprint` is taken from it.
        config: JSON-able. For a VTN above us the keys are: `ven_name` (our name there), `programs` (our programme
            by its market context or programme name), `client_secret_name`, `cert_name`, `key_name`,
            `key_passphrase_name`, `ca_name` (files in `VPP_SECRETS_DIR`), `sign` (2.0b: sign what we send),
            `signed` (2.0b: its messages must be signed by
            `fingerprint`; as `sign` if unset), `ven_id` (2.0b: the venID it gave us beforehand), `opt_changes` (2.0b:
            `never`, `before` or `always`: when it is told that the fleet's capability has changed),
            `forward` (pass its events on to those below us), `poll_s`, `version` (3: `3.1.0` or `3.0.1`),
            `limits` (false: its capacity limits are ignored), `sites` (our site's id by its name of a resource),
            `targets` (3: what we ask for), `token_url` and `scope` (3: where discovery does not tell). Of a
            VEN and a VTN of 2.0b `reports` says which of the reports it offers are asked for (`report_wishes`), and of
            a VEN `offer_reports` that it is told of ours without asking.
    """

    tenant_id: str
    protocol: Protocol
    role: PeerRole
    name: str
    party_id: str | None = None
    client_id: str | None = None
    url: str | None = None
    fingerprint: str | None = None
    certificate_pem: bytes | None = None
    groups: tuple[str, ...] = ()
    granted_targets: tuple[str, ...] = ()
    config: Mapping[str, object] = field(default_factory=dict)


def checked(new: NewPeer) -> NewPeer:
    """Return the peer in the form it is stored in.

    Raises:
        InvalidRequest: a field cannot be; the error names it and what would be right.
    """
    if new.protocol is Protocol.OPENADR2 and new.role is PeerRole.BL:
        raise InvalidRequest("role", "bl", "ven or vtn: 2.0b knows no business logic")
    if not _NAME.fullmatch(new.name):
        raise InvalidRequest(
            "name", new.name, "1 to 64 letters, digits, '.', '_' or '-', beginning with one of the first"
        )
    if _by_token(new) and (new.certificate_pem or new.fingerprint):
        raise InvalidRequest("certificate", new.name, "none: who comes to our OpenADR 3 VTN shows a token")
    if new.role is PeerRole.VTN and new.url is None:
        raise InvalidRequest("url", None, "the address of the VTN")
    if new.party_id is not None:
        _check_id("party_id", new.party_id)
    if new.client_id is not None and not is_client_id(new.client_id):
        raise InvalidRequest("client_id", new.client_id, "1 to 128 letters, digits, '_', '.', '@' or '-'")
    return replace(
        new,
        party_id=new.party_id or (new.name if new.role is PeerRole.VEN else None),
        url=None if new.url is None else checked_url(new.url),
        fingerprint=_fingerprint(new),
        certificate_pem=None,
        groups=checked_names("groups", new.groups),
        granted_targets=checked_names("granted_targets", new.granted_targets),
        config=checked_config(new.config),
    )


def _by_token(new: NewPeer) -> bool:
    return new.protocol is Protocol.OPENADR3 and new.role is not PeerRole.VTN


def is_client_id(text: str) -> bool:
    """Whether a peer could have this client id."""
    return _CLIENT_ID.fullmatch(text) is not None


def checked_url(url: str) -> str:
    """Return an address without its last slash.

    Raises:
        InvalidRequest: it is not https (http is taken for this machine only), or holds a password or fragment.
    """
    parts = urlsplit(url.strip())
    right = "https://host[:port][/path], or http:// for this machine"
    try:
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise InvalidRequest("url", url, right) from error
    if not host or len(url) > _URL_MAX or not url.strip().isprintable() or " " in url.strip():
        raise InvalidRequest("url", url, right)
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(host)):
        raise InvalidRequest("url", url, right)
    if parts.username is not None or parts.fragment:
        raise InvalidRequest("url", "(hidden)", right + "; no name, password or fragment")
    return url.strip().rstrip("/")


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its name or number; no name is looked up."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def checked_names(field_name: str, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return groups or targets, each once, in the order given.

    Raises:
        InvalidRequest: too many, or one that OpenADR would not take.
    """
    if len(names) > _LIST_MAX:
        raise InvalidRequest(field_name, f"{len(names)} names", f"{_LIST_MAX} at most")
    for name in names:
        _check_id(field_name, name)
    return tuple(dict.fromkeys(names))


def checked_config(config: Mapping[str, object]) -> dict[str, object]:
    """Return the configuration, which must be JSON and hold no secret.

    Raises:
        InvalidRequest: it is no JSON, too long, has a key that looks like a secret, or asks for no known report.
    """
    try:
        text = json.dumps(dict(config), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InvalidRequest("config", repr(config)[:200], "values that JSON can say") from error
    if len(text) > _CONFIG_MAX_CHARS:
        raise InvalidRequest("config", f"{len(text)} characters", f"{_CONFIG_MAX_CHARS} at most")
    for key, value in config.items():
        if key in SECRET_NAMES:
            if value is not None:
                checked_secret_name(f"config.{key}", value)
        elif _LOOKS_SECRET.search(key):
            named = ", ".join(SECRET_NAMES)
            raise InvalidRequest(f"config.{key}", "(hidden)", f"no secret: name its file in VPP_SECRETS_DIR by {named}")
    report_wishes(config)
    known: dict[str, object] = json.loads(text)
    return known


def _check_id(field_name: str, value: str) -> None:
    if not _ID.fullmatch(value):
        raise InvalidRequest(field_name, value, "1 to 128 printable ASCII characters without space at the ends")


def _fingerprint(new: NewPeer) -> str | None:
    stated = None if new.fingerprint is None else checked_fingerprint(new.fingerprint)
    if new.certificate_pem is None:
        return stated
    found = certificate_fingerprint(new.certificate_pem)
    if stated not in (None, found):
        raise InvalidRequest("fingerprint", stated, f"that of the certificate given with it, {found}")
    return found
