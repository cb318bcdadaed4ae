"""Certificates for tests of our OpenADR 2.0b VTN: an authority of the test's own, and what it signs."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from ipaddress import ip_address
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from market.openadr2.codec import Signer, fingerprint_of
from vpp.ports import Clock

FROM, UNTIL = datetime(2025, 1, 1, tzinfo=UTC), datetime(2045, 1, 1, tzinfo=UTC)
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Party:
    """A certificate and its key, in PEM."""

    cert: bytes
    key: bytes

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.cert)

    def signer(self, clock: Clock) -> Signer:
        return Signer(self.cert, self.key, clock=clock)

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Return the files of certificate and key."""
        paths = folder / f"{name}.crt", folder / f"{name}.key"
        for path, content in zip(paths, (self.cert, self.key), strict=True):
            path.write_bytes(content)
        return paths

    def client(self, folder: Path, ca: Path) -> ssl.SSLContext:
        """What a VEN connects with."""
        context = ssl.create_default_context(cafile=str(ca))
        context.load_cert_chain(*self.write(folder, self.fingerprint.replace(":", "")))
        return context


@cache
def _ca_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@cache
def authority() -> bytes:
    """The certificate of who vouches for the others."""
    return _signed("Test CA", _ca_key(), _ca_key(), is_ca=True)


@cache
def party(name: str, kind: str = "ec") -> Party:
    """A VEN's or VTN's certificate; the same name is the same certificate."""
    key: PrivateKey = (
        rsa.generate_private_key(65537, 2048) if kind == "rsa" else ec.generate_private_key(ec.SECP256R1())
    )
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Party(_signed(name, key, _ca_key()), pem)


def stranger() -> Party:
    """A certificate nobody vouches for."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return Party(_signed("Test CA", key, key), pem)


def _signed(name: str, key: PrivateKey, by: ec.EllipticCurvePrivateKey, *, is_ca: bool = False) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test CA")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(FROM)
        .not_valid_after(UNTIL)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by.public_key()), critical=False)
    )
    usage = x509.KeyUsage(True, False, not is_ca, False, not is_ca, is_ca, is_ca, False, False)
    return builder.add_extension(usage, critical=True).sign(by, hashes.SHA256()).public_bytes(Encoding.PEM)
