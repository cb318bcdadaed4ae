"""openleadr reads what we write, and we read what openleadr writes: every message of OpenADR 2.0b."""

from datetime import timedelta
from typing import Any

import pytest
from openleadr.messaging import create_message, parse_message, validate_xml_schema

from market.openadr2.codec import decode, encode
from tests.builders_openadr2 import HOUR, START_AT, distribution, grid_event, series
from vpp.domain import openadr2 as m
from vpp.domain.grid_event import EventStatus, SeriesType, Target, TargetKind
from vpp.domain.time import Interval

OK = {"response_code": 200, "response_description": "OK", "request_id": "r1"}
FINE = m.Response(200, "OK", "r1")
MINUTE = timedelta(minutes=1)
SPECIFIER = {
    "report_specifier_id": "s1",
    "granularity": 15 * MINUTE,
    "report_back_duration": timedelta(0),  # openleadr writes "P"
    "report_interval": {"dtstart": START_AT, "duration": 2 * HOUR},
    "specifier_payloads": [{"r_id": "p1", "reading_type": "Direct Read"}],
}
DEMAND = m.ReportDemand(
    report_request_id="rr1",
    specifier_id="s1",
    points=(("p1", "Direct Read"),),
    granularity=15 * MINUTE,
    back=timedelta(0),
    start_at=START_AT,
    duration=2 * HOUR,
)
OFFER = {
    "report_specifier_id": "s1",
    "report_name": "METADATA_TELEMETRY_USAGE",
    "created_date_time": START_AT,
    "duration": HOUR,
    "report_descriptions": [
        {
            "r_id": "p1",
            "report_data_source": {"resource_id": "fleet"},
            "report_type": "usage",
            "reading_type": "Direct Read",
            "market_context": "http://utility.example/elrp",
            "sampling_rate": {"min_period": MINUTE, "max_period": 2 * MINUTE, "on_change": True},
            "measurement": {"name": "powerReal", "description": "RealPower", "unit": "W", "scale": "k"}
            | {"power_attributes": {"hertz": 60, "voltage": 240, "ac": True}},
        }
    ],
}
POINT = m.PointOffer(
    r_id="p1",
    report_type="usage",
    reading_type="Direct Read",
    unit="kW",
    scale="k",
    item="powerReal",
    min_sampling=MINUTE,
    max_sampling=2 * MINUTE,
    on_change=True,
    market_context="http://utility.example/elrp",
    resources=("fleet",),
    frequency_hz=60.0,
    voltage_v=240.0,
    is_ac=True,
)
UPDATE = {
    "report_id": "i1",
    "report_name": "TELEMETRY_USAGE",
    "report_request_id": "rr1",
    "report_specifier_id": "s1",
    "created_date_time": START_AT,
    "intervals": [{"dtstart": START_AT, "duration": 15 * MINUTE, "report_payload": {"r_id": "p1", "value": 4.5}}],
}
VALUE = m.ReportedValue(r_id="p1", start_at=START_AT, duration=15 * MINUTE, value=4.5)
REPORT = m.ReportUpdate(
    report_request_id="rr1",
    specifier_id="s1",
    name="TELEMETRY_USAGE",
    created_at=START_AT,
    values=(VALUE,),
    report_id="i1",
)
CANCEL_DICT = {"request_id": "c1", "report_request_id": ["rr1", "rr2"], "report_to_follow": True, "ven_id": "ven1"}
CANCEL = m.CancelReports(request_id="c1", report_request_ids=("rr1", "rr2"), to_follow=True, ven_id="ven1")
CREATE_OPT = {
    "request_id": "r1",
    "opt_id": "o1",
    "opt_type": "optOut",
    "opt_reason": "x-schedule",
    "ven_id": "ven1",
    "created_date_time": START_AT,
    "market_context": "http://utility.example/elrp",
}
OPT = m.CreateOpt(
    request_id="r1",
    opt_id="o1",
    ven_id="ven1",
    opt_in=False,
    reason="x-schedule",
    created_at=START_AT,
    market_context="http://utility.example/elrp",
)


def _with(one: m.CreateOpt, **changes: Any) -> m.CreateOpt:
    return m.CreateOpt(**{name: getattr(one, name) for name in one.__slots__} | changes)


WRITTEN_BY_OPENLEADR: list[tuple[str, dict[str, Any], m.Openadr2Message]] = [
    ("oadrPoll", {"ven_id": "007"}, m.Poll(ven_id="007")),
    ("oadrQueryRegistration", {"request_id": "r1"}, m.QueryRegistration(request_id="r1")),
    (
        "oadrCreatePartyRegistration",
        {"request_id": "r1", "profile_name": "2.0b", "transport_name": "simpleHttp", "report_only": False}
        | {
            "transport_address": "http://ven.example/",
            "xml_signature": True,
            "ven_name": "v",
            "http_pull_model": False,
        },
        m.CreateRegistration(
            request_id="r1",
            transport_address="http://ven.example/",
            xml_signature=True,
            ven_name="v",
            http_pull=False,
        ),
    ),
    (
        "oadrCreatedPartyRegistration",
        {"response": OK, "vtn_id": "VTN1", "requested_oadr_poll_freq": timedelta(seconds=10)}
        | {"profiles": [{"profile_name": "2.0b", "transports": [{"transport_name": "simpleHttp"}]}]},
        m.CreatedRegistration(response=FINE, vtn_id="VTN1", poll=timedelta(seconds=10)),
    ),
    ("oadrRequestReregistration", {"ven_id": "ven1"}, m.RequestReregistration(ven_id="ven1")),
    (
        "oadrCancelPartyRegistration",
        {"request_id": "r1", "registration_id": "g1", "ven_id": "ven1"},
        m.CancelRegistration(request_id="r1", registration_id="g1", ven_id="ven1"),
    ),
    (
        "oadrCanceledPartyRegistration",
        {"response": OK, "registration_id": "g1", "ven_id": "ven1"},
        m.CanceledRegistration(response=FINE, registration_id="g1", ven_id="ven1"),
    ),
    ("oadrRequestEvent", {"request_id": "r1", "ven_id": "ven1"}, m.RequestEvents(request_id="r1", ven_id="ven1")),
    (
        "oadrCreatedEvent",
        {
            "response": OK,
            "ven_id": "ven1",
            "event_responses": [OK | {"event_id": "007", "modification_number": 3, "opt_type": "optOut"}],
        },
        m.CreatedEvents(
            response=m.Response(200, "OK", ""),  # it leaves the requestID of the whole empty
            ven_id="ven1",
            opts=(m.EventOpt(event_id="007", modification_number=3, request_id="r1", opt_in=False),),
        ),
    ),
    ("oadrResponse", {"response": OK, "ven_id": "ven1"}, m.Acknowledge(response=FINE, ven_id="ven1")),
    (
        "oadrRegisterReport",
        {"request_id": "r1", "ven_id": "ven1", "reports": [OFFER]},
        m.RegisterReports(
            request_id="r1",
            ven_id="ven1",
            offers=(
                m.ReportOffer(
                    specifier_id="s1",
                    name="METADATA_TELEMETRY_USAGE",
                    points=(POINT,),
                    created_at=START_AT,
                    duration=HOUR,
                ),
            ),
        ),
    ),
    (
        "oadrRegisteredReport",
        {"response": OK, "ven_id": "ven1"}
        | {"report_requests": [{"report_request_id": "rr1", "report_specifier": SPECIFIER}]},
        m.RegisteredReports(response=FINE, demands=(DEMAND,), ven_id="ven1"),
    ),
    (
        "oadrCreateReport",
        {"request_id": "r1", "ven_id": "ven1"}
        | {"report_requests": [{"report_request_id": "rr1", "report_specifier": SPECIFIER}]},
        m.CreateReports(request_id="r1", demands=(DEMAND,), ven_id="ven1"),
    ),
    (
        "oadrCreatedReport",
        {"response": OK, "ven_id": "ven1", "pending_reports": [{"report_request_id": "rr1"}]},
        m.CreatedReports(response=FINE, pending=("rr1",), ven_id="ven1"),
    ),
    (
        "oadrUpdateReport",
        {"request_id": "r1", "ven_id": "ven1", "reports": [UPDATE]},
        m.UpdateReports(request_id="r1", updates=(REPORT,), ven_id="ven1"),
    ),
    (
        "oadrUpdatedReport",
        {"response": OK, "ven_id": "ven1", "cancel_report": CANCEL_DICT},
        m.UpdatedReports(response=FINE, cancel=CANCEL, ven_id="ven1"),
    ),
    (
        "oadrCancelReport",
        CANCEL_DICT | {"report_request_id": "rr1"},
        m.CancelReports(request_id="c1", report_request_ids=("rr1",), to_follow=True, ven_id="ven1"),
    ),
    (
        "oadrCanceledReport",
        {"response": OK, "ven_id": "ven1", "pending_reports": [{"report_request_id": "rr2"}]},
        m.CanceledReports(response=FINE, pending=("rr2",), ven_id="ven1"),
    ),
    (
        "oadrCreateOpt",
        CREATE_OPT | {"vavailability": {"components": [{"dtstart": START_AT, "duration": HOUR}]}},
        _with(OPT, windows=(Interval(START_AT, START_AT + HOUR),)),
    ),
    (
        "oadrCreateOpt",
        CREATE_OPT | {"event_id": "E1", "modification_number": 2, "targets": [{"ven_id": "ven1"}]},
        _with(OPT, event_id="E1", modification_number=2, targets=(Target(TargetKind.VEN, "ven1"),)),
    ),
    ("oadrCreatedOpt", {"response": OK, "opt_id": "o1"}, m.CreatedOpt(response=FINE, opt_id="o1")),
    (
        "oadrCancelOpt",
        {"request_id": "r1", "opt_id": "o1", "ven_id": "ven1"},
        m.CancelOpt(request_id="r1", opt_id="o1", ven_id="ven1"),
    ),
    ("oadrCanceledOpt", {"response": OK, "opt_id": "o1"}, m.CanceledOpt(response=FINE, opt_id="o1")),
]


@pytest.mark.conformance("2.0b", "Messages", "messages are read", peer="openleadr 0.5.36")
@pytest.mark.parametrize(("kind", "payload", "expected"), WRITTEN_BY_OPENLEADR, ids=lambda part: str(part)[:30])
def test_what_openleadr_writes_is_read(kind: str, payload: dict[str, Any], expected: m.Openadr2Message) -> None:
    decoded = decode(create_message(kind, **payload).encode(), lenient=False)
    assert decoded.message == expected


def test_an_event_of_openleadr_is_read() -> None:
    event = {
        "event_descriptor": {
            "event_id": "007",
            "modification_number": 2,
            "modification_date_time": START_AT,
            "market_context": "http://utility.example/elrp",
            "event_status": "near",
            "created_date_time": START_AT,
            "priority": 3,
            "test_event": True,
            "vtn_comment": "a test",
        },
        "active_period": {"dtstart": START_AT, "duration": HOUR, "tolerance": {"startafter": 5 * MINUTE}}
        | {"ramp_up_period": MINUTE, "recovery_period": 2 * MINUTE, "notification_period": HOUR},
        "event_signals": [
            {
                "signal_name": "LOAD_DISPATCH",
                "signal_type": "delta",
                "signal_id": "s1",
                "intervals": [{"dtstart": START_AT, "duration": HOUR, "signal_payload": -5000.0}],
                "measurement": {"name": "powerReal", "description": "RealPower", "unit": "W", "scale": "none"}
                | {"power_attributes": {"hertz": 60, "voltage": 240, "ac": True}},
            }
        ],
        "targets": [{"ven_id": "ven1"}, {"resource_id": "r1"}],
        "response_required": "always",
    }
    body = create_message("oadrDistributeEvent", events=[event], request_id="d1", vtn_id="VTN1", response=None)
    message = decode(body.encode(), lenient=False).message
    expected = grid_event(
        series(-5.0, name="LOAD_DISPATCH/delta", type_=SeriesType.DISPATCH_SETPOINT_RELATIVE, unit="KW"),
        event_id="007",
        modification_number=2,
        created_at=START_AT,
        modified_at=START_AT,
        is_test=True,
        priority=3,
        comment="a test",
        start_tolerance=5 * MINUTE,
        notification=HOUR,
        ramp_up=MINUTE,
        recovery=2 * MINUTE,
        targets=(Target(TargetKind.RESOURCE, "r1"), Target(TargetKind.VEN, "ven1")),
    )
    assert message == distribution(expected, status=EventStatus.NEAR)


def _read_by_openleadr(message: m.Openadr2Message) -> tuple[str, dict[str, Any]]:
    body = encode(message)
    validate_xml_schema(body)
    kind, payload = parse_message(body)
    return kind, payload


OURS = [(expected, kind) for kind, _, expected in WRITTEN_BY_OPENLEADR]


@pytest.mark.conformance("2.0b", "Messages", "messages are written", peer="openleadr 0.5.36")
@pytest.mark.parametrize(("message", "kind"), OURS, ids=lambda part: str(part)[:30])
def test_what_we_write_is_read_by_openleadr(message: m.Openadr2Message, kind: str) -> None:
    read, payload = _read_by_openleadr(message)
    assert read == kind
    response = getattr(message, "response", None)
    if response is not None:
        assert payload["response"] == OK | {"request_id": response.request_id or None}
    for name in ("ven_id", "opt_id", "registration_id", "ven_name"):
        stated = getattr(message, name, None)
        if stated and not stated.isdecimal():  # openleadr turns digits into a number
            assert payload[name] == stated


def test_our_event_is_read_by_openleadr() -> None:
    power = series(5.0, -2.5, name="LOAD_DISPATCH/setpoint", type_=SeriesType.DISPATCH_SETPOINT, unit="KW")
    event = grid_event(
        power,
        series(1.0, 2.0),
        event_id="E1",
        start_tolerance=5 * MINUTE,
        ramp_up=MINUTE,
        priority=2,
        comment="rock & roll <now>",
        targets=(Target(TargetKind.GROUP, "west"), Target(TargetKind.VEN, "ven1")),
    )
    _, payload = _read_by_openleadr(distribution(event, status=EventStatus.ACTIVE))
    (read,) = payload["events"]
    assert read["event_descriptor"] == {
        "event_id": "E1",
        "modification_number": 0,
        "priority": 2,
        "market_context": "http://utility.example/elrp",
        "created_date_time": START_AT - HOUR,
        "event_status": "active",
        "test_event": False,
        "vtn_comment": "rock & roll <now>",
    }
    assert read["active_period"]["dtstart"] == START_AT
    assert read["active_period"]["duration"] == 2 * HOUR
    assert read["active_period"]["tolerance"] == {"tolerate": {"startafter": 5 * MINUTE}}
    assert read["targets_by_type"] == {"group_id": ["west"], "ven_id": ["ven1"]}
    first, second = read["event_signals"]
    assert [part["signal_payload"] for part in first["intervals"]] == [5.0, -2.5]
    assert (first["measurement"]["name"], first["measurement"]["scale"]) == ("powerReal", "k")
    assert [part["signal_payload"] for part in second["intervals"]] == [1.0, 2.0]
    assert read["response_required"] == "always"


def test_an_opt_of_openleadr_for_several_is_tolerated() -> None:
    several = CREATE_OPT | {"event_id": "E1", "modification_number": 2}
    several |= {"targets": [{"ven_id": "ven1"}, {"resource_id": "r1"}, {"group_id": "g1"}]}
    decoded = decode(create_message("oadrCreateOpt", **several).encode())
    assert decoded.deviations == ("several-targets-in-opt",)
    assert isinstance(decoded.message, m.CreateOpt)
    assert [target.value for target in decoded.message.targets] == ["g1", "r1", "ven1"]
