"""What the load client's VENs say, finished before it is timed, and the certificates they sign with."""

import base64
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from market.openadr2.codec import Signer, encode, fingerprint_of
from tests.bench.openadr.wire import post
from vpp.clock import SystemClock
from vpp.domain.openadr2 import CreatedEvents, EventOpt, Openadr2Message, Poll, Response

PREFIX = "/OpenADR2/Simple/2.0b"
FINGERPRINT_HEADER = "X-Client-Cert-Fingerprint"
"""How the TLS proxy that stands before both servers in the signed runs tells whose certificate it was shown."""


def ven_id(number: int) -> str:
    """The id of a VEN; also its name."""
    return f"ven{number:05}"


class Identity:
    """One RSA-2048 key with a certificate of its own for every VEN.

    A key for each VEN would take minutes to make and would cost the server the same: it sees only certificates.
    """

    def __init__(self, key: rsa.RSAPrivateKey) -> None:
        self._key = key
        self._ca = ec.generate_private_key(ec.SECP256R1())
        self.key_pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def cert_pem(self, name: str) -> bytes:
        """A new certificate of the key."""
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench")])
        now = datetime.now(UTC)
        made = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
            .sign(self._ca, hashes.SHA256())
        )
        return made.public_bytes(Encoding.PEM)


@cache
def identity() -> Identity:
    """The key of this process."""
    return Identity(rsa.generate_private_key(65537, 2048))


def write_certificates(folder: Path, vens: int) -> None:
    """Write the key, the VTN's certificate and one for each VEN, with their fingerprints."""
    one = identity()
    (folder / "key.pem").write_bytes(one.key_pem)
    (folder / "vtn.pem").write_bytes(one.cert_pem("vtn"))
    (folder / "vens.pem").write_bytes(b"".join(one.cert_pem(ven_id(each)) for each in range(vens)))


def read_certificates(folder: Path) -> list[bytes]:
    """The VENs' certificates (PEM)."""
    end = b"-----END CERTIFICATE-----\n"
    return [each + end for each in (folder / "vens.pem").read_bytes().split(end) if each]


def fingerprints(folder: Path) -> list[str]:
    """The VENs' fingerprints, as OpenADR writes them."""
    return [fingerprint_of(pem) for pem in read_certificates(folder)]


class Pen:
    """Writes requests of VENs; signed where there is a folder of certificates."""

    def __init__(self, folder: Path | None) -> None:
        self._certs: list[bytes] = []
        self._marks: list[str] = []
        self._signer: Signer | None = None
        if folder is not None:
            pems = read_certificates(folder)
            self._certs = [_der64(pem) for pem in pems]
            self._marks = [f"{FINGERPRINT_HEADER}: {fingerprint_of(pem)}\r\n" for pem in pems]
            self._signer = Signer(pems[0], (folder / "key.pem").read_bytes(), clock=SystemClock())

    def poll(self, number: int) -> bytes:
        """An oadrPoll."""
        return self._request("OadrPoll", number, Poll(ven_id=ven_id(number)))

    def accepted(self, number: int, event_id: str) -> bytes:
        """An oadrCreatedEvent that takes an event as it first stood."""
        opt = EventOpt(event_id=event_id, modification_number=0, request_id="r1", opt_in=True)
        message = CreatedEvents(response=Response(request_id="r1"), ven_id=ven_id(number), opts=(opt,))
        return self._request("EiEvent", number, message)

    def _request(self, service: str, number: int, message: Openadr2Message) -> bytes:
        body = encode(message, signer=self._signer)
        if self._signer is None:
            return post(f"{PREFIX}/{service}", body)
        # the certificate is no part of what is signed, and all are of one key
        body = body.replace(self._certs[0], self._certs[number], 1)
        return post(f"{PREFIX}/{service}", body, self._marks[number])


def _der64(pem: bytes) -> bytes:
    der = x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)
    return base64.b64encode(der)
