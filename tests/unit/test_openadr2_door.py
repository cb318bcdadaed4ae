"""Whatever bytes arrive at the OpenADR 2.0b door: a message or a refusal, soon, and nothing else."""

import importlib.util
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.openadr2.codec import Limits, MemoryReplayGuard, Refused, Signer, Verifier, decode, encode
from tests.builders_openadr2 import MESSAGES, StandingClock, distribution, grid_event, key_pair, messages
from tests.fuzz.door_openadr2 import seeds, try_bytes
from vpp.domain import openadr2 as m

POLL = encode(m.Poll(ven_id="ven1"))
ENTITY = '<!ENTITY a "b"><!ENTITY c "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">'
HEAD = '<?xml version="1.0"?>'
BOUND_S = 1.0


def _refusal(body: bytes, **about: object) -> Refused:
    began_s = time.process_time()
    with pytest.raises(Refused) as refused:
        decode(body, **about)  # type: ignore[arg-type]
    assert time.process_time() - began_s < BOUND_S
    return refused.value


@pytest.mark.conformance("2.0b", "Messages", "no document type")
@pytest.mark.parametrize(
    "text",
    [
        f"{HEAD}<!DOCTYPE x [{ENTITY}]><x>&c;</x>",
        f"{HEAD}<!doctype x><x/>",
        f"{HEAD}<!DocType x SYSTEM 'file:///etc/passwd'><x/>",
        f"{HEAD}<! DOCTYPE x PUBLIC '-//x' 'http://evil.example/x.dtd'><x/>",
        f"{HEAD}<!--\n--><!DOCTYPE x [<!ENTITY % p SYSTEM 'http://evil.example/'> %p;]><x/>",
        f'{HEAD}<!DOCTYPE x [<!ATTLIST x y CDATA "z">]><x/>',
    ],
)
def test_a_document_type_is_refused_before_it_is_parsed(text: str) -> None:
    refused = _refusal(text.encode())
    assert refused.code == m.COMPLIANCE_ERROR
    assert "document type" in refused.reason


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp037"])
def test_another_encoding_hides_nothing(encoding: str) -> None:
    """A declaration in UTF-16 or EBCDIC would pass a search of the bytes."""
    body = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE x [{ENTITY}]><x>&c;</x>'.encode(encoding)
    assert _refusal(body).code in (m.NOT_RECOGNIZED, m.COMPLIANCE_ERROR)


@pytest.mark.parametrize("name", ["utf-7", "iso-8859-1", "ebcdic-cp-us", "x" * 40])
def test_a_declaration_of_another_encoding_is_refused(name: str) -> None:
    refused = _refusal(POLL.replace(b'encoding="utf-8"', f'encoding="{name}"'.encode()))
    assert (refused.code, refused.reason) == (m.NOT_RECOGNIZED, f"declared as {name}; we read UTF-8")


def test_a_body_of_50_mb_is_refused_without_being_looked_at() -> None:
    body = b"\xff" * 50_000_000  # not even UTF-8, which nobody finds out
    began_s = time.process_time()
    refused = _refusal(body)
    assert time.process_time() - began_s < 0.05
    assert (refused.code, refused.reason) == (
        m.DEPLOYMENT_ERROR,
        "a message of 50000000 bytes; we take at most 1000000",
    )


def test_the_bound_on_the_size_is_the_callers() -> None:
    assert decode(POLL, limits=Limits(body_bytes=len(POLL))).message == m.Poll(ven_id="ven1")
    assert _refusal(POLL, limits=Limits(body_bytes=len(POLL) - 1)).code == m.DEPLOYMENT_ERROR


@pytest.mark.conformance("2.0b", "Messages", "bounds on depth, elements and size")
@pytest.mark.parametrize("depth", [41, 250, 9_000, 100_000])
def test_deep_nesting_is_refused(depth: int) -> None:
    refused = _refusal(b"<a>" * depth + b"</a>" * depth)
    if depth <= 255:  # from there on the parser itself gives up
        assert (refused.code, refused.reason) == (m.DEPLOYMENT_ERROR, "more than 40 elements within each other")
    assert refused.code in (m.DEPLOYMENT_ERROR, m.NOT_RECOGNIZED)


def test_as_many_elements_as_the_bound_allows_are_read_and_no_more() -> None:
    body = encode(m.CanceledReports(response=m.Response(), pending=tuple("abcdef")))
    count = (body.count(b"<") + 1) // 2  # a start and an end tag each, and the declaration
    assert decode(body, limits=Limits(elements=count)).deviations == ()
    assert _refusal(body, limits=Limits(elements=count - 1)).reason == f"more than {count - 1} elements"


@pytest.mark.parametrize(
    "body",
    [
        b"<a>" + b"<b/>" * 240_000 + b"</a>",
        b"<a " + b" ".join(b'a%d="1"' % n for n in range(60_000)) + b"/>",
        b"<a " + b" ".join(b'xmlns:a%d="u:%d"' % (n, n) for n in range(30_000)) + b"/>",
        POLL.replace(b">ven1<", b">" + b"x" * 900_000 + b"<"),
        POLL.replace(b"oadrPoll", b"o" * 400_000),
        b"<" * 900_000,
        b"<!" * 400_000,
        b"<!" + b" " * 900_000,
        b"&amp;" * 150_000,
        b"<requestID>" * 80_000,
    ],
    ids=["elements", "attributes", "namespaces", "text", "name", "lt", "bang", "blank", "amp", "ids"],
)
def test_much_of_anything_is_refused_soon(body: bytes) -> None:
    assert 400 <= _refusal(body).code < 500


@pytest.mark.parametrize("declared", [b'xmlns:a%x="urn:a"', b'a%06x="1"'], ids=["namespaces", "attributes"])
def test_a_signature_with_much_of_anything_is_refused_before_it_is_looked_at(declared: bytes) -> None:
    """Canonical form takes the square of their number: without a bound, 84 kB took two minutes."""
    crowd = b" ".join(declared % n for n in range(20_000))
    signed = encode(m.Poll(ven_id="ven1"), signer=Signer(*key_pair(), clock=StandingClock()))
    crowded = signed.replace(b"<ds:SignedInfo>", b"<ds:SignedInfo " + crowd + b">" + b"<ds:x></ds:x>" * 500)
    refused = _refusal(crowded, verify=Verifier(MemoryReplayGuard(), StandingClock()))
    assert (refused.code, refused.reason.split()[0]) == (m.DEPLOYMENT_ERROR, "more")


@pytest.mark.parametrize("value", [b"P" + b"1" * 800_000, b"P" + b"1" * 800_000 + b"S", b"PT" + b"1M" * 400_000])
def test_a_value_made_to_exhaust_a_pattern_is_refused_soon(value: bytes) -> None:
    body = encode(distribution(grid_event())).replace(b"<xcal:duration>PT1H<", b"<xcal:duration>" + value + b"<", 1)
    began_s = time.process_time()
    try:
        message = decode(body).message
    except Refused as refused:
        code = refused.code
    else:
        assert isinstance(message, m.DistributeEvents)
        assert message.events[0].defect is not None
        code = message.events[0].defect.code
    assert code == m.INVALID_DATA
    assert time.process_time() - began_s < BOUND_S


@pytest.mark.parametrize("body", [b"", b" ", b"\n", b"\xef\xbb\xbf", b"{}", b"<", b"<a", b"<a/>x", b"\0", b"<?xml?>"])
def test_what_is_no_xml_is_not_recognized(body: bytes) -> None:
    assert _refusal(body).code == m.NOT_RECOGNIZED


@pytest.mark.parametrize(
    "body",
    [
        b"<a/>",
        b'<oadrPoll xmlns="http://openadr.org/oadr-2.0a/2012/07"/>',
        b'<o:oadrPayload xmlns:o="http://openadr.org/oadr-2.0b/2012/07"/>',
        b'<o:oadrPayload xmlns:o="http://openadr.org/oadr-2.0b/2012/07"><o:oadrSignedObject/></o:oadrPayload>',
        b'<e:venID xmlns:e="http://docs.oasis-open.org/ns/energyinterop/201110">v</e:venID>',  # valid by the schema
        b'<o:oadrVenName xmlns:o="http://openadr.org/oadr-2.0b/2012/07">v</o:oadrVenName>',
    ],
)
def test_what_is_no_message_of_this_profile_is_not_recognized(body: bytes) -> None:
    assert _refusal(body).code == m.NOT_RECOGNIZED


def test_a_refusal_names_the_request_where_it_can_be_read() -> None:
    body = encode(m.RequestEvents(request_id="r&1", ven_id="ven1"))
    assert _refusal(body.replace(b"</oadr:oadrPayload>", b"")).request_id == ""  # an escape is not guessed at
    body = encode(m.RequestEvents(request_id="r1", ven_id="ven1"))
    assert _refusal(body.replace(b"</oadr:oadrPayload>", b"")).request_id == "r1"
    assert _refusal(body.replace(b"ei:venID", b"ei:venId")).request_id == "r1"
    limited = body.replace(
        b"<ei:venID>ven1</ei:venID>", b"<ei:venID>ven1</ei:venID><pyld:replyLimit>x</pyld:replyLimit>"
    )
    refused = _refusal(limited)
    assert (refused.code, refused.request_id) == (m.INVALID_DATA, "r1")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_do_no_harm(data: bytes) -> None:
    try_bytes(data)
    try_bytes(b'<?xml version="1.0"?>' + data)


_SNIPPETS = [
    b"<!DOCTYPE x>",
    b"<![CDATA[<!ENTITY]]>",
    b"&#0;",
    b"&lol;",
    b"&#x10FFFF;",
    b"NaN",
    b"-INF",
    b"1e400",
    b"P99999Y",
    b"-PT1S",
    b"0001-01-01T00:00:00Z",
    b"9999-12-31T23:59:59Z",
    b"4294967295",
    b"\xf0\x9f\x94\x8c",
    b"\xff",
    b"<a/>",
    b"<!-- -->",
    b"<?pi?>",
    b' xsi:nil="true" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"',
    b' Id="oadrSignedObject"',
]


@st.composite
def _mutated(draw: st.DrawFn) -> bytes:
    """A message with pieces cut, doubled, moved, or replaced."""
    signer = Signer(*key_pair("ec", "us"), clock=StandingClock())
    body = encode(draw(messages), signer=signer if draw(st.booleans()) else None)
    pieces = body.replace(b">", b">\n").split(b"\n")
    for _ in range(draw(st.integers(1, 4))):
        n = draw(st.integers(0, len(pieces) - 1))
        kind = draw(st.sampled_from(["cut", "double", "swap", "insert", "text"]))
        if kind == "cut":
            del pieces[n : n + draw(st.integers(1, 6))]
            pieces = pieces or [b""]
        elif kind == "double":
            pieces[n:n] = pieces[n : n + draw(st.integers(1, 6))]
        elif kind == "swap":
            other = draw(st.integers(0, len(pieces) - 1))
            pieces[n], pieces[other] = pieces[other], pieces[n]
        elif kind == "insert":
            pieces.insert(n, draw(st.sampled_from(_SNIPPETS)))
        else:
            value, lt, rest = pieces[n].partition(b"<")
            pieces[n] = draw(st.sampled_from([*_SNIPPETS, value[:1], value * 3])) + lt + rest
    return b"".join(pieces)


@settings(max_examples=150, deadline=None)
@given(_mutated())
def test_mutated_messages_do_no_harm(data: bytes) -> None:
    began_s = time.process_time()
    try_bytes(data)
    assert time.process_time() - began_s < BOUND_S


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_flipped_bit_in_what_is_signed_goes_unseen(data: st.DataObject) -> None:
    signer, clock = Signer(*key_pair("ec", "us"), clock=StandingClock()), StandingClock()
    message = m.CreatedOpt(response=m.Response(200, "OK", "r1"), opt_id="o1")
    body = bytearray(encode(message, signer=signer))
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded = decode(bytes(body), verify=Verifier(MemoryReplayGuard(), clock, fingerprints=[signer.fingerprint]))
    except Refused:
        return
    assert decoded.message == message  # only white space of the envelope, base64 or a prefix can have changed


def test_the_fuzzer_finds_nothing_in_a_bounded_run(tmp_path: Path) -> None:
    """The same harness runs as long as wanted by hand; here it must be quick."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed; uv sync --group fuzz")
    seeds(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.fuzz_openadr2", "-runs=3000", "-seed=7", "-max_len=4096", str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Done 3000" in done.stderr


def test_the_fuzzers_seeds_are_valid(tmp_path: Path) -> None:
    seeds(tmp_path)
    bodies = [path.read_bytes() for path in sorted(tmp_path.iterdir())]
    assert len(bodies) >= 7
    assert len(MESSAGES) == 23
    for body in bodies:
        try_bytes(body)
        decode(body, lenient=False)


def test_a_declaration_followed_by_blanks_takes_no_time() -> None:
    begun_s = time.process_time()
    for head in (b'<?xml a"encoding="utf-16"', b'<?xml version="1.0"encoding="utf-16"'):
        with pytest.raises(Refused):
            decode(head + b" " * 900_000 + b"?><a/>")
    assert time.process_time() - begun_s < 0.5
