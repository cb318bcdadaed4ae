"""`vpp conformance openadr` passes against our own two VTNs, over real sockets, and leaves nothing behind."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from market.openadr2.tls import server_context
from tests.builders_processes import free_port
from tests.builders_vtn2 import VTN_ID, add_ven, an_event, own_database, running_vtn, swept_store, tell
from tests.builders_vtn2_certs import authority, party
from tests.builders_vtn3 import NEW, OLD, listening
from tests.builders_vtn3 import running_vtn as running_vtn3
from tests.clock import FixedClock
from vpp.bootstrap.conformance import check_vtn, with_profile
from vpp.clock import SystemClock
from vpp.domain.conformance import CheckResult, ClientCredential, Outcome, VtnUnderTest
from vpp.domain.openadr3 import ObjectKind, ObjectQuery
from vpp.gateway.notify import AddressRules, CallbackChallenge, CallbackClient, CallbackGuard
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store


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


def not_passed(results: list[CheckResult]) -> dict[str, str]:
    return {each.name: f"{each.outcome}: {each.sentence}" for each in results if each.outcome is not Outcome.PASS}


async def checked(clock: FixedClock, **given: Any) -> list[CheckResult]:
    return await check_vtn(await with_profile(VtnUnderTest(**({"profile": ""} | given))), clock)


@pytest.mark.conformance("2.0b", "all services", "VTN: every check of `vpp conformance openadr`, signed, over TLS")
async def test_every_check_of_2_0b_passes_signed_and_over_tls(store: Store, clock: FixedClock, tmp_path: Path) -> None:
    mine = party("conformance", "rsa")
    await add_ven(store, clock, "conformance", fingerprint=mine.fingerprint)
    for number in range(2):
        await tell(store, clock, an_event(f"e{number}", clock.now(), 5.0))
    cert, key = mine.write(tmp_path, "ven")
    (tmp_path / "ca.crt").write_bytes(authority())
    server = party("vtn", "rsa").write(tmp_path, "vtn")
    tls = server_context(*server, tmp_path / "ca.crt", require_client=True)
    signer = party("vtn", "rsa").signer(clock)
    async with running_vtn(store, clock, tls=tls, signer=signer, must_show_certificate=True) as vtn:
        results = await checked(
            clock, url=vtn.url, cert=cert, key=key, ca=tmp_path / "ca.crt", sign=True, hostile=True
        )  # fmt: skip
        assert not_passed(results) == {}
        assert len(results) > 25
        (ven,) = vtn.desk.room.view.vens.values()
        assert not ven.is_registered
        assert all(each.requirement and each.sentence for each in results)


async def test_unsigned_and_without_events_what_cannot_be_shown_is_skipped(store: Store, clock: FixedClock) -> None:
    await add_ven(store, clock, "conformance")
    async with running_vtn(store, clock) as vtn:
        results = await checked(clock, url=vtn.url)
    skipped = {"tls", "signature", "reply-limit", "modification-number", "document-type"}
    assert not_passed(results).keys() == skipped
    assert {each.outcome for each in results} == {Outcome.PASS, Outcome.SKIPPED}
    assert next(each for each in results if each.name == "query").sentence.startswith(f"vtnID {VTN_ID}")


async def test_who_may_not_register_learns_that_and_the_rest_is_skipped(store: Store, clock: FixedClock) -> None:
    async with running_vtn(store, clock) as vtn:
        results = {each.name: each for each in await checked(clock, url=vtn.url, ven_name="nobody")}
    assert results["register"].outcome is Outcome.FAIL
    assert "463" in results["register"].sentence
    assert results["poll"].outcome is Outcome.SKIPPED
    assert "463" in results["poll"].sentence


def credential(name: str) -> ClientCredential:
    return ClientCredential(f"{name}-client", f"{name} secret+/:%")


ROLES = {"ven": credential("ven1"), "other_ven": credential("ven2"), "bl": credential("bl")}


@pytest.mark.conformance("3.x", "all objects", "VTN: every check of `vpp conformance openadr`, in both versions")
@pytest.mark.parametrize("base", [NEW, OLD], ids=["3.1.0", "3.0.1"])
async def test_every_check_of_3_passes(module_database_url: str, clock: FixedClock, base: str) -> None:
    port = free_port()
    client = CallbackClient(CallbackGuard(AddressRules(http_on_loopback=True)))
    async with running_vtn3(module_database_url, clock, callbacks=CallbackChallenge(client)) as vtn:
        vtn.authority.token_url = None  # type: ignore[assignment]
        async with listening(vtn.app) as origin:
            url = f"{origin}{base}"
            callback = f"http://127.0.0.1:{port}/hook"
            results = await checked(clock, url=url, callback_url=callback, callback_port=port, **ROLES)
            assert not_passed(results) == {}
            assert len(results) > 25
            left = {
                kind: await vtn.shelf.select(ObjectQuery(kind=kind, tenant_id=vtn.tenant, limit=50))
                for kind in ObjectKind
            }
            assert not any(left.values()), "nothing of the harness is left"
    await client.close()
