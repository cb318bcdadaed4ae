"""Where subscribers may be called back, and the challenge: nothing inside our network is ever connected to."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

from tests.builders_notify import Receiver, certificates, receiver
from vpp.domain.errors import InvalidRequest, PeerUnreachable
from vpp.gateway.notify import AddressRules, CallbackChallenge, CallbackClient, CallbackGuard

ON_LOOPBACK = AddressRules(http_on_loopback=True)


class Names:
    """A resolver that gives one list of addresses after the other, the last one for ever."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers, self.asked = list(answers), 0

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked += 1
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]


@pytest.fixture
async def there() -> AsyncIterator[Receiver]:
    async with receiver() as made:
        yield made


def challenge(*, rules: AddressRules = ON_LOOPBACK, names: Names | None = None, **more: object) -> CallbackChallenge:
    return CallbackChallenge(CallbackClient(CallbackGuard(rules, resolve=names), **more))  # type: ignore[arg-type]


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: no callbacks into private networks")
@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "168.63.129.16",
        "169.254.169.254", "172.16.0.1", "172.31.255.255", "192.0.0.192", "192.0.2.1", "192.168.1.1", "198.18.0.1",
        "198.51.100.7", "203.0.113.9", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
        "::", "::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a00:1",
        "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "100::1", "2001::1", "2001:db8::1", "2002:7f00:1::", "3fff::1",
        "fc00::1", "fd00:ec2::254", "fd20:ce::254", "fe80::1", "fe80::1%eth0", "fec0::1", "ff02::1",
    ],
)  # fmt: skip
async def test_an_address_that_is_not_public_is_refused_by_number_and_by_name(address: str) -> None:
    guard = CallbackGuard(AddressRules(), resolve=Names(["93.184.216.34", address]))
    with pytest.raises(InvalidRequest, match="public addresses only"):
        await guard.destination("https://ven.example.com/callback")
    literal = f"[{address}]" if ":" in address else address
    with pytest.raises(InvalidRequest, match="callbackUrl"):
        await guard.destination(f"https://{literal}/callback")


@pytest.mark.parametrize("address", ["8.8.8.8", "93.184.216.34", "172.15.0.1", "172.32.0.1", "100.128.0.1",
                                     "2606:4700::1111", "64:ff9b::808:808"])  # fmt: skip
async def test_a_public_address_is_allowed(address: str) -> None:
    guard = CallbackGuard(AddressRules(), resolve=Names([address]))
    assert (await guard.destination("https://ven.example.com/callback")).addresses == (address,)


def test_what_python_knows_to_be_special_is_refused() -> None:
    rules = AddressRules()
    for text in ("10.9.9.9", "127.1.2.3", "169.254.1.1", "192.168.9.9", "fd12::1", "fe80::2", "ff0e::1"):
        assert not ip_address(text).is_global or ip_address(text).is_multicast
        assert rules.refusal(ip_address(text)) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://ven.example.com/", "ftp://ven.example.com/", "https:///nowhere", "ven.example.com", "", "https://",
        "https://user:word@ven.example.com/", "https://ven.example.com/#part", "https://ven.example.com:22/",
        "https://ven.example.com:25/", "https://ven.example.com:70000/", "https://[fe80::1%25eth0]/",
        "https://ven.example.com/\r\nHost: inside", "https://ven.example.com\\@10.0.0.1/", "https://ven.example.com /",
        "https://ven.example.com/" + "x" * 8000, "javascript:alert(1)", "file:///etc/passwd",
    ],
)  # fmt: skip
async def test_what_is_no_https_address_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="callbackUrl"):
        await CallbackGuard(AddressRules(), resolve=Names(["8.8.8.8"])).destination(url)


@pytest.mark.parametrize("url", ["https://127.1/", "https://2130706433/", "https://0x7f.0.0.1/", "https://localhost/"])
async def test_other_spellings_of_this_machine_are_refused_after_the_systems_own_resolver(url: str) -> None:
    with pytest.raises(InvalidRequest, match="callbackUrl"):
        await CallbackGuard(AddressRules()).destination(url)


async def test_a_listed_private_network_is_allowed_also_as_mapped_address_and_its_neighbour_is_not() -> None:
    rules = AddressRules(private_networks=(ip_network("10.20.0.0/16"),))
    for address in ("10.20.1.1", "::ffff:10.20.1.1"):
        guard = CallbackGuard(rules, resolve=Names([address]))
        assert (await guard.destination("https://ven.example.com/")).addresses == (address,)
        with pytest.raises(InvalidRequest, match="an https address"):
            await guard.destination("http://ven.example.com/")
    with pytest.raises(InvalidRequest, match="public addresses only"):
        await CallbackGuard(rules, resolve=Names(["10.21.0.1"])).destination("https://ven.example.com/")


async def test_plain_http_leads_to_this_machine_only_where_that_is_allowed(there: Receiver) -> None:
    await challenge().check(there.url)
    with pytest.raises(InvalidRequest, match="an https address"):
        await challenge(rules=AddressRules()).check(there.url)
    with pytest.raises(InvalidRequest, match="an https address"):
        await challenge(names=Names(["8.8.8.8"])).check("http://ven.example.com/callback")


async def test_a_name_that_changes_its_mind_leads_only_to_the_address_that_was_checked(there: Receiver) -> None:
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    await challenge(names=names).check(there.url.replace("127.0.0.1", "ven.example.com"))
    assert names.asked == 1
    assert there.requests[-1].host == f"ven.example.com:{there.port}"


async def test_the_certificate_must_be_the_named_hosts_though_the_connection_goes_to_a_number(tmp_path: Path) -> None:
    made = certificates(tmp_path, "ven.example.com")
    trusted = ssl.create_default_context(cafile=str(made.ca))
    async with receiver(tls=made.server()) as there:
        names = Names(["127.0.0.1"])
        await challenge(names=names, tls=trusted).check(f"https://ven.example.com:{there.port}/callback")
        assert there.requests[-1].server_name == "ven.example.com"
        with pytest.raises(InvalidRequest, match="answers"):
            await challenge(names=names, tls=trusted).check(f"https://other.example.com:{there.port}/callback")
        with pytest.raises(InvalidRequest, match="answers"):
            await challenge(names=names).check(f"https://ven.example.com:{there.port}/callback")


@pytest.mark.conformance("3.1.0", "subscriptions", "VTN: callback challenge")
@pytest.mark.parametrize("form", ["{}", '"{}"', '{{"echo": "{}"}}', "\n{}\n"])
async def test_the_challenge_is_met_by_saying_the_same_text(there: Receiver, form: str) -> None:
    there.echo_form = form
    await challenge().check(there.url + "?key=a%20b", bearer_token="word")
    asked = there.requests[-1]
    assert asked.method == "GET"
    assert asked.query["key"] == "a b"
    assert asked.headers["authorization"] == "Bearer word"
    first = asked.query["echo"]
    await challenge().check(there.url)
    assert there.requests[-1].query["echo"] != first
    assert len(first) >= 20


@pytest.mark.parametrize("form", ["", "not {}", '{{"other": ["{}"]}}', "[" * 4096, "\ufffd", '"\\ud800"'])
async def test_another_text_does_not_meet_the_challenge(there: Receiver, form: str) -> None:
    there.echo_form = form
    with pytest.raises(InvalidRequest, match="that very text"):
        await challenge().check(there.url)


@pytest.mark.parametrize("status", [201, 204, 301, 302, 307, 401, 404, 500])
async def test_only_status_200_meets_the_challenge_and_no_redirect_is_followed(there: Receiver, status: int) -> None:
    there.answers = [status]
    with pytest.raises(InvalidRequest, match=f"not {status}"):
        await challenge().check(there.url)
    assert len(there.requests) == 1


async def test_a_server_that_takes_too_long_is_given_up_whether_it_is_silent_or_dribbles(there: Receiver) -> None:
    for there.behaviour in ("silent", "dribble"):
        before = asyncio.get_running_loop().time()
        with pytest.raises(InvalidRequest, match=r"no answer within 0\.2 s"):
            await challenge(deadline_s=0.2).check(there.url)
        assert asyncio.get_running_loop().time() - before < 1.0


async def test_an_endless_answer_is_read_only_at_its_beginning(there: Receiver) -> None:
    there.behaviour = "endless"
    client = CallbackClient(CallbackGuard(ON_LOOPBACK), deadline_s=5)
    answer = await client.send("GET", there.url, headers={})
    assert len(answer.body) == 4096
    await client.close()


async def test_the_next_address_is_tried_where_nobody_listens_at_the_first(there: Receiver) -> None:
    url = there.url.replace("127.0.0.1", "ven.example.com")
    await challenge(names=Names(["127.0.0.9", "127.0.0.1"])).check(url)
    client = CallbackClient(CallbackGuard(ON_LOOPBACK, resolve=Names(["127.0.0.9"])))
    with pytest.raises(PeerUnreachable, match="Connect"):
        await client.send("POST", url, headers={})
    await client.close()


async def test_no_proxy_of_the_environment_comes_between(there: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    await challenge().check(there.url)
