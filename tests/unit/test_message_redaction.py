"""No credential gets into the message log, whatever it is wrapped in, and nothing sent to us makes that slow."""

from datetime import timedelta
from random import Random
from time import process_time

import pytest

from tests.clock import NOON
from vpp.domain.peer import Direction, Protocol
from vpp.peering.log_rows import BODY_MAX, LONGEST, Coalescer, Noted
from vpp.peering.redaction import _PATTERNS, redacted

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJodW50ZXIyIn0.hunter2-hunter2"


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ('{"client_id": "me", "client_secret": "hunter2", "n": 1}', ["me", '"n": 1']),
        ('{"clientSecret":"hun\\"ter hunter2"}', []),
        ('{"access_token":"hunter2","token_type":"Bearer","expires_in":3600}', ["Bearer", "3600"]),
        (
            '{"objectOperations":[{"callbackUrl":"https://a.example/x","bearerToken":"hunter2"}]}',
            ["https://a.example/x"],
        ),
        ('{"method":"OAUTH2_BEARER_TOKEN","username":"{clientID}","password":"hunter2"}', ["OAUTH2_BEARER_TOKEN"]),
        ('{"password":["hunter2", "hunter2"], "x": 1}', ['"x": 1']),
        ('{"secret": 2222222, "hunter": 0}', ['"hunter": 0']),
        ('{"body": "{\\"password\\": \\"hunter2\\"}"}', ["body"]),
        ("{'client_secret': 'hunter2', 'a': 1}", ["'a': 1"]),
        ('{"client_secret": "hunter2', []),
        ("grant_type=client_credentials&client_id=me&client_secret=hunter2&scope=read_all", ["me", "read_all"]),
        ("GET /events?skip=0&access_token=hunter2&limit=5", ["skip=0", "limit=5"]),
        ("Authorization: Basic aHVudGVyMg==hunter2\r\nAccept: text/xml", ["Accept: text/xml"]),
        ("proxy-authorization: Digest username=hunter2", []),
        ("Cookie: session=hunter2\nHost: a", ["Host: a"]),
        ("X-API-Key: hunter2", []),
        ("it said Bearer hunter2222", ["it said"]),
        (f"got {JWT} from it", ["got", "from it"]),
        ("https://me:hunter2@host.example/path", ["host.example/path"]),
        ("mqtts://me:hunter2@broker.example", ["broker.example"]),
        ('<login user="me" password="hunter2"/><x>1</x>', ["me", "<x>1</x>"]),
        ("<a:Token>\n hunter2 </a:Token><b>1</b>", ["<b>1</b>"]),
        ("<passWord><![CDATA[hunter2]]></passWord>", ["</passWord>"]),
        ("<ds:SignatureValue>hunter2</ds:SignatureValue>", ["ds:SignatureValue"]),
        ("<ds:KeyInfo><ds:X509Data><c>hunter2</c></ds:X509Data></ds:KeyInfo><z>1</z>", ["<z>1</z>", "KeyInfo"]),
        ("<ds:KeyInfo><ds:KeyValue>hunter2", ["KeyInfo"]),
        ('{"k": "-----BEGIN EC PRIVATE KEY-----\\nhunter2\\n-----END EC PRIVATE KEY-----"}', []),
        ("-----BEGIN PRIVATE KEY-----\nhunter2", []),
    ],
)
def test_a_credential_is_taken_out_and_the_rest_is_kept(text: str, kept: list[str]) -> None:
    clean = redacted(text)
    assert "hunter2" not in clean
    assert "2222222" not in clean
    assert [each for each in kept if each not in clean] == []


@pytest.mark.parametrize(
    "text",
    [
        '{"programName": "peak", "intervals": [{"payloads": [{"type": "SIMPLE", "values": [1]}]}]}',
        "<oadr:oadrPoll ei:schemaVersion='2.0b'><ei:venID>VEN1</ei:venID></oadr:oadrPoll>",
        "<ds:Signature>\n  <ds:SignedInfo>\n</ds:SignedInfo></ds:Signature>",
        '{"tokenURL": "https://idp.example/token", "token_type": "Bearer"}',
    ],
)
def test_what_is_no_credential_stays_as_it_is(text: str) -> None:
    assert redacted(text) == text


@pytest.mark.parametrize(
    "part",
    ["a", '"', "token", "<token", '"token":', "://a:", "token =", ";a", "eyJaaaaaaaa.", '"token":[', "<token> ", "\\"],
)
def test_no_body_takes_long(part: str) -> None:
    text = (part * BODY_MAX)[:BODY_MAX]
    before = process_time()
    redacted(text)
    assert process_time() - before < 0.5


def noted(
    kind: str, *, peer: str | None = "VEN1", after_s: float = 0, body: bytes | str = b"", **changes: object
) -> Noted:
    fields: dict[str, object] = {"direction": Direction.IN, "status": "200", "summary": "", "size": len(body)}
    at = NOON + timedelta(seconds=after_s)
    return Noted(at=at, protocol=Protocol.OPENADR2, peer=peer, kind=kind, body=body, **(fields | changes))  # type: ignore[arg-type]


def answer(after_s: float = 0) -> Noted:
    return noted("oadrResponse", direction=Direction.OUT, after_s=after_s, body=f"<r>{after_s}</r>")


def test_idle_polls_are_counted_in_the_first_until_something_else_is_said() -> None:
    log = Coalescer()
    rows = log.take([each for at in (0, 10, 20) for each in (noted("oadrPoll", after_s=at), answer(at))])
    assert [(row.kind, row.repeats, row.last_at) for row in rows] == [
        ("oadrPoll", 3, NOON + timedelta(seconds=20)),
        ("oadrResponse", 3, NOON + timedelta(seconds=20)),
    ]
    assert log.take([noted("oadrPoll", peer="VEN2")])
    told = [noted("oadrPoll", after_s=30), noted("oadrDistributeEvent", direction=Direction.OUT, after_s=30)]
    confirmed = [noted("oadrCreatedEvent", after_s=31), answer(31), noted("oadrPoll", after_s=40), answer(40)]
    assert [row.kind for row in log.take(told + confirmed)] == [
        "oadrDistributeEvent", "oadrCreatedEvent", "oadrResponse", "oadrPoll", "oadrResponse",
    ]  # fmt: skip
    assert rows[0].repeats == 4


def test_a_poll_that_is_refused_or_answered_otherwise_is_a_row_of_its_own() -> None:
    log = Coalescer()
    assert len(log.take([noted("oadrPoll", status="452"), noted("oadrPoll", status="452")])) == 2
    asked = [noted("GET /events", body=b"[1]"), noted("GET /events", body=b"[1]"), noted("GET /events", body=b"[2]")]
    assert [row.repeats for row in log.take(asked)] == [2, 1]
    strangers = [noted("oadrPoll", status="452", peer=None) for _ in range(5)]
    assert [row.repeats for row in log.take(strangers)] == [5]
    newcomers = [noted("oadrCreatePartyRegistration", peer=None) for _ in range(2)]
    assert [row.repeats for row in log.take(newcomers)] == [1, 1]
    late = noted("oadrPoll", peer="VEN3", after_s=LONGEST.total_seconds())
    assert len(log.take([noted("oadrPoll", peer="VEN3"), late])) == 2


def test_only_what_sql_does_not_know_is_counted_and_no_body_is_kept_in_memory() -> None:
    log = Coalescer()
    rows = log.take([noted("oadrPoll", body=b"x" * 100)])
    rows[0].id = 7
    log.stored(rows)
    assert (rows[0].body, log.counted()) == ("", [])
    log.take([noted("oadrPoll"), noted("oadrPoll")])
    assert [(row.id, row.repeats) for row in log.counted()] == [(7, 3)]
    log.take([noted("oadrPoll")])
    log.told([(rows[0], 3)])
    assert [row.repeats for row in log.counted()] == [4]
    log.told([(rows[0], 4)])
    assert log.counted() == []


def test_a_long_body_is_cut_with_a_note_and_utf16_is_redacted_too() -> None:
    (row,) = Coalescer().take([noted("x", body=b"a" * BODY_MAX, size=50_000)])
    assert row.body == "a" * BODY_MAX + "\n… cut: 50000 bytes in all"
    (row,) = Coalescer().take([noted("x", body=b"", size=50_000)])
    assert row.body == "… left out: 50000 bytes, the log was busy"
    (row,) = Coalescer().take(
        [noted("x\0", body="<password>hunter2</password>".encode("utf-16"), summary="token=hunter2")]
    )
    assert (row.kind, row.summary) == ("x", "token=***")
    assert "hunter2" not in row.body
    (row,) = Coalescer().take([noted("x", body="\udcff")])
    assert row.body == "?"


_SCRAPS = (
    "<ds:Signature>", "</ds:Signature>", "</Signature>", "<ds:KeyInfo>", "</ds:KeyInfo>", "<password>", "</password>",
    'token="', "Token='", '"', "'", "=", ":", " ", "\n", "\\", '"secret"', "client_secret=", "cookie: ", "a:b",
    "x-api-key", "Authorization: ", "Bearer ", "abcdef", "eyJaaaaaaaaa.b.c", "https://", "me:you@", "{", "[", "]",
    ",", "&", "/", ">", "<", "passphrase", "-----BEGIN PRIVATE KEY-----", "é", "credential", "<![CDATA[", "]]>",
    "signature.of:all",
)  # fmt: skip


def test_what_is_left_out_to_save_time_would_have_changed_nothing() -> None:
    draw = Random(4)
    for _ in range(4000):
        text = "".join(draw.choices(_SCRAPS, k=draw.randint(1, 25)))
        plainly = text
        for pattern, replacement in _PATTERNS:
            plainly = pattern.sub(replacement, plainly)
        assert redacted(text) == plainly, text
