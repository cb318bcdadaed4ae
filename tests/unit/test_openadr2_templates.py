"""One event told to many VENs: rendered once, stamped for each, the same text as written in full."""

import time

import pytest

from market.openadr2.codec import (
    EventTemplate,
    MemoryReplayGuard,
    Signer,
    TemplateCache,
    Verifier,
    decode,
    encode,
    render_distribution,
)
from tests.builders_openadr2 import StandingClock, distribution, grid_event, key_pair, series
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import EventStatus, GridEvent, SeriesType, Target, TargetKind

VENS = tuple(Target(TargetKind.VEN, f"ven{n}") for n in range(3))
GROUP = Target(TargetKind.GROUP, "west")


def _long_event() -> GridEvent:
    power = series(
        *(float(n) for n in range(96)), name="LOAD_DISPATCH/setpoint", type_=SeriesType.DISPATCH_SETPOINT, unit="KW"
    )
    return grid_event(power, event_id="E96", targets=(GROUP, *VENS))


def _read(body: bytes) -> m.DistributeEvents:
    message = decode(body, lenient=False).message
    assert isinstance(message, m.DistributeEvents)
    return message


def test_a_stamped_distribution_is_the_text_written_in_full() -> None:
    events = grid_event(), _long_event()
    whole = distribution(*events, status=EventStatus.NEAR)
    cache = TemplateCache()
    for _ in range(2):  # made, then remembered
        templates = [cache.get(told) for told in whole.events]
        stamped = render_distribution(templates, request_id="d1", vtn_id="VTN1")
        assert stamped == encode(whole) == cache.encode(whole)


def test_a_ven_is_told_of_no_other_ven() -> None:
    template = EventTemplate.of(m.DistributedEvent(event=_long_event(), status=EventStatus.FAR))
    body = render_distribution([template], request_id="d1", vtn_id="VTN1", ven_id="ven1")
    assert _read(body).events[0].event.targets == (GROUP, VENS[1])
    to_all = EventTemplate.of(m.DistributedEvent(event=grid_event(), status=EventStatus.FAR))
    body = render_distribution([to_all], request_id="d1", vtn_id="VTN1", ven_id="ven1")
    assert _read(body).events[0].event.targets == ()


def test_targets_set_for_a_receiver_are_told_instead_of_the_events_own() -> None:
    cache, event = TemplateCache(), _long_event()
    for ven in VENS:
        told = m.DistributedEvent(event=event, status=EventStatus.FAR, targets=(ven,))
        message = m.DistributeEvents(request_id=ven.value, vtn_id="VTN1", events=(told,))
        assert _read(cache.encode(message)).events[0].event.targets == (ven,)
        assert cache.encode(message) == encode(message)


def test_each_ven_gets_its_own_request_id_and_answer() -> None:
    template = EventTemplate.of(m.DistributedEvent(event=grid_event(), status=EventStatus.FAR))
    answer = m.Response(200, "OK", "asked")
    read = _read(render_distribution([template], request_id="d<2>", vtn_id="VTN1", response=answer))
    assert (read.request_id, read.response, read.vtn_id) == ("d<2>", answer, "VTN1")


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_a_stamped_distribution_is_signed_as_a_whole(kind: str) -> None:
    signer = Signer(*key_pair(kind, "us"), clock=StandingClock())
    template = EventTemplate.of(m.DistributedEvent(event=_long_event(), status=EventStatus.FAR))
    verifier = Verifier(MemoryReplayGuard(), StandingClock(), fingerprints=[signer.fingerprint])
    bodies = [
        render_distribution([template], request_id=f"d{n}", vtn_id="VTN1", ven_id=f"ven{n}", signer=signer)
        for n in range(3)
    ]
    assert len(set(bodies)) == 3
    for n, body in enumerate(bodies):
        message = decode(body, verify=verifier, lenient=False).message
        assert isinstance(message, m.DistributeEvents)
        assert message.events[0].event.targets == (GROUP, VENS[n])


def test_another_version_status_or_namesake_is_another_template() -> None:
    cache = TemplateCache()

    def get(status: EventStatus = EventStatus.FAR, **changes: object) -> EventTemplate:
        return cache.get(m.DistributedEvent(event=grid_event(**changes), status=status))

    first = get()
    assert get() is first
    assert get(EventStatus.NEAR) is not first
    assert get(modification_number=1) is not first
    assert get() is first
    assert "elsewhere" in get(program="elsewhere").stamped()
    assert "a remark" in get(comment="a remark").stamped()
    assert get().stamped() == first.stamped()


def test_the_cache_forgets_the_longest_unused() -> None:
    cache = TemplateCache(max_entries=2)
    told = [m.DistributedEvent(event=grid_event(event_id=str(n)), status=EventStatus.FAR) for n in range(3)]
    first, second = cache.get(told[0]), cache.get(told[1])
    assert cache.get(told[0]) is first
    cache.get(told[2])
    assert cache.get(told[0]) is first
    assert cache.get(told[1]) is not second


def test_an_event_that_cannot_be_said_makes_no_template() -> None:
    cache = TemplateCache()
    told = m.DistributedEvent(event=grid_event(series(1.0, type_=SeriesType.GHG, name="GHG")), status=EventStatus.FAR)
    for _ in range(2):
        with pytest.raises(InvalidRequest):
            cache.get(told)


def test_stamping_costs_a_small_part_of_writing() -> None:
    """5,000 VENs are told of 96 intervals in about a second of work, where writing each in full takes many."""
    whole = distribution(_long_event())
    cache = TemplateCache()
    cache.encode(whole)

    def cost_s(times: int, write: object) -> float:
        began_s = time.process_time()
        for _ in range(times):
            write(whole)  # type: ignore[operator]
        return (time.process_time() - began_s) / times

    in_full_s, stamped_s = cost_s(20, encode), cost_s(200, cache.encode)
    assert stamped_s < in_full_s / 4
    assert stamped_s < 0.001
