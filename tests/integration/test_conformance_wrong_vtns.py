"""`vpp conformance openadr` finds what is wrong with a VTN: one lie at a time, nobody there, and stock openleadr."""

import json
import re
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from market.openadr2.codec import encode
from market.openadr2.conformance import CHECKS
from market.openadr2.conformance import opened as opened2
from market.openadr2.vtn import PREFIX
from market.openadr3.conformance import checks_of
from market.openadr3.conformance import opened as opened3
from tests.builders_conformance import Exchange, Lie, answers, honest, lying_before, questions, says, swaps
from tests.builders_gateway import stock_vtn
from tests.builders_processes import free_port
from tests.builders_vtn2 import add_ven, an_event, own_database, running_vtn, swept_store, tell
from tests.builders_vtn3 import NEW, OLD, listening
from tests.builders_vtn3 import running_vtn as running_vtn3
from tests.clock import FixedClock
from vpp.bootstrap.conformance import with_profile
from vpp.cli import run
from vpp.clock import SystemClock
from vpp.domain.conformance import ClientCredential, Outcome, VtnUnderTest, run_checks
from vpp.domain.errors import NotReady
from vpp.domain.openadr2 import Acknowledge, Response
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store

OK = encode(Acknowledge(response=Response(200, "OK", "")))


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as store:
        yield store


@pytest.fixture
def clock() -> FixedClock:
    """The harness knows real time only."""
    return FixedClock(SystemClock().now())


def another_registration() -> Lie:
    numbers = count(1)

    def change(exchange: Exchange) -> None:
        new = f"registrationID>other{next(numbers)}<".encode()
        exchange.body = re.sub(rb"registrationID>[^<]+<", new, exchange.body)

    return answers(change, path="EiRegisterParty")


def falling_numbers() -> Lie:
    numbers = count(9, -1)

    def change(exchange: Exchange) -> None:
        number = f"modificationNumber>{next(numbers)}<".encode()
        exchange.body = re.sub(rb"modificationNumber>\d+<", number, exchange.body)

    return answers(change, path="EiEvent")


def where(text: bytes, change: Any) -> Lie:
    return questions(lambda exchange: change(exchange) if text in exchange.asked else None)


def asks_all(exchange: Exchange) -> None:
    exchange.asked = re.sub(rb"<pyld:replyLimit>1</pyld:replyLimit>", b"", exchange.asked)


def html(exchange: Exchange) -> None:
    exchange.said["content-type"] = "text/html"


XML = "application/xml"
ACCEPTS = re.compile(rb"responseCode>4\d\d<")
REFUSALS = {
    "poll-unregistered", "event-bad-ven-id", "cancel-unknown-registration", "created-event-unknown",
    "update-report-unknown", "cancel-opt-unknown",
}  # fmt: skip


def accepts(exchange: Exchange) -> None:
    exchange.body = ACCEPTS.sub(b"responseCode>200<", exchange.body)


LIES_2: dict[str, tuple[Lie, set[str]]] = {
    "the truth": (honest, set()),
    "everything is taken": (answers(accepts), REFUSALS),
    "every poll is answered with success": (
        where(b"oadrPoll ", says(200, OK, XML)),
        {"poll-unregistered", "poll-cancelled", "schema-invalid", "no-such-service"},
    ),
    "requests are not named": (
        answers(lambda e: swaps(b"requestID>conformance", b"requestID>other")(e)), {"request-id"},
    ),
    "messages name no schema": (answers(swaps(b' ei:schemaVersion="2.0b"', b"")), {"schema-version"}),
    "an attribute lacks its namespace": (
        answers(swaps(b"ei:schemaVersion", b"schemaVersion")), {"valid", "schema-version"},
    ),
    "it calls XML something else": (answers(html), {"content-type"}),
    "there is no EiOpt": (
        questions(says(404, b"not found", "text/plain"), path="EiOpt"), {"create-opt", "cancel-opt-unknown"},
    ),
    "reports break it": (
        questions(says(500, b"oops", "text/plain"), path="EiReport"), {"register-report", "update-report-unknown"},
    ),
    "registrations get new ids": (another_registration(), {"register-again", "cancel-registration"}),
    "opts get other ids": (
        answers(lambda e: swaps(b"optID>conf", b"optID>other")(e), path="EiOpt"), {"create-opt", "cancel-opt"},
    ),
    "replyLimit is not read": (questions(asks_all, path="EiEvent"), {"reply-limit"}),
    "modifications count down": (falling_numbers(), {"modification-number"}),
    "it chokes on what is no XML": (where(b"no XML", says(500, b"oops", "text/plain")), {"no-xml"}),
    "it reads document types": (where(b"DOCTYPE", says(200, OK, XML)), {"document-type"}),
    "every address is a service": (questions(says(200, OK, XML), path="NoSuch"), {"no-such-service"}),
    "a query registers": (
        where(b"oadrQueryRegistration", says(200, OK, XML)), {"query", "document-type", "request-id"},
    ),
    "everything is a page": (
        questions(says(200, b"<html>hello</html>", "text/html")),
        {"query", "register", "content-type", "valid", "schema-invalid", "no-xml", "event-bad-ven-id"},
    ),
}  # fmt: skip


async def test_a_lie_of_a_2_0b_vtn_is_found_and_nothing_else_is_claimed(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "conformance")
    for number in range(2):
        await tell(store, clock, an_event(f"e{number}", clock.now(), 5.0))
    async with (
        running_vtn(store, clock) as vtn,
        lying_before(vtn.url.removesuffix(PREFIX)) as liar,
    ):
        under_test = VtnUnderTest(url=liar.url + PREFIX, profile="2.0b", hostile=True)
        for name, (lie, expected) in LIES_2.items():
            liar.lie = lie
            async with opened2(under_test, clock) as session:
                results = await run_checks(CHECKS, session, timeout_s=5)
            failed = {each.name for each in results if each.outcome is Outcome.FAIL}
            if name == "everything is a page":
                assert expected <= failed, name
            else:
                assert failed == expected, name
            assert not any("could not be judged" in each.sentence for each in results), name


def without(key: str) -> Any:
    def change(exchange: Exchange) -> None:
        said = json.loads(exchange.body)
        if isinstance(said, dict):
            said.pop(key, None)
        exchange.body = json.dumps(said).encode()

    return change


def drops(parameter: str) -> Any:
    def change(exchange: Exchange) -> None:
        exchange.query = [each for each in exchange.query if each[0] != parameter]

    return change


def turned() -> Any:
    turns = count()

    def change(exchange: Exchange) -> None:
        said = json.loads(exchange.body)
        if isinstance(said, list) and next(turns) % 2:
            exchange.body = json.dumps(said[::-1]).encode()

    return change


def as_bl(exchange: Exchange) -> None:
    if exchange.headers.get("authorization", "").startswith("Bearer ven"):
        exchange.headers["authorization"] = "Bearer bl"


def refuses(scheme: str) -> Any:
    def change(exchange: Exchange) -> None:
        basic = exchange.headers.get("authorization", "").startswith("Basic")
        if basic == (scheme == "basic"):
            says(401, b'{"title": "no", "status": 401}')(exchange)

    return change


def status(old: int, new: int) -> Any:
    def change(exchange: Exchange) -> None:
        if exchange.status == old:
            exchange.status = new

    return change


def no_zone(exchange: Exchange) -> None:
    exchange.body = re.sub(rb'(DateTime": ?"[^"]+)Z"', rb'\1"', exchange.body)


def plain_errors(exchange: Exchange) -> None:
    if exchange.status >= 400:
        says(exchange.status, b"no", "text/plain")(exchange)


MADE = b'{"id": "x1", "objectType": "PROGRAM", "programName": "x"}'
PAGE = says(200, b"[]")
LIES_3: dict[str, tuple[Lie, set[str]]] = {
    "no token endpoint is named": (answers(without("tokenURL"), path="/auth/server"), {"auth-server"}),
    "no HTTP Basic": (questions(refuses("basic"), path="/auth/token"), {"token-basic"}),
    "no form": (questions(refuses("form"), path="/auth/token"), {"token-form"}),
    "no expiry": (answers(without("expires_in"), path="/auth/token"), {"token-expires-in"}),
    "a token of no type": (answers(without("token_type"), path="/auth/token"), {"token-basic", "token-form"}),
    "any secret will do": (where(b"wrong-secret", says(200, b"{}")), {"token-wrong-secret"}),
    "no token is needed": (answers(status(401, 200), path="/programs"), {"no-token", "bad-token"}),
    "everybody is business logic": (questions(as_bl), {"scope-programs", "targets"}),
    "a page has no end": (questions(drops("limit")), {"limit"}),
    "pages come in any order": (answers(turned(), path="/programs", method="GET"), {"order"}),
    "what is over is shown": (questions(drops("active")), {"active"}),
    "a taken name is a bad request": (answers(status(409, 400)), {"duplicate-program", "duplicate-ven"}),
    "what is not there is empty": (answers(status(404, 200), path="does-not-exist"), {"unknown-id"}),
    "anything is a programme": (
        questions(lambda e: says(201, MADE)(e) if e.asked in (b"{}", b'{"programName":7}') else None),
        {"invalid-body"},
    ),
    "null is refused": (where(b"null", says(400, b'{"title": "no", "status": 400}')), {"explicit-nulls"}),
    "unknown payloads are renamed": (answers(swaps(b"X-CONFORMANCE", b"SIMPLE"), path="/events/"), {"custom-payload"}),
    "the token does not count": (answers(swaps(b'"ven1-client"', b'"somebody"'), path="/vens"), {"client-id"}),
    "another's is shown": (questions(as_bl, path="/vens/"), {"object-privacy"}),
    "all targets are shown": (
        answers(lambda e: swaps(b'-mine"]', b'-mine", "x"]')(e), path="/events", method="GET"), {"targets"},
    ),
    "no ways to be told": (answers(says(200, b"{}"), path="/notifiers"), {"notifiers"}),
    "times are local": (answers(no_zone), {"timestamps"}),
    "refusals are words": (answers(plain_errors), {"problems"}),
    "JSON is called text": (answers(html), {"json"}),
    "no number is a number": (
        answers(swaps(b'"programName":', b'"x":NaN,"programName":'), path="/programs", method="GET"), {"json"},
    ),
    "an event lacks its id": (answers(swaps(b'"id":"', b'"key":"'), path="/events", method="GET"), {"list-events"}),
    "a replaced object is another": (
        answers(swaps(b'"createdDateTime":"20', b'"createdDateTime":"19'), path="/programs/", method="PUT"),
        {"programs"},
    ),
    "what is removed stays": (
        questions(lambda e: says(200, b"{}")(e) if e.method == "DELETE" else None, path="/vens/"), {"vens"},
    ),
}  # fmt: skip
ROLES: dict[str, Any] = {
    role: ClientCredential(f"{name}-client", f"{name} secret+/:%")
    for role, name in (("ven", "ven1"), ("other_ven", "ven2"), ("bl", "bl"))
}


async def test_a_lie_of_a_3_vtn_is_found(module_database_url: str, clock: FixedClock) -> None:
    async with running_vtn3(module_database_url, clock) as vtn, listening(vtn.app) as origin:
        vtn.authority.token_url = "/auth/token"
        event = await vtn.bl.post("/programs", {"programName": "there"})
        await vtn.bl.post("/events", {"programID": event["id"], "intervals": []})
        async with lying_before(origin) as liar:
            url = liar.url + NEW
            vtn.authority.token_url = f"{url}/auth/token"
            under_test = VtnUnderTest(url=url, profile="3.1.0", **ROLES)
            for name, (lie, expected) in LIES_3.items():
                wanted = {"timestamps": {"programs"}, "problems": {"unknown-id"}, "json": {"programs"}}
                needed = expected | set().union(*(wanted.get(each, set()) for each in expected))
                chosen = [each for each in checks_of("3.1.0") if each.name in needed]
                liar.lie = lie
                async with opened3(under_test, clock) as session:
                    results = await run_checks(chosen, session, timeout_s=5)
                failed = {each.name for each in results if each.outcome is Outcome.FAIL}
                assert expected <= failed, (name, results)


async def test_a_callback_that_nobody_challenges_is_found(module_database_url: str, clock: FixedClock) -> None:
    port = free_port()
    async with running_vtn3(module_database_url, clock, callbacks=None) as vtn, listening(vtn.app) as origin:
        vtn.authority.token_url = None  # type: ignore[assignment]
        url = f"http://127.0.0.1:{port}/hook"
        under_test = VtnUnderTest(
            url=origin + NEW, profile="3.1.0", callback_url=url, callback_port=port, **ROLES
        )  # fmt: skip
        chosen = [each for each in checks_of("3.1.0") if each.name == "webhook-challenge"]
        async with opened3(under_test, clock) as session:
            (result,) = await run_checks(chosen, session, timeout_s=5)
        assert result.outcome is Outcome.FAIL
        assert "never asked" in result.sentence


async def test_a_vtn_that_is_not_there_or_never_answers_fails_in_bounded_time(clock: FixedClock) -> None:
    nowhere = VtnUnderTest(url=f"http://127.0.0.1:{free_port()}", profile="2.0b", timeout_s=0.05)
    async with opened2(nowhere, clock) as session:
        results = await run_checks(CHECKS, session, timeout_s=0.05)
    assert {each.outcome for each in results} == {Outcome.FAIL, Outcome.SKIPPED}
    async with opened3(replace(nowhere, profile="3.1.0", **ROLES), clock) as session3:
        results = await run_checks(checks_of("3.1.0"), session3, timeout_s=0.05)
    assert Outcome.PASS not in {each.outcome for each in results}
    async with opened2(nowhere, clock) as session:
        results = await run_checks(CHECKS, session, timeout_s=0.05, within_s=0)
    assert {each.outcome for each in results} == {Outcome.SKIPPED}


async def test_known_failures_of_stock_openleadr_are_failures_and_no_crash(clock: FixedClock) -> None:
    async with stock_vtn() as stock, opened2(VtnUnderTest(url=stock.url, profile="2.0b"), clock) as session:
        results = {each.name: each for each in await run_checks(CHECKS, session, timeout_s=5)}
    failed = {name for name, each in results.items() if each.outcome is Outcome.FAIL}
    assert {"create-opt", "cancel-opt-unknown", "created-event-unknown", "request-event"} <= failed
    assert "HTTP 404" in results["create-opt"].sentence
    assert "HTTP 500" in results["created-event-unknown"].sentence
    passed = {name for name, each in results.items() if each.outcome is Outcome.PASS}
    assert {"query", "register", "register-again", "poll", "register-report", "valid", "schema-version"} <= passed
    assert not any("could not be judged" in each.sentence for each in results.values())


def below(prefix: str) -> Lie:
    def change(exchange: Exchange) -> None:
        exchange.path = prefix + exchange.path

    return questions(change)


async def test_the_profile_is_told_by_the_address_or_found_out_by_asking(
    store: Store, module_database_url: str, clock: FixedClock
) -> None:
    async with running_vtn(store, clock) as vtn, lying_before(vtn.url.removesuffix(PREFIX)) as liar:
        for path, profile in (("/openadr3/3.0.1/", "3.0.1"), ("/OpenADR2/Simple/2.0b", "2.0b")):
            assert (await with_profile(VtnUnderTest(url=liar.url + path, profile=""))).profile == profile
        liar.lie = below(PREFIX)
        assert (await with_profile(VtnUnderTest(url=liar.url, profile=""))).profile == "2.0b"
        liar.lie = below("/nothing")
        with pytest.raises(NotReady, match="--profile"):
            await with_profile(VtnUnderTest(url=liar.url, profile=""))
    async with (
        running_vtn3(module_database_url, clock) as vtn3,
        listening(vtn3.app) as origin,
        lying_before(origin) as liar,
    ):
        for prefix, profile in ((NEW, "3.1.0"), (OLD, "3.0.1")):
            liar.lie = below(prefix)
            assert (await with_profile(VtnUnderTest(url=liar.url, profile=""))).profile == profile


@contextmanager
def _no_vtn() -> Iterator[str]:
    """An HTTP server that knows no request."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Nothing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


class _Nothing(BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_the_command_exits_0_only_if_nothing_failed_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    nowhere = ["conformance", "openadr", "--vtn", f"http://127.0.0.1:{free_port()}", "--timeout", "0.5"]
    for profile in ([], ["--profile", "2.0b"], ["--profile", "3.1.0"]):
        assert run([*nowhere, *profile]) == 1
        assert "nothing listens at" in capsys.readouterr().err
    assert run([*nowhere, "--profile", "2.0a"]) == 1
    assert "--profile" in capsys.readouterr().err
    assert run(["conformance", "openadr", "--vtn", "vtn.example/openadr3/3.1.0"]) == 1
    assert "https://" in capsys.readouterr().err
    with _no_vtn() as url:
        wanted = ["conformance", "openadr", "--vtn", url, "--profile", "3.1.0"]
        assert run(wanted) == 1
        lines = capsys.readouterr().out.splitlines()
        assert run([*wanted, "--json", str(tmp_path / "out.json")]) == 1
    assert lines[0] == f"39 checks of OpenADR 3.1.0 at {url}"
    assert any(line.split()[:2] == ["fail", "auth-server"] for line in lines)
    assert any(line.strip().startswith("asked for by") for line in lines)
    assert re.fullmatch(r"0 passed, \d+ failed, \d+ skipped", lines[-1])
    assert max(map(len, lines)) <= 80
    written = json.loads((tmp_path / "out.json").read_text())
    assert (written["profile"], written["passed"]) == ("3.1.0", 0)
    assert written["failed"] + written["skipped"] == len(written["checks"]) > 25
    assert run([*wanted, "--client-id", "a"]) == 1
    assert "VEN_CLIENT_SECRET" in capsys.readouterr().err
