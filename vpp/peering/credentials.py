"""Secrets and certificates of peers: made, hashed, compared, named. Called by the rest of this room and cli.

A client secret is 256 random bits, for which one SHA-256 is enough. Secrets of our own, with which we come to
somebody else's server, never enter SQL: a peer's configuration holds names of files in `VPP_SECRETS_DIR`.
"""

import hashlib
import hmac
import re
import secrets

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from vpp.domain.errors import InvalidRequest

SECRET_MAX_CHARS = 512
_FINGERPRINT = re.compile(r"(?:[0-9A-F]{2}:){9}[0-9A-F]{2}")
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


def new_client_secret() -> str:
    """A client secret fit for any form or header: no character in it needs quoting."""
    return secrets.token_urlsafe(32)


def secret_hash(secret: str) -> str:
    """What is stored of a client secret."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def secret_matches(secret: str, stored: str | None) -> bool:
    """Compare in constant time; None (nobody, or one without a secret) takes as long and never matches."""
    shown = secret_hash(secret[:SECRET_MAX_CHARS])
    return hmac.compare_digest(shown, stored or "0" * 64) and stored is not None


def certificate_fingerprint(certificate: bytes) -> str:
    """Return the fingerprint OpenADR knows a certificate by: `AA:BB:…`, the last ten bytes of its SHA-256.

    Args:
        certificate: in PEM (the first of a chain counts) or DER.

    Raises:
        InvalidRequest: it is no certificate.
    """
    try:
        pem = b"-----BEGIN" in certificate[:4096]
        parsed = x509.load_pem_x509_certificate(certificate) if pem else x509.load_der_x509_certificate(certificate)
    except ValueError as error:
        raise InvalidRequest(
            "certificate", _begin_of(certificate), "an X.509 certificate in PEM: -----BEGIN CERTIFICATE-----"
        ) from error
    digest = hashlib.sha256(parsed.public_bytes(Encoding.DER)).hexdigest().upper()[-20:]
    return ":".join(digest[at : at + 2] for at in range(0, 20, 2))


def _begin_of(certificate: bytes) -> str:
    """What somebody gave for a certificate, without anything of a key."""
    first = certificate[:80].split(b"\n", 1)[0].strip()
    return first.decode("ascii", "replace") if first.startswith(b"-----BEGIN") else f"{len(certificate)} bytes"


def checked_fingerprint(fingerprint: str) -> str:
    """Return a fingerprint as OpenADR writes it, whatever the case it was given in.

    Raises:
        InvalidRequest: it is not ten bytes in hexadecimal, divided by colons.
    """
    upper = fingerprint.strip().upper()
    if not _FINGERPRINT.fullmatch(upper):
        raise InvalidRequest("fingerprint", fingerprint, "ten bytes as AA:BB:CC:DD:EE:FF:00:11:22:33")
    return upper


def checked_secret_name(field: str, name: object) -> str:
    """Return the name of a file in `VPP_SECRETS_DIR`; whether it is there is seen when it is used.

    Raises:
        InvalidRequest: it is a path or no file's name.
    """
    if not isinstance(name, str) or not _FILE_NAME.fullmatch(name):
        raise InvalidRequest(field, name, "the name of a file in VPP_SECRETS_DIR, without a path")
    return name
