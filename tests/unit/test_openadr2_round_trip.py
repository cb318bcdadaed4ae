"""What we write in OpenADR 2.0b is valid, canonical, and read back as what it was."""

from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from market.openadr2.codec import TemplateCache, decode, encode, kind_of
from market.openadr2.parse import parse, schema_error
from market.openadr2.values import duration_text, number_text, read_duration, read_instant, read_number
from market.openadr2.xml_out import SIGNED_CLOSE, SIGNED_OPEN
from tests.builders_openadr2 import MESSAGES, START_AT, distribution, grid_event, instants, numbers, whole_s
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest


def test_there_is_a_strategy_for_every_message() -> None:
    assert set(MESSAGES) == set(get_args(m.Openadr2Message))


@pytest.mark.conformance("2.0b", "Messages", "every message is read back as it was written")
@pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)
def test_every_message_is_read_back_as_it_was_written(kind: type) -> None:
    @settings(max_examples=25, deadline=None)
    @given(MESSAGES[kind])
    def check(message: m.Openadr2Message) -> None:
        written = encode(message)
        root = parse(written)
        assert schema_error(root) is None
        read = decode(written, lenient=False)
        assert read.message == message
        assert read.deviations == ()
        assert f"<oadr:{kind_of(message)} ".encode() in written

    check()


@settings(max_examples=60, deadline=None)
@given(st.one_of(*MESSAGES.values()))
def test_what_we_write_is_in_canonical_form(message: m.Openadr2Message) -> None:
    """The signature is made over the text itself, so the text must be what libxml2 calls canonical."""
    written = encode(message)
    signed_object = parse(written)[0]
    start = written.index(SIGNED_OPEN.encode())
    ours = written[start : written.index(SIGNED_CLOSE.encode()) + len(SIGNED_CLOSE)]
    assert etree.tostring(signed_object, method="c14n") == ours


@given(whole_s)
def test_durations_are_read_back(length: timedelta) -> None:
    assert read_duration(duration_text(length), "d") == length


@given(instants)
def test_instants_are_read_back(at: datetime) -> None:
    text = at.isoformat().replace("+00:00", "Z")
    assert read_instant(text, "at") == at
    assert read_instant(text.removesuffix("Z"), "at") == at  # without a zone it is UTC


@given(numbers)
def test_numbers_are_read_back(value: float) -> None:
    assert read_number(number_text(value), "n") == value


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("PT0S", 0),
        ("P", 0),
        ("PT", 0),
        ("P1Y2M3DT4H5M6S", (365 + 60 + 3) * 86400 + 4 * 3600 + 5 * 60 + 6),
        ("P1H5M", 3900),
        ("P5M", 5 * 30 * 86400),
        ("PT5M", 300),
        ("+PT5M", 300),
        ("2W", 14 * 86400),
        (" PT5M\n", 300),
    ],
)
def test_every_form_of_duration_the_schema_has_is_read(text: str, seconds: int) -> None:
    assert read_duration(text, "d") == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["-PT5M", "PT99999999999999S", "P9999Y", "PT5.5S", "", "5M"])
def test_a_duration_beyond_reason_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_duration(text, "d")


@pytest.mark.parametrize(
    ("text", "scale", "value"), [("2.01", "k", 2010.0), ("2.01", "M", 2_010_000.0), ("0.07", "m", 7e-5)]
)
def test_a_scale_shifts_a_value_without_rounding_it(text: str, scale: str, value: float) -> None:
    """As floats, 2.01 times 1000 is 2009.9999999999998."""
    assert read_number(text, "n", scale) == value


@pytest.mark.parametrize("text", ["NaN", "INF", "-INF", "1E16", "1E999999999", "-1e400"])
def test_a_number_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest):
        read_number(text, "n")


def test_midnight_may_be_24_o_clock_and_a_fraction_may_be_long() -> None:
    assert read_instant("2026-08-19T24:00:00Z", "at") == datetime(2026, 8, 20, tzinfo=UTC)
    assert read_instant("2026-08-19T23:00:00.1234567Z", "at").microsecond == 123456
    assert read_instant("2026-08-19T23:00:00.Z", "at").microsecond == 0


@pytest.mark.parametrize(
    "message",
    [
        m.CreateOpt(request_id="r", opt_id="o", ven_id="v", opt_in=True, reason="bored", created_at=START_AT),
        m.CreateRegistration(request_id="r", profile="3.1"),
        m.CreateRegistration(request_id="r", transport="pigeon"),
        m.CreatedRegistration(response=m.Response(), vtn_id="VTN1", profiles=()),
        m.Acknowledge(response=m.Response(1000)),
        m.RequestEvents(request_id="r", ven_id="v", reply_limit=-1),
        distribution(grid_event(program="http://[not a context")),
        distribution(grid_event(priority=2**33)),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_a_peer_would_rightly_refuse_is_not_sent(message: m.Openadr2Message) -> None:
    with pytest.raises(InvalidRequest):
        encode(message)
    if isinstance(message, m.DistributeEvents):
        with pytest.raises(InvalidRequest):
            TemplateCache().encode(message)


@pytest.mark.parametrize("unfit", ["\x00", "\x1b", "\ufffe", "\ud800"])
def test_a_text_xml_cannot_carry_is_refused_before_it_is_sent(unfit: str) -> None:
    with pytest.raises(InvalidRequest, match="XML cannot carry"):
        encode(m.Poll(ven_id=f"a{unfit}b"))
