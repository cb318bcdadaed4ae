"""Recorded OpenADR 2.0b messages mean what they say, and invalid ones are refused with the right code."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from market.openadr2.codec import Refused, decode, encode
from tests.shared_data import SHARED_DIR, shared_vectors
from vpp.domain import openadr2 as m
from vpp.domain.grid_event import EventStatus, SeriesType, Target, TargetKind

OK_123 = m.Response(200, "OK", "REQ_12345")
INVALID = {
    "eievent/unvalidationOadrDistributeEvent.xml": (m.COMPLIANCE_ERROR, "REQ_12345"),
    "eievent/unvalidationOadrRequestEvent.xml": (m.NOT_RECOGNIZED, ""),  # of profile 2.0a
    # its name does not say so, but oadrVenName stands out of the schema's order
    "eiregisterparty/oadrCreatePartyRegistration.xml": (m.COMPLIANCE_ERROR, "REQ_123"),
    "eiregisterparty/unvalidationOadrCancelPartyRegistration.xml": (m.COMPLIANCE_ERROR, "REQ_12345"),
    "eiregisterparty/unvalidationOadrCreatedPartyRegistration.xml": (m.COMPLIANCE_ERROR, "REQ_123"),
    "eiregisterparty/unvalidationOadrQueryRegistration.xml": (m.COMPLIANCE_ERROR, ""),
    "eiregisterparty/unvalidationOadrRequestReregistration.xml": (m.COMPLIANCE_ERROR, ""),
    "poll/unvalidationOadrPoll.xml": (m.COMPLIANCE_ERROR, ""),
    "response/unvalidatingOadrResponse.xml": (m.COMPLIANCE_ERROR, ""),
}
MEANS: dict[str, m.Openadr2Message] = {
    "eievent/oadrCreatedEvent.xml": m.CreatedEvents(
        response=m.Response(200, "OK", ""),
        ven_id="VEN_123",
        opts=(m.EventOpt(event_id="EVENT_12344", modification_number=0, request_id="REQ_12345", opt_in=True),),
    ),
    # meant to be invalid by its name; the schema has it without eventResponses
    "eievent/unvalidatingOadrCreatedEvent.xml": m.CreatedEvents(
        response=m.Response(200, "OK", ""), ven_id="VEN_123", opts=()
    ),
    "eievent/oadrRequestEvent.xml": m.RequestEvents(request_id="REQ_12345", ven_id="VEN_1234", reply_limit=5),
    "eiregisterparty/oadrCancelPartyRegistration.xml": m.CancelRegistration(
        request_id="REQ_12345", registration_id="REG_54321"
    ),
    "eiregisterparty/oadrCanceledPartyRegistration.xml": m.CanceledRegistration(
        response=OK_123, registration_id="REG_54321"
    ),
    # meant to be invalid by its name; the schema has it without registrationID
    "eiregisterparty/unvalidationOadrCanceledPartyRegistration.xml": m.CanceledRegistration(
        response=OK_123, registration_id=""
    ),
    # meant to be invalid by its name; the schema allows all of it
    "eiregisterparty/unvalidationOadrCreatePartyRegistration.xml": m.CreateRegistration(
        request_id="REQ_123", ven_name="MyVEN"
    ),
    "eiregisterparty/oadrCreatedPartyRegistration.xml": m.CreatedRegistration(
        response=m.Response(200, "OK", "REQ_123"),
        vtn_id="VTN",
        profiles=("2.0a", "2.0b"),
        transports=("simpleHttp", "xmpp"),
        extensions=(("My Extension", "A Key", "A Value"),),
    ),
    "eiregisterparty/oadrQueryRegistration.xml": m.QueryRegistration(request_id="String"),
    "eiregisterparty/oadrRequestReregistration.xml": m.RequestReregistration(ven_id="VEN_123"),
    "poll/oadrPoll.xml": m.Poll(ven_id="VEN_123"),
    "response/oadrResponse.xml": m.Acknowledge(response=OK_123, ven_id="REQ_12345"),
    "samples/oadrPoll_0.xml": m.Poll(ven_id="123ABC"),
    "samples/oadrRequestReregistration_0.xml": m.RequestReregistration(ven_id="123ABC"),
    "samples/oadrResponse_0.xml": m.Acknowledge(response=m.Response(200, "OK", ""), ven_id="123ABC"),
}
SAMPLES: dict[str, tuple[type, dict[str, Any]]] = {
    "oadrCancelOpt_0": (m.CancelOpt, {"ven_id": "123ABC", "opt_id": "f3fd6b1d-dffd-4f30-962b-fb19b1dd5b70"}),
    "oadrCanceledOpt_0": (m.CanceledOpt, {"opt_id": "72c8a37d-508c-438c-a721-12269c6ca70d"}),
    "oadrCancelPartyRegistration_0": (m.CancelRegistration, {"ven_id": "123ABC"}),
    "oadrCanceledPartyRegistration_0": (m.CanceledRegistration, {"ven_id": "123ABC"}),
    "oadrCancelReport_0": (m.CancelReports, {"to_follow": True, "ven_id": "123ABC"}),
    "oadrCanceledReport_0": (
        m.CanceledReports,
        {"pending": ("43722761-4cc3-4684-ae79-8ad2c14e3c3c", "bf4c3dfb-1175-4a9a-976a-ae81b52b4082")},
    ),
    "oadrCreateOpt_0": (
        m.CreateOpt,
        {"opt_in": True, "reason": "participating", "modification_number": 1, "windows": ()}
        | {"event_id": "36eb3e4e-3959-4f32-a2ed-725e54c11cb7", "targets": (Target(TargetKind.VEN, "123ABC"),)},
    ),
    "oadrCreatePartyRegistration_0": (
        m.CreateRegistration,
        {"transport_address": "http://localhost", "ven_name": "test", "http_pull": True, "ven_id": "123ABC"},
    ),
    "oadrCreatedPartyRegistration_0": (m.CreatedRegistration, {"vtn_id": "VTN123", "ven_id": "123ABC"}),
    "oadrCreatedReport_0": (m.CreatedReports, {"ven_id": None}),
    "oadrQueryRegistration_0": (m.QueryRegistration, {"request_id": "455dd699-ab81-4df6-8f74-79100db81082"}),
    "oadrRegisteredReport_0": (m.RegisteredReports, {"ven_id": "VEN123"}),
    "oadrRequestEvent_0": (m.RequestEvents, {"reply_limit": None, "ven_id": "123ABC"}),
}


def _all_files() -> list[str]:
    root = SHARED_DIR / "vectors" / "openadr2b"
    return sorted(str(path.relative_to(root)) for path in root.glob("*/*.xml"))


def _read(name: str) -> bytes:
    path: Path = shared_vectors("openadr2b", *name.split("/"))
    return path.read_bytes()


@pytest.mark.conformance("2.0b", "Messages", "invalid messages are refused with the right code")
@pytest.mark.parametrize("name", INVALID)
def test_an_invalid_message_is_refused_with_its_code_and_its_request_id(name: str) -> None:
    for lenient in (True, False):
        with pytest.raises(Refused) as refused:
            decode(_read(name), lenient=lenient)
        assert (refused.value.code, refused.value.request_id) == INVALID[name]


@pytest.mark.conformance("2.0b", "Messages", "valid messages are read to their meaning")
@pytest.mark.parametrize("name", MEANS)
def test_a_valid_message_means_what_it_says(name: str) -> None:
    assert decode(_read(name), lenient=False).message == MEANS[name]


@pytest.mark.parametrize("name", SAMPLES)
def test_a_documented_sample_means_what_it_says(name: str) -> None:
    kind, facts = SAMPLES[name]
    message = decode(_read(f"samples/{name}.xml"), lenient=False).message
    assert type(message) is kind
    assert {key: getattr(message, key) for key in facts} == facts


@pytest.mark.parametrize("name", _all_files())
def test_every_file_is_either_refused_or_written_again_without_loss(name: str) -> None:
    if name in INVALID:
        return
    read = decode(_read(name), lenient=False)
    assert decode(encode(read.message), lenient=False).message == read.message


def test_no_file_is_left_without_a_verdict() -> None:
    """A schema-invalid file is in INVALID, each other in one of the tables above or in a test of its own."""
    verdicts = shared_vectors("openadr2b", "verdicts.txt").read_text().splitlines()
    failing = {line.partition(" | ")[0] for line in verdicts if "| XSD-FAIL" in line}
    assert failing == set(INVALID)
    own = {"samples/oadrDistributeEvent_0.xml", "eievent/oadrDistributeEvent.xml", "samples/oadrCreatedEvent_0.xml"}
    own |= {f"samples/{name}_0.xml" for name in ("oadrCreateReport", "oadrRegisterReport", "oadrUpdateReport")}
    own |= {"samples/oadrUpdatedReport_0.xml"}
    assert set(_all_files()) == failing | set(MEANS) | {f"samples/{name}.xml" for name in SAMPLES} | own


def test_a_recorded_event_of_two_signals_has_every_part() -> None:
    message = decode(_read("eievent/oadrDistributeEvent.xml"), lenient=False).message
    assert isinstance(message, m.DistributeEvents)
    assert (message.vtn_id, message.request_id, message.response) == ("VTN_543", "REQ_12345", m.Response(200, "OK", ""))
    (told,) = message.events
    event, minutes = told.event, timedelta(minutes=1)
    assert (told.status, told.defect) == (EventStatus.FAR, None)
    assert (event.event_id, event.modification_number, event.program) == ("Event_939393", 1, "http://www.myprogram.com")
    assert event.start_at == datetime(2001, 12, 17, 9, 40, 47, tzinfo=UTC)
    assert (event.duration, event.start_tolerance) == (30 * minutes, 3 * minutes)
    assert (event.notification, event.ramp_up, event.recovery) == (60 * minutes, 5 * minutes, 5 * minutes)
    assert (event.priority, event.comment, event.modification_reason) == (1, "Sample Payload", "Update")
    assert (event.is_test, event.cancelled, event.answer_wanted) == (False, False, True)
    resource = Target(TargetKind.RESOURCE, "RES_123")
    assert event.targets == (Target(TargetKind.GROUP, "Group_123"), resource, resource)
    level, price = event.series
    assert (level.type, level.name, level.unit) == (SeriesType.SIMPLE, "SIMPLE/level", None)
    assert [part.values for part in level.intervals] == [(3.0,), (2.0,)]
    assert level.targets == (Target(TargetKind.OTHER, "Exterior_Lighting", "endDeviceAsset"),)
    assert (price.type, price.unit, price.currency, price.current) == (SeriesType.PRICE, "KWH", "USD", 0.0)
    assert [(part.start_at, part.duration, part.values) for part in price.intervals] == [
        (event.start_at, 15 * minutes, (1.2,)),
        (event.start_at + 15 * minutes, 15 * minutes, (1.3,)),
    ]


def test_the_documented_event_runs_through_its_nine_intervals() -> None:
    message = decode(_read("samples/oadrDistributeEvent_0.xml"), lenient=False).message
    assert isinstance(message, m.DistributeEvents)
    (told,) = message.events
    (series,) = told.event.series
    assert (series.type, series.unit) == (SeriesType.CONTROL_CAPACITY, "VOLTS")
    assert [part.values[0] for part in series.intervals] == [8, 10, 12, 14, 16, 18, 20, 10, 20]
    assert series.intervals[-1].start_at + timedelta(minutes=1) == told.event.end_at


def test_documented_reports_say_what_is_offered_asked_and_cancelled() -> None:
    offered = decode(_read("samples/oadrRegisterReport_0.xml"), lenient=False).message
    assert isinstance(offered, m.RegisterReports)
    assert [(offer.name, len(offer.points)) for offer in offered.offers] == [
        ("METADATA_TELEMETRY_STATUS", 1),
        ("METADATA_TELEMETRY_USAGE", 2),
        ("METADATA_HISTORY_USAGE", 2),
    ]
    power = offered.offers[1].points[1]
    assert (power.item, power.unit, power.scale, power.voltage_v) == ("powerReal", "nW", "n", 230.0)
    assert (power.r_id, power.resources, power.min_sampling) == (
        "resource1_power",
        ("resource1",),
        timedelta(minutes=1),
    )

    asked = decode(_read("samples/oadrCreateReport_0.xml"), lenient=False).message
    assert isinstance(asked, m.CreateReports)
    (demand,) = asked.demands
    assert (demand.points, demand.back) == ((("d6e2e07485", "Direct Read"),), timedelta(minutes=15))
    assert demand.start_at == datetime(2019, 11, 19, 11, 0, 18, 672768, tzinfo=UTC)

    update = decode(_read("samples/oadrUpdateReport_0.xml"), lenient=False).message
    assert isinstance(update, m.UpdateReports)
    assert (update.updates[0].name, update.updates[0].values) == ("HISTORY_GREENBUTTON", ())

    updated = decode(_read("samples/oadrUpdatedReport_0.xml"), lenient=False).message
    assert isinstance(updated, m.UpdatedReports)
    assert updated.cancel is not None
    assert len(updated.cancel.report_request_ids) == 3

    created = decode(_read("samples/oadrCreatedEvent_0.xml"), lenient=False).message
    assert isinstance(created, m.CreatedEvents)
    assert [opt.opt_in for opt in created.opts] == [True, False]
