"""Room openadr2: XML signatures with replay protection (profile 2.0b, section 10.6). Called by `codec`.

Our own, on libxml2's canonical form and `cryptography`, because a key must be parsed once only (a load of RSA
costs 60 ms), and because what is acted on must be what is signed: a reference counts only where it is to the one
oadrSignedObject that is read, and to the one ReplayProtect.
"""

import base64
import binascii
import hashlib
from collections.abc import Callable, Collection
from datetime import timedelta
from secrets import token_hex
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from lxml import etree

from market.openadr2.names import DS, DSP, OADR
from market.openadr2.refusal import Refused
from market.openadr2.replay import REPLAY_WINDOW, ReplayGuard
from market.openadr2.values import instant_text, read_instant
from market.openadr2.xml_out import SIGNED_ID
from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import NOT_REGISTERED
from vpp.ports import Clock

C14N = "http://www.w3.org/TR/2001/REC-xml-c14n-20010315"
_C14N_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_EXCLUSIVE_OF = {C14N: False, "http://www.w3.org/2006/12/xml-c14n11": False, _C14N_EXCLUSIVE: True}
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_MORE = "http://www.w3.org/2001/04/xmldsig-more#"
_DIGESTS = {
    "http://www.w3.org/2001/04/xmlenc#sha256": hashlib.sha256,
    _MORE + "sha384": hashlib.sha384,
    "http://www.w3.org/2001/04/xmlenc#sha512": hashlib.sha512,
}
_HASHES: dict[str, Callable[[], hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256,
    "sha384": hashes.SHA384,
    "sha512": hashes.SHA512,
}
_RSA = {f"{_MORE}rsa-{name}": made for name, made in _HASHES.items()}
_ECDSA = {f"{_MORE}ecdsa-{name}": made for name, made in _HASHES.items()}
_PROPERTY_ID = "replayProtect"
_MIN_RSA_BITS = 2048
_RSA_BITS = range(_MIN_RSA_BITS, 8193)
_MAX_NONCE_CHARS = 256

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


def fingerprint_of(cert: bytes) -> str:
    """Return a certificate's fingerprint as OpenADR writes it: the last ten bytes of SHA-256, `AA:BB:…`.

    Args:
        cert: PEM or DER.

    Raises:
        InvalidRequest: it is no certificate.
    """
    try:
        pem = cert.lstrip().startswith(b"-----")
        loaded = x509.load_pem_x509_certificate(cert) if pem else x509.load_der_x509_certificate(cert)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("certificate", cert[:30], "an X.509 certificate, PEM or DER") from error
    return _fingerprint(loaded.public_bytes(serialization.Encoding.DER))


def _fingerprint(der: bytes) -> str:
    return ":".join(f"{byte:02X}" for byte in hashlib.sha256(der).digest()[-10:])


class Signer:
    """Signs messages with a key that is parsed once: RSA from 2048 bits, or elliptic (P-256, P-384, P-521).

    Args:
        cert_pem: our certificate; it is sent along.
        key_pem: its private key.
        passphrase: of the key, if it has one.
        clock: tells when a message is signed.

    Raises:
        InvalidRequest: certificate or key cannot be read, or do not belong together.
    """

    def __init__(self, cert_pem: bytes, key_pem: bytes, passphrase: str | None = None, *, clock: Clock) -> None:
        self.fingerprint = fingerprint_of(cert_pem)
        self._key = _load_key(key_pem, passphrase)
        certificate = x509.load_pem_x509_certificate(cert_pem)
        if certificate.public_key() != self._key.public_key():
            raise InvalidRequest("key", "another certificate's", f"the key of {self.fingerprint}")
        der = certificate.public_bytes(serialization.Encoding.DER)
        encoded = base64.b64encode(der).decode()
        self._key_info = f"<ds:KeyInfo><ds:X509Data><ds:X509Certificate>{encoded}</ds:X509Certificate></ds:X509Data>"
        self._key_info += "</ds:KeyInfo>"
        self._clock = clock
        self._algorithm = _MORE + ("rsa-sha256" if isinstance(self._key, rsa.RSAPrivateKey) else "ecdsa-sha256")

    def signature(self, signed_object: bytes) -> str:
        """Return the ds:Signature over an oadrSignedObject, given in canonical form."""
        at = self._clock.now()
        protect = (
            f'<dsp:ReplayProtect xmlns:dsp="{DSP}"><dsp:timestamp>{instant_text(at)}</dsp:timestamp>'
            f"<dsp:nonce>{token_hex(16)}</dsp:nonce></dsp:ReplayProtect>"
        )
        # in canonical form every declaration in scope stands at the top of what is digested
        ds = f' xmlns:ds="{DS}" xmlns:oadr="{OADR}"'
        about = f' Id="{_PROPERTY_ID}" Target="#{SIGNED_ID}"'
        property_ = f"<ds:SignatureProperty{{}}{about}>{protect}</ds:SignatureProperty>"
        references = _reference(SIGNED_ID, signed_object) + _reference(_PROPERTY_ID, property_.format(ds).encode())
        info = (
            f'<ds:CanonicalizationMethod Algorithm="{C14N}"></ds:CanonicalizationMethod>'
            f'<ds:SignatureMethod Algorithm="{self._algorithm}"></ds:SignatureMethod>{references}</ds:SignedInfo>'
        )
        value = base64.b64encode(self._sign(f"<ds:SignedInfo{ds}>{info}".encode())).decode()
        return (
            f'<ds:Signature xmlns:ds="{DS}"><ds:SignedInfo>{info}<ds:SignatureValue>{value}</ds:SignatureValue>'
            f"{self._key_info}<ds:Object><ds:SignatureProperties>{property_.format('')}</ds:SignatureProperties>"
            "</ds:Object></ds:Signature>"
        )

    def _sign(self, content: bytes) -> bytes:
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(content, padding.PKCS1v15(), hashes.SHA256())
        size = (self._key.curve.key_size + 7) // 8
        first, second = decode_dss_signature(self._key.sign(content, ec.ECDSA(hashes.SHA256())))
        return first.to_bytes(size, "big") + second.to_bytes(size, "big")


def _load_key(key_pem: bytes, passphrase: str | None) -> PrivateKey:
    try:
        key = serialization.load_pem_private_key(key_pem, passphrase.encode() if passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise InvalidRequest("key", "unreadable", "a private key in PEM, and its passphrase if it has one") from error
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size >= _MIN_RSA_BITS:
        return key
    if isinstance(key, ec.EllipticCurvePrivateKey):
        return key
    raise InvalidRequest("key", type(key).__name__, f"RSA of {_MIN_RSA_BITS} bits or more, or an elliptic curve")


def _reference(to: str, canonical: bytes) -> str:
    digest = base64.b64encode(hashlib.sha256(canonical).digest()).decode()
    return (
        f'<ds:Reference URI="#{to}"><ds:Transforms><ds:Transform Algorithm="{C14N}"></ds:Transform></ds:Transforms>'
        '<ds:DigestMethod Algorithm="http://www.w3.org/2001/04/xmlenc#sha256"></ds:DigestMethod>'
        f"<ds:DigestValue>{digest}</ds:DigestValue></ds:Reference>"
    )


class Verifier:
    """Checks who signed a message, that nothing of it was altered, and that it is new.

    Who may sign is told by fingerprint, as the field binds certificates to ids; chains are for TLS to check.

    Args:
        guard: remembers what was seen.
        clock: to tell how old a message is.
        fingerprints: whose signatures count; None takes anybody's, and `Decoded.signed_by` says whose it was.
        required: whether an unsigned message is refused; if not, it is read with `signed_by` None.
        window: how far the message's timestamp may lie before or after now. openleadr allows itself 5 s, which
            a clock of a meter does not keep; its messages pass here, and ours, being fresh, pass there.
    """

    def __init__(
        self,
        guard: ReplayGuard,
        clock: Clock,
        *,
        fingerprints: Collection[str] | None = None,
        required: bool = True,
        window: timedelta = REPLAY_WINDOW,
    ) -> None:
        self._guard = guard
        self._clock = clock
        self._fingerprints = None if fingerprints is None else {one.upper() for one in fingerprints}
        self._required = required
        self._window = window

    def check(self, root: Any, message: Any) -> str | None:
        """Return the fingerprint of who signed `message`, which is part of the document `root`.

        Raises:
            Refused: unsigned, altered, by somebody else, too old, or seen before (463).
        """
        signature = root.find(f"{{{DS}}}Signature")
        if signature is None:
            if self._required:
                raise _refused("it is not signed")
            return None
        certificate, fingerprint = _certificate(signature)
        if self._fingerprints is not None and fingerprint not in self._fingerprints:
            raise _refused(f"it is signed by {fingerprint}, not by who is expected")
        if not certificate.not_valid_before_utc <= self._clock.now() <= certificate.not_valid_after_utc:
            raise _refused(f"the certificate {fingerprint} is not valid now")
        info = _only(signature, "SignedInfo")
        method = _only(info, "CanonicalizationMethod").get("Algorithm")
        _check_value(certificate, info, method, _decoded(_only(signature, "SignatureValue")))
        protect = _check_references(root, message, signature, info)
        self._check_fresh(protect, fingerprint)
        return fingerprint

    def _check_fresh(self, protect: Any, fingerprint: str) -> None:
        stamp, nonce = protect.findtext(f"{{{DSP}}}timestamp") or "", protect.findtext(f"{{{DSP}}}nonce") or ""
        try:
            at = read_instant(stamp, "timestamp")
        except InvalidRequest as error:
            raise _refused("its ReplayProtect has no timestamp in UTC") from error
        if not nonce.strip() or len(nonce) > _MAX_NONCE_CHARS:
            raise _refused("its ReplayProtect has no nonce of a reasonable length")
        if abs(self._clock.now() - at) > self._window:
            raise _refused(f"it was signed at {stamp.strip()[:40]}, more than {self._window} from now")
        seen = hashlib.sha256(f"{fingerprint} {stamp.strip()} {nonce.strip()}".encode()).hexdigest()
        if not self._guard.first_time(seen, at):
            raise _refused("it was received before")


def _refused(reason: str) -> Refused:
    return Refused(NOT_REGISTERED, f"signature: {reason}")


def _only(parent: Any, name: str) -> Any:
    found = parent.findall(f"{{{DS}}}{name}")
    if len(found) != 1:
        raise _refused(f"{len(found)} of {name}, where there must be one")
    return found[0]


def _decoded(element: Any) -> bytes:
    try:
        return base64.b64decode("".join((element.text or "").split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused("it is not base64") from error


def _certificate(signature: Any) -> tuple[x509.Certificate, str]:
    """Return the signer's certificate: the first, where a chain is sent along."""
    found = signature.find(f"{{{DS}}}KeyInfo/{{{DS}}}X509Data/{{{DS}}}X509Certificate")
    if found is None:
        raise _refused("it brings no X509Certificate")
    der = _decoded(found)
    try:
        return x509.load_der_x509_certificate(der), _fingerprint(der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused("its X509Certificate cannot be read") from error


def _canonical(element: Any, algorithm: str | None, prefixes: list[str] | None = None) -> bytes:
    if algorithm not in _EXCLUSIVE_OF:
        raise _refused(f"canonical form {algorithm!r} is not taken")
    exclusive = _EXCLUSIVE_OF[algorithm]
    return bytes(
        etree.tostring(
            element,
            method="c14n",
            exclusive=exclusive,
            with_comments=False,
            inclusive_ns_prefixes=prefixes if exclusive else None,
        )
    )


def _check_value(certificate: x509.Certificate, info: Any, method: str | None, value: bytes) -> None:
    content = _canonical(info, method, _inclusive(_only(info, "CanonicalizationMethod")))
    algorithm = _only(info, "SignatureMethod").get("Algorithm")
    try:
        key = certificate.public_key()  # read only now; a curve nobody knows is found here
    except (ValueError, UnsupportedAlgorithm) as error:
        raise _refused("its X509Certificate has a key that cannot be read") from error
    try:
        if isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA and key.key_size in _RSA_BITS:
            key.verify(value, content, padding.PKCS1v15(), _RSA[algorithm]())
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm in _ECDSA:
            half = (key.curve.key_size + 7) // 8
            if len(value) != 2 * half:
                raise InvalidSignature
            numbers = int.from_bytes(value[:half], "big"), int.from_bytes(value[half:], "big")
            key.verify(encode_dss_signature(*numbers), content, ec.ECDSA(_ECDSA[algorithm]()))
        else:
            raise _refused(f"algorithm {algorithm!r} is not taken with this key")
    except InvalidSignature as error:
        raise _refused("it does not hold") from error


def _inclusive(transform: Any) -> list[str] | None:
    found = transform.find(f"{{{_C14N_EXCLUSIVE}}}InclusiveNamespaces")
    return None if found is None else (found.get("PrefixList") or "").split()


def _check_references(root: Any, message: Any, signature: Any, info: Any) -> Any:
    """Return the ReplayProtect, after the digests of it and of the message's oadrSignedObject were found right."""
    signed_object = message.getparent()
    if signed_object is None or signed_object.getparent() is not root:
        raise _refused("there is no oadrSignedObject")
    protects = list(signature.iter(f"{{{DSP}}}ReplayProtect"))
    if len(protects) != 1:
        raise _refused(f"{len(protects)} of ReplayProtect, where there must be one")
    covered = {signed_object: False, protects[0]: False}
    by_id = _by_id(root)
    references = info.findall(f"{{{DS}}}Reference")
    if not 2 <= len(references) <= 4:
        raise _refused(f"{len(references)} references, where there must be two")
    for reference in references:
        target = by_id.get((reference.get("URI") or "")[1:]) if (reference.get("URI") or "").startswith("#") else None
        if target is None:
            raise _refused(f"reference {(reference.get('URI') or '')[:60]!r} is to nothing, or to more than one")
        _check_digest(reference, target)
        for wanted in covered:
            if target is wanted or (wanted is protects[0] and wanted in set(target.iter(wanted.tag))):
                covered[wanted] = True
    if not all(covered.values()):
        raise _refused("it does not cover both the message and its ReplayProtect")
    return protects[0]


def _by_id(root: Any) -> dict[str, Any]:
    """Return elements by their Id, whatever its namespace; an Id that two elements have is left out."""
    found: dict[str, Any] = {}
    for element in root.iter():
        for name, value in element.attrib.items():
            if name.rpartition("}")[2].lower() == "id":
                found[value] = None if value in found else element
    return found


def _check_digest(reference: Any, target: Any) -> None:
    transforms = [
        found
        for found in reference.findall(f"{{{DS}}}Transforms/{{{DS}}}Transform")
        if found.get("Algorithm") != _ENVELOPED  # it takes the signature out of what is signed, where it never is
    ]
    if len(transforms) > 1:
        raise _refused("more than one transform")
    algorithm = transforms[0].get("Algorithm") if transforms else C14N
    made = _DIGESTS.get(_only(reference, "DigestMethod").get("Algorithm"))
    if made is None:
        raise _refused("its digest method is not taken")
    content = _canonical(target, algorithm, _inclusive(transforms[0]) if transforms else None)
    if made(content).digest() != _decoded(_only(reference, "DigestValue")):
        raise _refused("what it covers was altered")
