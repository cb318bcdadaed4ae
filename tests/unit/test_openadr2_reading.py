"""The VTN reads a poll that comes again only once, and nothing else."""

from datetime import timedelta

import pytest

from market.openadr2.codec import Limits, MemoryReplayGuard, Refused, Signer, Verifier, encode
from market.openadr2.reading import Reader
from tests.builders_vtn2_certs import party
from tests.clock import NOON, FixedClock
from vpp.domain.openadr2 import Poll, QueryRegistration


def a_reader(**options: int) -> Reader:
    return Reader(Verifier(MemoryReplayGuard(), FixedClock(NOON), required=False), Limits(), **options)


def test_a_poll_that_comes_again_is_the_one_that_was_read() -> None:
    reader, body = a_reader(), encode(Poll(ven_id="VEN-1"))
    assert reader.read(body) is reader.read(bytes(body))
    assert reader.read(encode(Poll(ven_id="VEN-2"))).message == Poll(ven_id="VEN-2")
    assert reader.remembered == 2


def test_polls_are_forgotten_before_they_fill_memory() -> None:
    reader = a_reader(max_polls=3)
    for number in range(9):
        reader.read(encode(Poll(ven_id=f"VEN-{number}")))
    assert reader.remembered == 3


def test_other_messages_and_broken_ones_are_read_each_time() -> None:
    reader = a_reader()
    reader.read(encode(QueryRegistration(request_id="q")))
    with pytest.raises(Refused):
        reader.read(b"<oadrPoll/>")
    assert reader.remembered == 0


def test_a_signed_poll_is_taken_once() -> None:
    clock, reader = FixedClock(NOON), a_reader()
    signer: Signer = party("ven").signer(clock)
    body = encode(Poll(ven_id="VEN-1"), signer=signer)
    assert reader.read(body).signed_by == signer.fingerprint
    with pytest.raises(Refused, match="received before"):
        reader.read(body)
    clock.advance(timedelta(seconds=1))
    assert reader.read(encode(Poll(ven_id="VEN-1"), signer=signer)).signed_by == signer.fingerprint
    assert reader.remembered == 0
