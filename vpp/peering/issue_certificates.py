"""Certificates for those who have none: a small authority of one's own, and what it vouches for. Called by cli.

Goal: a site or a test utility can connect with mutual TLS in a minute. What a real utility takes part with is issued
by the authority it names (OpenADR's own, for certified products); this one is trusted by whoever is told to.
"""

import ipaddress
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from vpp.domain.errors import InvalidRequest

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
KINDS: dict[str, Callable[[], Key]] = {
    "ec": lambda: ec.generate_private_key(ec.SECP256R1()),
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
}
"""What OpenADR 2.0b names for certificates: P-256 and RSA of 2048 bits."""
CA_FOR = timedelta(days=3650)
LEAF_FOR = timedelta(days=825)
_BACKDATED = timedelta(hours=1)
_CN_MAX = 64


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate with its key, and who vouches for it, in PEM, and the files they will be."""

    certificate_pem: bytes
    files: dict[Path, bytes]


def issue_certificate(folder: Path, name: str, *, hosts: tuple[str, ...], kind: str, at: datetime) -> Issued:
    """Return a client certificate for `name`, vouched for by the authority in `folder`, which is made where missing.

    Along with a new authority comes a certificate for our own VTN, for the names in `hosts`. Nothing is written yet:
    `write_certificates` does that.

    Raises:
        InvalidRequest: the kind of key is unknown, or there is a certificate of that name already.
    """
    if kind not in KINDS:
        raise InvalidRequest("key type", kind, " or ".join(KINDS))
    if (folder / f"{name}.pem").exists() or (folder / f"{name}-key.pem").exists():
        raise InvalidRequest("issue-cert", str(folder), f"a folder without {name}.pem and {name}-key.pem")
    files: dict[Path, bytes] = {}
    if (folder / "ca.pem").exists():
        authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        authority_key = _load_key(folder / "ca-key.pem")
    else:
        authority_key = KINDS["ec"]()
        authority = _authority(authority_key, at)
        files |= _pair(folder, "ca", authority, authority_key)
        vtn_key = KINDS["ec"]()
        files |= _pair(folder, "vtn", _leaf("vtn", hosts, vtn_key, authority, authority_key, at), vtn_key)
    key = KINDS[kind]()
    certificate = _leaf(name, (), key, authority, authority_key, at)
    files |= _pair(folder, name, certificate, key)
    return Issued(certificate.public_bytes(Encoding.PEM), files)


def write_certificates(files: dict[Path, bytes]) -> None:
    """Write certificates for anyone to read and keys for their owner only; never over another file."""
    for path, content in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = 0o600 if path.name.endswith("-key.pem") else 0o644
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
            file.write(content)


def _pair(folder: Path, name: str, certificate: x509.Certificate, key: Key) -> dict[Path, bytes]:
    return {
        folder / f"{name}.pem": certificate.public_bytes(Encoding.PEM),
        folder / f"{name}-key.pem": key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    }


def _authority(key: Key, at: datetime) -> x509.Certificate:
    named = _name("vpp certificate authority")
    usage = _usage(vouches=True, enciphers=False)
    return (
        x509.CertificateBuilder(named, named, key.public_key(), x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(at + CA_FOR)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, SHA256())
    )


def _leaf(
    name: str, hosts: tuple[str, ...], key: Key, authority: x509.Certificate, authority_key: Key, at: datetime
) -> x509.Certificate:
    """A client's certificate, or, with hosts, a server's that may be a client as well."""
    uses = [ExtendedKeyUsageOID.CLIENT_AUTH, *([ExtendedKeyUsageOID.SERVER_AUTH] if hosts else [])]
    vouching = authority.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    builder = (
        x509.CertificateBuilder(authority.subject, _name(name), key.public_key(), x509.random_serial_number())
        .not_valid_before(at - _BACKDATED)
        .not_valid_after(min(at + LEAF_FOR, authority.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(vouches=False, enciphers=isinstance(key, rsa.RSAPrivateKey)), critical=True)
        .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(vouching), critical=False)
        .add_extension(x509.SubjectAlternativeName([_alternative(host) for host in hosts or (name,)]), critical=False)
    )
    return builder.sign(authority_key, SHA256())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name[:_CN_MAX])])


def _usage(*, vouches: bool, enciphers: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=enciphers,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=vouches,
        crl_sign=vouches,
        encipher_only=False,
        decipher_only=False,
    )


def _load_key(path: Path) -> Key:
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise InvalidRequest("issue-cert", str(path), "the key of the authority beside its ca.pem") from error
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise InvalidRequest("issue-cert", str(path), "an RSA or EC key")
    return key
