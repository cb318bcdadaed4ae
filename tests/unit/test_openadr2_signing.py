"""Signatures of OpenADR 2.0b: what is acted on is what was signed, by whom it should be, once, and lately."""

import re
import time
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from lxml import etree
from openleadr.messaging import create_message, validate_xml_schema, validate_xml_signature
from openleadr.utils import certificate_fingerprint
from signxml import XMLSigner, methods

from market.openadr2.codec import MemoryReplayGuard, Refused, Signer, Verifier, decode, encode, fingerprint_of
from market.openadr2.signing import _MORE, C14N
from tests.builders_openadr2 import START_AT, StandingClock, distribution, grid_event, key_pair, series
from vpp.clock import SystemClock
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest

POLL = m.Poll(ven_id="ven1")


def _signer(kind: str = "ec", owner: str = "us", clock: StandingClock | None = None) -> Signer:
    return Signer(*key_pair(kind, owner), clock=clock or StandingClock())


def _verifier(clock: StandingClock | None = None, **about: object) -> Verifier:
    return Verifier(MemoryReplayGuard(), clock or StandingClock(), **about)  # type: ignore[arg-type]


def _refused(body: bytes, verifier: Verifier | None = None) -> str:
    with pytest.raises(Refused) as refused:
        decode(body, verify=verifier or _verifier())
    assert refused.value.code == m.NOT_REGISTERED
    return refused.value.reason


@pytest.mark.conformance("2.0b", "Security", "XML signatures, RSA and EC")
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_signed_message_is_read_and_names_its_signer(kind: str) -> None:
    signer = _signer(kind)
    decoded = decode(encode(POLL, signer=signer), verify=_verifier(), lenient=False)
    assert (decoded.message, decoded.signed_by) == (POLL, signer.fingerprint)
    assert signer.fingerprint == certificate_fingerprint(key_pair(kind, "us")[0])  # as the field writes it


@pytest.mark.conformance("2.0b", "Security", "signatures are verified both ways", peer="openleadr 0.5.36")
@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_openleadr_verifies_ours_and_we_verify_openleadrs(kind: str) -> None:
    """openleadr takes no message older than 5 s, hence the machine's clock."""
    cert, key = key_pair(kind)
    message = distribution(grid_event(series(1.0, 2.0), comment="<&>\r\n é €"))
    ours = encode(message, signer=Signer(cert, key, clock=SystemClock()))
    validate_xml_signature(validate_xml_schema(ours), certificate_fingerprint(cert))
    theirs = create_message("oadrPoll", cert=cert, key=key, ven_id="ven1").encode()
    clock = SystemClock()
    decoded = decode(theirs, verify=Verifier(MemoryReplayGuard(), clock, fingerprints=[fingerprint_of(cert)]))
    assert (decoded.message, decoded.deviations) == (POLL, ())
    altered = theirs.replace(b">ven1<", b">ven2<")
    with pytest.raises(Refused, match="altered"):
        decode(altered, verify=Verifier(MemoryReplayGuard(), clock))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b">ven1<", b">ven2<"),
        (b"<oadr:oadrPoll ", b"<oadr:oadrPoll  x='' "),
        (b"<dsp:nonce>", b"<dsp:nonce>0"),
        (b"2026-08-19T23:00:00Z", b"2026-08-19T23:00:01Z"),
        (b"xmldsig-more#ecdsa-sha256", b"xmldsig-more#ecdsa-sha512"),
        (b"xmlenc#sha256", b"xmlenc#sha512"),
    ],
)
def test_whatever_is_altered_is_found(old: bytes, new: bytes) -> None:
    body = encode(POLL, signer=_signer())
    assert old in body
    assert "signature" in _refused(body.replace(old, new))


def test_an_unsigned_message_is_refused_where_a_signature_is_wanted() -> None:
    assert "not signed" in _refused(encode(POLL))
    assert decode(encode(POLL), verify=_verifier(required=False)).signed_by is None


def test_another_ones_signature_does_not_count() -> None:
    body = encode(POLL, signer=_signer(owner="stranger"))
    assert "not by who is expected" in _refused(body, _verifier(fingerprints=[_signer().fingerprint]))
    assert decode(body, verify=_verifier()).signed_by == _signer(owner="stranger").fingerprint


def test_a_signature_under_another_ones_certificate_does_not_hold() -> None:
    body = encode(POLL, signer=_signer(owner="stranger"))
    certificate = re.compile(rb"<ds:X509Certificate>[^<]*</ds:X509Certificate>")
    ours = certificate.search(encode(POLL, signer=_signer()))
    assert ours is not None
    assert "does not hold" in _refused(certificate.sub(ours.group(), body))


@pytest.mark.parametrize("late_s", [-301, 301])
def test_an_old_message_and_one_from_the_future_are_refused(late_s: int) -> None:
    body = encode(POLL, signer=_signer())
    clock = StandingClock(START_AT + timedelta(seconds=late_s))
    assert "from now" in _refused(body, _verifier(clock))
    clock.at = START_AT + timedelta(seconds=late_s - 1 if late_s > 0 else late_s + 1)
    assert decode(body, verify=_verifier(clock)).message == POLL


def test_a_certificate_counts_in_its_own_time_only() -> None:
    long_after = StandingClock(START_AT + timedelta(hours=10_000))
    body = encode(POLL, signer=_signer(clock=long_after))
    assert "is not valid now" in _refused(body, _verifier(long_after))


@pytest.mark.conformance("2.0b", "Security", "ReplayProtect")
def test_a_message_counts_once() -> None:
    verifier, body = _verifier(), encode(POLL, signer=_signer())
    decode(body, verify=verifier)
    assert "before" in _refused(body, verifier)
    assert decode(encode(POLL, signer=_signer()), verify=verifier).message == POLL


def test_a_forged_message_uses_up_no_nonce() -> None:
    verifier, body = _verifier(), encode(POLL, signer=_signer())
    _refused(body.replace(b">ven1<", b">ven2<"), verifier)
    assert decode(body, verify=verifier).message == POLL


def test_the_guard_is_asked_for_a_text_of_one_length() -> None:
    asked: list[str] = []

    class Guard:
        def first_time(self, nonce: str, at: datetime) -> bool:
            asked.append(nonce)
            assert at == START_AT
            return True

    decode(encode(POLL, signer=_signer()), verify=Verifier(Guard(), StandingClock()))
    assert [len(nonce) for nonce in asked] == [64]


def test_the_guard_in_memory_forgets_what_can_no_longer_come_and_stays_bounded() -> None:
    guard = MemoryReplayGuard(max_entries=10)
    for n in range(100):
        assert guard.first_time(str(n), START_AT)
    assert not guard.first_time("99", START_AT)
    assert guard.first_time("later", START_AT + timedelta(minutes=11))
    assert guard.first_time("99", START_AT + timedelta(minutes=11))


def _wrapped(body: bytes, build: Callable[[str, str], str]) -> bytes:
    """The document with its signed object moved, and another in its place."""
    text = body.decode()
    start, end = text.index("<oadr:oadrSignedObject"), text.index("</oadr:oadrPayload>")
    signed = text[start:end]
    evil = signed.replace(">ven1<", ">evil<")
    return (text[:start] + build(signed, evil) + text[end:]).encode()


@pytest.mark.parametrize(
    "build",
    [
        lambda signed, evil: evil + signed,
        lambda signed, evil: evil.replace('oadr:Id="oadrSignedObject"', "") + signed,
        lambda signed, evil: evil.replace('oadr:Id="oadrSignedObject"', 'oadr:Id="other"') + signed,
        lambda signed, evil: evil.replace("<oadr:oadrPoll ", f"<ei:x>{signed}</ei:x><oadr:oadrPoll "),
        lambda signed, evil: f'<oadr:x xmlns:oadr="http://openadr.org/oadr-2.0b/2012/07">{signed}</oadr:x>{evil}',
        lambda signed, evil: signed.replace("<oadr:oadrPoll", evil + "<oadr:oadrPoll"),
    ],
)
def test_a_signed_object_moved_aside_covers_nothing_else(build: Callable[[str, str], str]) -> None:
    """Signature wrapping: the reference must lead to the object that is read."""
    body = _wrapped(encode(POLL, signer=_signer()), build)
    for lenient in (True, False):
        with pytest.raises(Refused) as refused:
            decode(body, verify=_verifier(), lenient=lenient)
        assert refused.value.code in (m.NOT_REGISTERED, m.NOT_RECOGNIZED)


def test_a_signature_over_only_one_of_message_and_replay_protection_is_refused() -> None:
    text = encode(POLL, signer=_signer()).decode()
    one = re.compile(r'<ds:Reference URI="#replayProtect">.*?</ds:Reference>')
    assert _refused(one.sub("", text).encode())
    without = re.compile(r"<ds:Object>.*</ds:Object>")
    assert "ReplayProtect" in _refused(without.sub("", text).encode())


def test_weak_keys_and_methods_are_not_taken() -> None:
    with pytest.raises(InvalidRequest, match="2048"):
        Signer(*key_pair("rsa1024"), clock=StandingClock())
    body = encode(POLL, signer=_signer("rsa"))
    for strong, weak in (
        (b"2001/04/xmldsig-more#rsa-sha256", b"2000/09/xmldsig#rsa-sha1"),
        (C14N.encode(), b"http://www.w3.org/TR/1999/REC-xslt-19991116"),
        (C14N.encode(), C14N.encode() + b"#WithComments"),
    ):
        assert "not taken" in _refused(body.replace(strong, weak))
    sha1 = body.replace(b"2001/04/xmlenc#sha256", b"2000/09/xmldsig#sha1")
    assert _refused(sha1)
    assert f"{_MORE}ecdsa-sha256".encode() not in body


@pytest.mark.parametrize("junk", [b"", b"!!!!", b"AAAA", b"QUJD" * 9])
@pytest.mark.parametrize("name", [b"SignatureValue", b"X509Certificate", b"DigestValue"])
def test_junk_in_a_signature_is_refused(name: bytes, junk: bytes) -> None:
    part = re.compile(rb"(<ds:" + name + rb">)[^<]*")
    assert _refused(part.sub(rb"\g<1>" + junk, encode(POLL, signer=_signer())))


def test_a_certificate_whose_key_nobody_can_read_is_refused_like_any_other() -> None:
    curve, unknown = bytes.fromhex("06082A8648CE3D030107"), bytes.fromhex("06082A8648CE3D030106")
    der = x509.load_pem_x509_certificate(key_pair("ec", "us")[0]).public_bytes(serialization.Encoding.DER)
    body = encode(POLL, signer=_signer())
    assert b64encode(der) in body
    assert "key that cannot be read" in _refused(body.replace(b64encode(der), b64encode(der.replace(curve, unknown))))


def test_a_key_must_be_the_certificates_and_readable() -> None:
    cert, key = key_pair("ec", "us")
    with pytest.raises(InvalidRequest, match="the key of"):
        Signer(cert, key_pair("ec", "stranger")[1], clock=StandingClock())
    with pytest.raises(InvalidRequest, match="private key"):
        Signer(cert, b"no key", clock=StandingClock())
    with pytest.raises(InvalidRequest, match=r"X\.509"):
        Signer(b"-----BEGIN CERTIFICATE-----", key, clock=StandingClock())
    with pytest.raises(InvalidRequest, match=r"X\.509"):
        fingerprint_of(b"\x30\x00")


def test_a_key_is_parsed_once_and_signing_is_cheap() -> None:
    """openleadr parses the key for every message: 117 ms of RSA. A generous bound for a busy machine."""
    signer = _signer("rsa")
    began_s = time.process_time()
    for _ in range(20):
        encode(POLL, signer=signer)
    assert (time.process_time() - began_s) / 20 < 0.005


def _exclusively_signed() -> bytes:
    """A message signed by another library in exclusive canonical form, which does not depend on where it stands."""
    cert, key = key_pair("ec", "us")
    inner = etree.fromstring(encode(POLL))[0]
    protect = etree.fromstring(
        '<dsp:ReplayProtect xmlns:dsp="http://openadr.org/oadr-2.0b/2012/07/xmldsig-properties" Id="p" Target="#t">'
        "<dsp:timestamp>2026-08-19T23:00:00Z</dsp:timestamp><dsp:nonce>n1</dsp:nonce></dsp:ReplayProtect>"
    )
    signer = XMLSigner(
        method=methods.detached,
        signature_algorithm="ecdsa-sha256",
        c14n_algorithm="http://www.w3.org/2001/10/xml-exc-c14n#",
    )
    signature = signer.sign(inner, key=key, cert=cert, reference_uri="#oadrSignedObject", signature_properties=protect)
    oadr = "http://openadr.org/oadr-2.0b/2012/07"
    payload = etree.Element(f"{{{oadr}}}oadrPayload", nsmap={"oadr": oadr})
    payload.append(signature)
    payload.append(inner)
    return bytes(etree.tostring(payload))


def test_exclusive_canonical_form_is_verified_too() -> None:
    decoded = decode(_exclusively_signed(), verify=_verifier(), lenient=False)
    assert (decoded.message, decoded.signed_by) == (POLL, fingerprint_of(key_pair("ec", "us")[0]))


def test_an_enveloped_transform_changes_nothing_of_what_is_signed() -> None:
    """Some signers name it though the signature stands outside."""
    cert, key_pem = key_pair("ec", "us")
    c14n = f'<ds:Transform Algorithm="{C14N}"></ds:Transform>'
    enveloped = '<ds:Transform Algorithm="http://www.w3.org/2000/09/xmldsig#enveloped-signature"></ds:Transform>'
    body = encode(POLL, signer=_signer()).replace(c14n.encode(), (enveloped + c14n).encode())
    assert "does not hold" in _refused(body)
    info = etree.fromstring(body).find(".//{*}SignedInfo")
    key = serialization.load_pem_private_key(key_pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    der = key.sign(etree.tostring(info, method="c14n"), ec.ECDSA(hashes.SHA256()))
    raw = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
    value = b"<ds:SignatureValue>" + b64encode(raw) + b"</ds:SignatureValue>"
    resigned = re.sub(rb"<ds:SignatureValue>.*</ds:SignatureValue>", lambda _: value, body)
    assert decode(resigned, verify=_verifier()).signed_by == fingerprint_of(cert)


def test_a_signed_object_hidden_in_the_signature_covers_nothing_else() -> None:
    """Its digest still holds there, so only what the reference leads to can tell."""
    text = _exclusively_signed().decode()
    start, end = text.index("<oadr:oadrSignedObject"), text.index("</oadr:oadrPayload>")
    signed, evil = text[start:end], text[start:end].replace('oadr:Id="oadrSignedObject"', "").replace("ven1", "evil")
    hidden = text[:start].replace("</ds:Signature>", f"<ds:Object>{signed}</ds:Object></ds:Signature>")
    assert "does not cover" in _refused((hidden + evil + text[end:]).encode())
