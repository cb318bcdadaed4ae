"""Builders for certificates: an authority of our own, and RSA or elliptic certificates it vouches for."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from market.openadr2.codec import fingerprint_of

Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True, slots=True)
class Certified:
    """A certificate and key as files, and its OpenADR fingerprint."""

    cert: Path
    key: Path
    fingerprint: str


class TestAuthority:
    """A certificate authority in a folder."""

    __test__ = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._cert = _sign(_builder("Test Authority", self._key), self._key, "Test Authority", is_ca=True)
        self.path = folder / "ca.pem"
        self.path.write_bytes(self._cert.public_bytes(serialization.Encoding.PEM))

    def certify(self, name: str, kind: Literal["rsa", "ec"]) -> Certified:
        """A certificate for `name` at 127.0.0.1."""
        key: Key = rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
        cert = _sign(_builder(name, key), self._key, "Test Authority", is_ca=False)
        pem = cert.public_bytes(serialization.Encoding.PEM)
        form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        paths = self._folder / f"{name}-{kind}.pem", self._folder / f"{name}-{kind}.key"
        paths[0].write_bytes(pem)
        paths[1].write_bytes(key.private_bytes(*form))
        return Certified(*paths, fingerprint_of(pem))


def _builder(name: str, key: Key) -> x509.CertificateBuilder:
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = x509.CertificateBuilder().subject_name(subject).public_key(key.public_key())
    made = made.serial_number(x509.random_serial_number())
    made = made.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    return made.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _sign(builder: x509.CertificateBuilder, key: Key, issuer: str, *, is_ca: bool) -> x509.Certificate:
    named = builder.issuer_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]))
    named = named.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    named = named.add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    if is_ca:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        return named.add_extension(usage, critical=True).sign(key, hashes.SHA256())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))])
    return named.add_extension(names, critical=False).sign(key, hashes.SHA256())
