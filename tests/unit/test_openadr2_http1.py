"""Requests out of a connection's bytes: the same however they are cut, and within bounds."""

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from market.openadr2.http1 import MAX_CHUNKS, MAX_HEAD_BYTES, Answer, Request, RequestReader, Unreadable

BODY_BYTES = 1000


def read(*parts: bytes) -> list[Request]:
    reader, found = RequestReader(BODY_BYTES), []
    for part in parts:
        reader.feed(part)
        while (request := reader.next()) is not None:
            found.append(request)
    assert not reader.has_begun
    return found


def refused(*parts: bytes) -> int:
    with pytest.raises(Unreadable) as caught:
        read(*parts)
    return caught.value.status


def post(body: bytes, *, path: str = "/a", chunks: list[bytes] | None = None, fields: str = "") -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: vtn\r\n{fields}"
    if chunks is None:
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    told = b"".join(b"%x\r\n%b\r\n" % (len(each), each) for each in chunks)
    return f"{head}Transfer-Encoding: Chunked\r\n\r\n".encode() + told + b"0\r\n\r\n"


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted(each % (len(data) + 1) for each in places), len(data)]
    return [data[begin:end] for begin, end in pairwise(marks)]


BODIES = st.lists(st.binary(min_size=1, max_size=40), max_size=4)


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(BODIES, st.booleans()), min_size=1, max_size=3), st.lists(st.integers(0, 2000), max_size=8))
def test_requests_are_the_same_however_their_bytes_arrive(
    asked: list[tuple[list[bytes], bool]], places: list[int]
) -> None:
    sent = b"\r\n".join(
        post(b"".join(body), path=f"/{number}?q=1", chunks=body if in_chunks else None)
        for number, (body, in_chunks) in enumerate(asked)
    )
    found = read(*cut(sent, places))
    assert [(each.path, each.body) for each in found] == [
        (f"/{number}", b"".join(body)) for number, (body, _) in enumerate(asked)
    ]


BROKEN = st.sampled_from(
    [b"\r\n", b"\n", b"\r", b" ", b":", b"0", b"5\r\n", b"Content-Length: 5\r\n", b"Content-Length : 5\r\n", b"\0",
     b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: x, chunked\r\n", b"\x0b", b" folded\r\n", b"/1.0", b";"]
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(
    BODIES,
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 300), BROKEN, st.integers(0, 12)), max_size=3),
    st.lists(st.integers(0, 300), max_size=4),
)
def test_broken_requests_are_taken_or_refused_the_same_however_their_bytes_arrive(
    body: list[bytes], in_chunks: bool, breaks: list[tuple[int, bytes, int]], places: list[int]
) -> None:
    sent = post(b"".join(body), chunks=body if in_chunks else None) + post(b"next", path="/b")
    for place, broken, instead_of in breaks:
        at = place % len(sent)
        sent = sent[:at] + broken + sent[at + instead_of :]
    assert taken(sent) == taken(*cut(sent, places))


def taken(*parts: bytes) -> tuple[list[Request], int | None]:
    reader, found = RequestReader(BODY_BYTES), []
    try:
        for part in parts:
            reader.feed(part)
            while (request := reader.next()) is not None:
                found.append(request)
    except Unreadable as refusal:
        return found, refusal.status
    return found, None


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET / HTTP/2.0\r\n\r\n", 505),
        (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nHost: x\n\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nA : b\r\n\r\n", 400),
        (b"GET http://[ HTTP/1.1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: +1\r\n\r\na", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\na", 400),
        (b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 501),
        (b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n", 413),
        (post(b"", chunks=[b"a" * 1001]), 413),
        (post(b"", chunks=[b"a" * 600] * 2), 413),
        (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nA: " + b"b" * MAX_HEAD_BYTES, 431),
        (post(b"", chunks=[])[:-2] + b"X-Sum: 1\r\n\r\n", 400),
        (post(b"", chunks=[b"aa"]).replace(b"aa\r\n", b"aaa\r\n"), 400),
        (post(b"", chunks=[b"aa"]).replace(b"aa\r\n", b"aaaa"), 400),
        (post(b"", chunks=[b"aa"]).replace(b"\r\n2\r", b"\r\n-2\r"), 400),
        (b"CONNECT vtn:443 HTTP/1.1\r\n\r\n", 405),
        (post(b"", chunks=[])[:-5] + b"1" * 300, 400),
    ],
)
def test_what_is_no_request_or_too_much_is_refused(sent: bytes, status: int) -> None:
    assert refused(sent) == status
    assert refused(*[bytes([each]) for each in sent]) == status


def test_a_body_of_very_many_chunks_is_refused() -> None:
    reader = RequestReader(10 * MAX_CHUNKS)
    reader.feed(post(b"", chunks=[b"a"] * (MAX_CHUNKS + 1)))
    with pytest.raises(Unreadable):
        reader.next()


def test_an_offer_to_speak_another_protocol_is_passed_over() -> None:
    offer = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAA\r\n"  # as of Java's client
    sent = post(b"one", fields=offer) + post(b"", chunks=[b"t", b"wo"], fields=offer) + b"GET /c HTTP/1.1\r\n\r\n"
    for found in (read(sent), read(*[bytes([each]) for each in sent])):
        assert [(each.path, each.body, each.keeps_alive) for each in found] == [
            ("/a", b"one", True), ("/a", b"two", True), ("/c", b"", True)
        ]  # fmt: skip


def test_fields_connections_and_addresses_are_read_as_http_has_them() -> None:
    sent = "GET http://vtn:80/a%20b?c HTTP/1.1\r\nX-A:  1 \r\nx-a: 2\r\nConnection: TE, Close\r\n\r\n"
    (found,) = read(sent.encode())
    assert (found.method, found.path, found.fields["x-a"], found.keeps_alive) == ("GET", "/a b", "1, 2", False)
    assert [each.keeps_alive for each in read(b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n")] == [True, False]


def test_an_answer_says_how_long_it_is_and_whether_it_is_the_last() -> None:
    answer = Answer(503, b"abc", "text/plain", {"Retry-After": "5"})
    written = answer.to_bytes(keeps_alive=False, at_s=0.0).decode()
    assert written == (
        "HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n"
        "Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nRetry-After: 5\r\nConnection: close\r\n\r\nabc"
    )
    assert answer.to_bytes(keeps_alive=True, at_s=0.0, head_only=True).endswith(b"5\r\n\r\n")
