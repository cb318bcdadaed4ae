"""Our OpenADR 2.0b VTN where two things happen at once, and where somebody speaks who has no right to."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from tests.builders_vtn2 import Vtn, add_ven, own_database, raw_ven, running_vtn, swept_store
from tests.clock import FixedClock
from vpp.domain.openadr2 import NOT_REGISTERED, CancelRegistration, CreateRegistration
from vpp.store.embedded import ServerUrls
from vpp.store.engine import Store


@pytest.fixture(scope="module")
def shared_url(servers: ServerUrls, template_database: str) -> Iterator[str]:
    yield from own_database(servers, template_database)


@pytest.fixture
async def store(shared_url: str, redis_url: str) -> AsyncIterator[Store]:
    async with swept_store(shared_url, redis_url) as made:
        yield made


@pytest.fixture
async def vtn(store: Store, clock: FixedClock) -> AsyncIterator[Vtn]:
    async with running_vtn(store, clock) as made:
        yield made


async def test_a_ven_that_registers_twice_at_once_is_told_the_same_ids_twice(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    await add_ven(store, clock, "ven-1")
    async with raw_ven(vtn.url, "ven-1", register=False) as ven:
        say = [ven.say("EiRegisterParty", CreateRegistration(request_id=f"r{n}", ven_name="ven-1")) for n in range(6)]
        answers = await asyncio.gather(*say)
    assert {answer.response.code for answer in answers} == {200}
    assert len({answer.registration_id for answer in answers}) == 1


async def test_a_ven_that_signs_cannot_be_signed_off_without_its_signature(
    store: Store, clock: FixedClock, vtn: Vtn
) -> None:
    peer = await add_ven(store, clock, "ven-1")
    async with raw_ven(vtn.url, "ven-1") as ven:
        await ven.register(xml_signature=True)
        registration_id = ven.registration_id
        answer = await ven.say(
            "EiRegisterParty", CancelRegistration(request_id="c", registration_id=registration_id, ven_id=None)
        )
    assert answer.response.code == NOT_REGISTERED
    assert vtn.desk.room.view.vens[peer.id].is_registered
