"""Room openadr2: TLS of our VTN, and whose certificate a connection or a trusted proxy shows. Called by `vtn`."""

import re
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote_to_bytes

from market.openadr2.codec import fingerprint_of
from vpp.domain.errors import InvalidRequest, NotReady

_COLONS = re.compile(r"(?:[0-9A-F]{2}:){9}[0-9A-F]{2}")
_SHA256 = re.compile(r"[0-9A-F]{64}")
_PEM_MAX = 16_384


def server_context(cert: Path, key: Path, ca: Path | None, *, require_client: bool) -> ssl.SSLContext:
    """Return a context of TLS 1.2 or newer.

    Args:
        ca: who vouches for client certificates (PEM).
        require_client: whether a connection without a certificate of theirs is refused. With a `ca` and
            without this, one that is shown is checked and used.

    Raises:
        NotReady: a file cannot be used; names it.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        raise NotReady(f"certificate {cert} with key {key}: {error}") from error
    if require_client and ca is None:
        raise NotReady("client certificates are required, but nobody is named who vouches for them")
    if ca is not None:
        try:
            context.load_verify_locations(ca)
        except (OSError, ssl.SSLError) as error:
            raise NotReady(f"certificates of {ca}: {error}") from error
        context.verify_mode = ssl.CERT_REQUIRED if require_client else ssl.CERT_OPTIONAL
    return context


def shown_fingerprint(transport: Any) -> str | None:
    """Return the fingerprint of the certificate the other end showed and proved, None without TLS or without one."""
    connection = None if transport is None else transport.get_extra_info("ssl_object")
    der = None if connection is None else connection.getpeercert(True)
    return fingerprint_of(der) if der else None


def told_fingerprint(header: str) -> str | None:
    """Return the fingerprint a trusted proxy tells, None where it tells none.

    Args:
        header: the certificate itself in PEM, with its line ends quoted as in an address (nginx's
            `$ssl_client_escaped_cert`), or its SHA-256 in hexadecimal, or the ten bytes OpenADR takes of it.

    Raises:
        InvalidRequest: it is something else.
    """
    value = header.strip()
    if not value:
        return None
    if "BEGIN" in value and len(value) <= _PEM_MAX:
        return fingerprint_of(unquote_to_bytes(value))
    upper = value.upper()
    if _COLONS.fullmatch(upper):
        return upper
    digest = upper.replace(":", "")
    if _SHA256.fullmatch(digest):
        return ":".join(digest[at : at + 2] for at in range(44, 64, 2))
    raise InvalidRequest("client certificate header", value[:40], "a certificate in PEM, or a fingerprint of it")
