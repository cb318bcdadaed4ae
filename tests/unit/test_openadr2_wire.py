"""OpenADR 2.0b on the wire: units and signs turn once, ids stay text, harmful documents die, we do not."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from openleadr.messaging import create_message
from openleadr.utils import certificate_fingerprint

from market.openadr2 import messages
from market.openadr2.messages import Signing, decode, read_message
from market.openadr2.patches import MAX_BODY_BYTES, parse_document
from market.openadr2.wire import duration_of
from vpp.domain.errors import InvalidRequest
from vpp.domain.signal import SignalKind
from vpp.domain.time import Interval
from vpp.domain.ven import (
    Distribution,
    EventAnswer,
    EventNotice,
    RegistrationCancelled,
    ReportedPower,
    ReportRequest,
    ReportsAsked,
    ReportsCancelled,
)

START_AT = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROGRAMS = {"http://utility.example/elrp": "elrp", "http://www.myprogram.com": "elrp", "http://MarketContext1": "elrp"}
UNSIGNED = Signing()
VECTORS = Path(os.environ.get("VPP_SHARED_DIR", Path(__file__).parents[3] / "shared")) / "vectors" / "openadr2b"
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
    kind, message = decode(text.encode(), UNSIGNED)
    read = read_message(kind, message, source="openadr2:utility", program_of=PROGRAMS, ven_id="ven1")
    assert isinstance(read, Distribution)
    return read.notices[0]


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
    answer = EventAnswer(external_id=event_id, modification_number=0, request_id="007", opt_in=False, reason="a < b")
    body = messages.encode("oadrCreatedEvent", UNSIGNED, ven_id="ven1", **messages.event_answer(answer))
    assert parse_document(body).findtext(".//{*}eventID") == event_id


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"signal_name": "ELECTRICITY_PRICE", "signal_type": "price", "scale": ""}, 460),
        ({"scale": ""}, 460),
        ({"scale": "m"}, 460),
        ({"signal_type": "multiplier"}, 460),
        ({"market_context": "http://nobody.example"}, 453),
        ({"targets": [{"ven_id": "another"}]}, 462),
        ({"modification_number": 2**31}, 454),
        ({"event_id": "x" * 300}, 454),
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
    signal = _notice(500.0, event_status="cancelled", scale="m").signal
    assert signal is not None
    assert signal.cancelled


def test_a_completed_event_and_a_test_event_say_so() -> None:
    assert _notice(500.0, event_status="completed").completed
    signal = _notice(500.0, test_event=True, response_required="never").signal
    assert signal is not None
    assert signal.is_test


@pytest.mark.parametrize(
    ("text", "seconds"), [("PT15M", 900), ("P1DT1H", 90000), ("P1W", 604800), ("1W", 604800), ("-PT5S", -5)]
)
def test_durations_mean_what_the_calendar_says(text: str, seconds: float) -> None:
    assert duration_of(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["P", "PT", "", "P1M", "P1Y", "PT1.5S"])
def test_a_length_nobody_can_know_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        duration_of(text)


def test_a_report_carries_kilowatts_and_is_valid() -> None:
    request = ReportRequest(
        report_request_id="R1",
        specifier_id=messages.SPECIFIER_ID,
        point_id=messages.POINT_ID,
        granularity_s=300,
        report_back_s=300,
    )
    values = messages.report_values(request, [ReportedPower(Interval(START_AT, START_AT + HOUR), 12.5)], START_AT)
    root = parse_document(messages.encode("oadrUpdateReport", UNSIGNED, ven_id="v", request_id="1", reports=[values]))
    assert root.findtext(".//{*}payloadFloat/{*}value") == "12.5"
    offer = messages.report_offer(["http://utility.example/elrp"], START_AT)
    root = parse_document(messages.encode("oadrRegisterReport", UNSIGNED, ven_id="v", request_id="1", reports=[offer]))
    assert root.findtext(".//{*}siScaleCode") == "k"


def _signing() -> tuple[Signing, str]:
    """A key of our own making and its certificate's OpenADR fingerprint."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "utility.example")])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    unsigned = unsigned.serial_number(1).not_valid_before(now - HOUR).not_valid_after(now + HOUR)
    cert = unsigned.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Signing(cert=cert, key=key.private_bytes(*form)), certificate_fingerprint(cert)


def test_only_what_the_expected_certificate_signed_once_is_read() -> None:
    signing, fingerprint = _signing()
    expected = Signing(vtn_fingerprint=fingerprint)
    body = messages.encode("oadrPoll", signing, ven_id="ven1")
    assert decode(body, expected)[0] == "oadrPoll"
    stranger, _ = _signing()
    for refused in (
        body,  # replayed
        messages.encode("oadrPoll", UNSIGNED, ven_id="ven1"),
        messages.encode("oadrPoll", stranger, ven_id="ven1"),
        messages.encode("oadrPoll", signing, ven_id="ven1").replace(b"ven1", b"ven2"),
    ):
        with pytest.raises(InvalidRequest, match="signature"):
            decode(refused, expected)


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
    with pytest.raises(InvalidRequest):
        parse_document(body)


PROBE = """
import sys
from openleadr import messaging
if sys.argv[1] == "ours":
    import market.openadr2
body = sys.stdin.buffer.read()
try:
    messaging.validate_xml_schema(body)
except messaging.etree.XMLSyntaxError:
    print("refused")
"""


def _probe(which: str) -> "subprocess.CompletedProcess[bytes]":
    command = [sys.executable, "-c", PROBE, which]
    return subprocess.run(command, input=BOMB, capture_output=True, timeout=60, check=False)


def test_ninety_bytes_that_kill_the_library_are_refused_once_we_are_imported() -> None:
    ours = _probe("ours")
    assert (ours.returncode, ours.stdout.strip()) == (0, b"refused"), ours.stderr


def _vectors() -> list[Any]:
    if not (VECTORS / "verdicts.txt").exists():
        return []
    lines = (VECTORS / "verdicts.txt").read_text().splitlines()
    return [pytest.param(*(part.strip() for part in line.split("|")[:2]), id=line.split(" ")[0]) for line in lines]


def test_the_vectors_are_there() -> None:
    if not _vectors():
        if os.environ.get("VPP_REQUIRE_ALL") == "1":
            pytest.fail(f"no vectors under {VECTORS}")
        pytest.skip(f"no vectors under {VECTORS}; set VPP_SHARED_DIR to where they are")


@pytest.mark.parametrize(("name", "verdict"), _vectors())
def test_a_vector_is_read_or_refused_as_two_schemas_say(name: str, verdict: str) -> None:
    body = (VECTORS / name).read_bytes()
    if verdict.startswith("XSD-FAIL"):
        with pytest.raises(InvalidRequest):
            decode(body, UNSIGNED)
        return
    kind, message = decode(body, UNSIGNED)
    stem = Path(name).stem.removesuffix("_0").removeprefix("unvalidating").removeprefix("unvalidation")
    assert kind.lower() == stem.lower()
    read_message(kind, message, source="openadr2:utility", program_of=PROGRAMS, ven_id="ven1")


def _vector(name: str) -> Any:
    if not (VECTORS / name).exists():
        pytest.skip(f"no vectors under {VECTORS}")
    kind, message = decode((VECTORS / name).read_bytes(), UNSIGNED)
    return read_message(kind, message, source="openadr2:utility", program_of=PROGRAMS, ven_id="VEN001")


def test_the_event_vectors_mean_what_they_say() -> None:
    plain = _vector("eievent/oadrDistributeEvent.xml").notices[0]
    assert (plain.external_id, plain.modification_number) == ("Event_939393", 1)
    assert [part.value for part in plain.signal.intervals] == [3.0, 2.0]
    assert plain.signal.intervals[0].interval.start_at == datetime(2001, 12, 17, 9, 40, 47, tzinfo=UTC)
    assert plain.signal.intervals[1].interval.duration == timedelta(minutes=15)
    assert plain.signal.start_tolerance_s == 180
    odd = _vector("samples/oadrDistributeEvent_0.xml").notices[0]
    assert odd.refusal.code == 460


def test_the_report_and_registration_vectors_mean_what_they_say() -> None:
    asked = _vector("samples/oadrCreateReport_0.xml")
    assert isinstance(asked, ReportsAsked)
    assert len(asked.refused) == 1
    cancelled = _vector("samples/oadrCancelReport_0.xml")
    assert isinstance(cancelled, ReportsCancelled)
    assert cancelled.to_follow
    assert isinstance(_vector("eiregisterparty/oadrCancelPartyRegistration.xml"), RegistrationCancelled)
    _, message = decode((VECTORS / "samples/oadrCreatedPartyRegistration_0.xml").read_bytes(), UNSIGNED)
    registration = messages.read_registration(message)
    assert registration is not None
    assert (registration.ven_id, registration.poll_s) == ("123ABC", None)
