"""What a peer must look like, and how its certificate is named.

Goal: a mistake is named by its field when it is typed. Method: each rule is broken once.
"""

import ssl
from typing import Any

import pytest
from openleadr.utils import certificate_fingerprint as theirs

from tests.builders_peering import certificate, new_peer
from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import PeerRole, Protocol
from vpp.peering import certificate_fingerprint
from vpp.peering.peer_rules import checked

TWO = {"protocol": Protocol.OPENADR2}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"name": "a b"}, "name"),
        ({"name": "../x"}, "name"),
        ({"protocol": Protocol.OPENADR2, "role": PeerRole.BL}, "role"),
        ({"role": PeerRole.VTN}, "url"),
        ({"url": "http://vtn.example"}, "url"),
        ({"url": "https://me:secret@vtn.example"}, "url"),
        ({"url": "https://vtn.example:port"}, "url"),
        ({"url": "ftp://localhost"}, "url"),
        ({**TWO, "fingerprint": "AA:BB"}, "fingerprint"),
        ({**TWO, "certificate_pem": b"no certificate"}, "certificate"),
        ({"fingerprint": "AA:BB:CC:DD:EE:FF:00:11:22:33"}, "certificate"),
        ({"party_id": " padded"}, "party_id"),
        ({"party_id": "x" * 129}, "party_id"),
        ({"client_id": "two words"}, "client_id"),
        ({"groups": ("",)}, "groups"),
        ({"granted_targets": ("x" * 129,)}, "granted_targets"),
        ({"config": {"client_secret": "hunter2"}}, "config.client_secret"),
        ({"config": {"key_name": "../../etc/passwd"}}, "config.key_name"),
        ({"config": {"limit": float("nan")}}, "config"),
        ({"config": {"long": "x" * 20_000}}, "config"),
        ({"config": {"reports": "HISTORY_USAGE"}}, "config.reports"),
        ({"config": {"reports": ["HISTORY"]}}, "config.reports"),
        ({"config": {"reports": {"HISTORY_USAGE": {"period_s": 60}}}}, "config.reports.HISTORY_USAGE.period_s"),
        ({"config": {"reports": {"TELEMETRY_USAGE": {"back_s": "5"}}}}, "config.reports.TELEMETRY_USAGE.back_s"),
        ({"config": {"reports": {"TELEMETRY_USAGE": {"every": 5}}}}, "config.reports.TELEMETRY_USAGE"),
    ],
)
def test_a_field_that_cannot_be_is_named(changes: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidRequest) as refusal:
        checked(new_peer(**({"name": "site-1"} | changes)))
    assert refusal.value.field == named
    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:8080/", "http://[::1]:80", "http://localhost", "https://vtn.example"]
)
def test_http_is_taken_for_this_machine_only(url: str) -> None:
    assert checked(new_peer(role=PeerRole.VTN, url=url)).url == url.rstrip("/")


@pytest.mark.parametrize("kind", ["rsa", "ec"])
def test_a_certificates_fingerprint_is_the_one_other_implementations_find(kind: str) -> None:
    pem, _ = certificate("ven-1", kind)
    der = ssl.PEM_cert_to_DER_cert(pem.decode())
    assert certificate_fingerprint(pem) == certificate_fingerprint(der) == theirs(pem.decode())
    assert checked(new_peer(**TWO, certificate_pem=pem)).fingerprint == certificate_fingerprint(pem)


def test_a_fingerprint_that_is_not_the_certificates_is_refused() -> None:
    pem, _ = certificate("ven-1", "ec")
    with pytest.raises(InvalidRequest, match=certificate_fingerprint(pem)):
        checked(new_peer(**TWO, certificate_pem=pem, fingerprint="AA:BB:CC:DD:EE:FF:00:11:22:33"))
