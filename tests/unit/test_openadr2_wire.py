"""OpenADR 2.0b on the wire of our VEN: units and signs turn once, ids stay text, harmful documents die, we do not."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openleadr.messaging import create_message
from openleadr.utils import certificate_fingerprint

from market.openadr2.codec import MemoryReplayGuard, Refused, Signer, Verifier, decode, encode
from market.openadr2.parse import MAX_BODY_BYTES, parse, schema_error
from vpp.clock import SystemClock
from vpp.domain.openadr2 import (
    CreatedEvents,
    DistributeEvents,
    EventOpt,
    Poll,
    RegisterReports,
    Response,
)
from vpp.domain.signal import SignalKind
from vpp.domain.time import Interval
from vpp.domain.ven import EventNotice
from vpp.gateway.notices import read_notices
from vpp.gateway.offers import offers

START_AT = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROGRAMS = {"http://utility.example/elrp": "elrp"}
REAL_POWER = {"name": "powerReal", "description": "RealPower", "unit": "W", "scale": "k"} | {
    "power_attributes": {"hertz": 60, "voltage": 240, "ac": True}
}


def _event(*values: float, **changes: Any) -> dict[str, Any]:
    """An event of hourly intervals as openleadr takes it; `changes` replace parts of it."""
    signal = {
        "signal_name": changes.get("signal_name", "LOAD_DISPATCH"),
        "signal_type": changes.get("signal_type", "setpoint"),
        "signal_id": "s1",
        "intervals": [
            {"dtstart": START_AT + n * HOUR, "duration": HOUR, "signal_payload": value}
            for n, value in enumerate(values)
        ],
    }
    if changes.get("scale", "k"):
        signal["measurement"] = REAL_POWER | {"scale": changes.get("scale", "k")}
    descriptor = {
        "event_id": changes.get("event_id", "E1"),
        "modification_number": changes.get("modification_number", 0),
        "modification_date_time": START_AT,
        "market_context": changes.get("market_context", "http://utility.example/elrp"),
        "event_status": changes.get("event_status", "far"),
        "created_date_time": START_AT,
        "priority": 1,
        "test_event": changes.get("test_event", False),
    }
    period = {"dtstart": START_AT, "duration": len(values) * HOUR}
    if "startafter" in changes:
        period["tolerance"] = {"startafter": changes["startafter"]}
    return {
        "event_descriptor": descriptor,
        "active_period": period,
        "event_signals": [*changes.get("more_signals", []), signal],
        "targets": changes.get("targets", [{"ven_id": "ven1"}]),
        "response_required": changes.get("response_required", "always"),
    }


def _notice(*values: float, **changes: Any) -> EventNotice:
    text = create_message(
        "oadrDistributeEvent", events=[_event(*values, **changes)], request_id="007", vtn_id="VTN1", response=None
    )
    text = text.replace(">nan<", ">NaN<").replace(">inf<", ">INF<")  # as XML writes them
    if "event_lasts" in changes:  # the library makes it what its intervals say
        text = text.replace("PT1H", changes["event_lasts"], 1)
    told = decode(text.encode()).message
    assert isinstance(told, DistributeEvents)
    return read_notices(told, source="openadr2:utility", program_of=PROGRAMS, ven_id="ven1")[0]


@pytest.mark.parametrize(("scale", "stated"), [("k", 500.0), ("M", 0.5), ("none", 500_000.0)])
def test_a_setpoint_becomes_kilowatts_toward_the_grid_whatever_its_scale(scale: str, stated: float) -> None:
    signal = _notice(stated, stated / 2, scale=scale).signal
    assert signal is not None
    assert signal.kind is SignalKind.POWER_KW
    assert [(part.interval, part.value) for part in signal.intervals] == [
        (Interval(START_AT, START_AT + HOUR), 500.0),
        (Interval(START_AT + HOUR, START_AT + 2 * HOUR), 250.0),
    ]


def test_a_drop_of_consumption_is_delivery() -> None:
    """Holds conventions, rule 1."""
    signal = _notice(-500.0, 0.0, signal_type="delta").signal
    assert signal is not None
    assert [part.value for part in signal.intervals] == [500.0, 0.0]


def test_a_simple_level_stays_a_level() -> None:
    signal = _notice(2, signal_name="SIMPLE", signal_type="level", scale="", startafter=timedelta(minutes=3)).signal
    assert signal is not None
    assert (signal.kind, signal.intervals[0].value, signal.start_tolerance_s) == (SignalKind.LEVEL, 2.0, 180.0)


def test_the_dispatch_counts_where_a_level_comes_along() -> None:
    level = {
        "signal_name": "SIMPLE",
        "signal_type": "level",
        "signal_id": "s0",
        "intervals": [{"dtstart": START_AT, "duration": HOUR, "signal_payload": 1}],
    }
    signal = _notice(500.0, more_signals=[level]).signal
    assert signal is not None
    assert signal.kind is SignalKind.POWER_KW


@pytest.mark.parametrize("event_id", ["007", "1.2.3", "...", "a & b <c>"])
def test_ids_stay_the_text_they_were_on_the_way_in_and_out(event_id: str) -> None:
    notice = _notice(500.0, event_id=event_id.replace("&", "&amp;").replace("<", "&lt;"))
    assert (notice.external_id, notice.request_id) == (event_id, "007")
    opt = EventOpt(event_id=event_id, modification_number=0, request_id="007", opt_in=False, description="a < b")
    body = encode(CreatedEvents(response=Response(), ven_id="ven1", opts=(opt,)))
    assert parse(body).findtext(".//{*}eventID") == event_id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signal_name": "ELECTRICITY_PRICE", "signal_type": "price", "scale": ""}, 460),
        ({"scale": ""}, 460),
        ({"signal_type": "multiplier"}, 460),
        ({"market_context": "http://nobody.example"}, 453),
        ({"targets": [{"ven_id": "another"}]}, 462),
        ({"modification_number": 2**31}, 454),
        ({"event_id": "x" * 300}, 454),
        ({"event_lasts": "PT30M"}, 454),
    ],
)
def test_an_event_we_cannot_take_is_refused_with_a_code(changes: dict[str, Any], code: int) -> None:
    notice = _notice(500.0, **changes)
    assert notice.signal is None
    assert notice.refusal is not None
    assert notice.refusal.code == code


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf"), 1e8])
def test_a_power_we_cannot_owe_is_refused(value: float) -> None:
    assert _notice(value).refusal is not None


def test_a_cancellation_counts_even_where_the_rest_cannot_be_read() -> None:
    signal = _notice(500.0, event_status="cancelled", scale="").signal
    assert signal is not None
    assert signal.cancelled


def test_a_completed_event_and_a_test_event_say_so() -> None:
    assert _notice(500.0, event_status="completed").completed
    signal = _notice(500.0, test_event=True, response_required="never").signal
    assert signal is not None
    assert signal.is_test


def test_an_offer_names_kilowatts_and_is_valid() -> None:
    offer = RegisterReports(request_id="1", offers=offers(["http://utility.example/elrp"], START_AT), ven_id="v")
    root = parse(encode(offer))
    assert schema_error(root) is None
    assert {found.text for found in root.iterfind(".//{*}siScaleCode")} == {"k"}
    names = [found.text for found in root.iterfind(".//{*}reportName")]
    assert names == ["METADATA_TELEMETRY_USAGE", "METADATA_TELEMETRY_STATUS", "METADATA_HISTORY_USAGE"]


def _signer() -> tuple[Signer, str]:
    """A key of our own making and its certificate's OpenADR fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "utility.example")])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    unsigned = unsigned.serial_number(1).not_valid_before(now - HOUR).not_valid_after(now + HOUR)
    cert = unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Signer(cert, key.private_bytes(*form), clock=SystemClock()), certificate_fingerprint(cert)


def test_only_what_the_expected_certificate_signed_once_is_read() -> None:
    signer, fingerprint = _signer()
    expected = Verifier(MemoryReplayGuard(), SystemClock(), fingerprints=[fingerprint])
    poll = Poll(ven_id="ven1")
    body = encode(poll, signer=signer)
    assert decode(body, verify=expected).message == poll
    stranger, _ = _signer()
    for refused in (
        body,  # replayed
        encode(poll),
        encode(poll, signer=stranger),
        encode(poll, signer=signer).replace(b"ven1", b"ven2"),
    ):
        with pytest.raises(Refused, match="463"):
            decode(refused, verify=expected)


BOMB = b'<!DOCTYPE a [<!ENTITY b "c">]><oadrPayload xmlns="http://openadr.org/oadr-2.0b/2012/07">&b;</oadrPayload>'


@pytest.mark.parametrize(
    "body",
    [
        BOMB,
        BOMB.decode().encode("utf-16"),
        BOMB.decode().encode("utf-16-le"),
        b'<?xml version="1.0" encoding="UTF-7"?>' + BOMB.decode().encode("utf-7"),
        b"",
        b"<",
        b" " * (MAX_BODY_BYTES + 1),
    ],
)
def test_a_harmful_document_is_refused_before_it_is_read(body: bytes) -> None:
    with pytest.raises(Refused):
        decode(body)


PROBE = """
import sys
import market.openadr2, market.openadr2.vtn
print(sorted(name for name in sys.modules if name.split(".")[0] in ("openleadr", "xmltodict", "signxml")))
"""


def test_our_doors_do_without_the_library_that_ninety_bytes_kill() -> None:
    """openleadr's parser dies of BOMB; of the library we use the schema's files, and import nothing."""
    probe = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, timeout=60, check=False)
    assert (probe.returncode, probe.stdout.strip()) == (0, b"[]"), probe.stderr
