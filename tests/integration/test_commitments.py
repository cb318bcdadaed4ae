"""A signal becomes a commitment once, however often and in whatever order it is told."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.clock import FixedClock
from vpp.commitments import Decision, advance, load, receive
from vpp.domain.commitment import Commitment, CommitmentState
from vpp.domain.errors import Conflict, InvalidRequest
from vpp.domain.settlement import EventDelivery, MonthlyPay, ProgramTerms
from vpp.domain.signal import EventSignal, SignalInterval, SignalKind
from vpp.domain.time import Interval
from vpp.store.engine import Store
from vpp.store.tables.accounts import tenant
from vpp.store.tables.commitments import commitment as commitments
from vpp.store.tables.commitments import commitment_target

START_AT = datetime(2026, 8, 19, 23, tzinfo=UTC)
HOUR = timedelta(hours=1)
TERMS = ProgramTerms(program="plain", nominated_kw=Decimal(1000))


class PlainProgram:
    """A programme without rules: a level is so many tenths of what is nominated."""

    name = title = "plain"
    measurement = "submeter"

    def refuse_reason(self, window: Interval, time_zone: str, terms: ProgramTerms) -> str | None:
        return None if window.duration <= timedelta(hours=5) else "longer than 5 h"

    def kw_of_level(self, level: float, terms: ProgramTerms) -> float:
        return level / 10 * float(terms.nominated_kw)

    def monthly_pay(self, month: date, events: Sequence[EventDelivery], terms: ProgramTerms) -> MonthlyPay:
        return MonthlyPay(program=self.name, month=month, currency="USD", performance_factor=None, lines=())


def a_signal(*values: float, number: int = 0, start_at: datetime = START_AT, **changes: object) -> EventSignal:
    parts = tuple(
        SignalInterval(Interval(start_at + i * HOUR, start_at + (i + 1) * HOUR), v) for i, v in enumerate(values)
    )
    base = EventSignal(
        source="openadr2:utility",
        external_id="event-1",
        modification_number=number,
        program="plain",
        kind=SignalKind.POWER_KW,
        intervals=parts,
    )
    return replace(base, **changes)


def fleet_of(kw: float):  # type: ignore[no-untyped-def]
    async def decide(connection: AsyncConnection, commitment: Commitment) -> Decision:
        most = max(t.target_kw for t in commitment.targets)
        return Decision(True) if most <= kw else Decision(False, f"needs {most:g} kW, fleet holds {kw:g} kW")

    return decide


async def take(
    store: Store,
    clock: FixedClock,
    signal: EventSignal,
    *,
    fleet_kw: float = 1000,
    offset_s: float = 0,
    tenant_id: str = "acme",
) -> Commitment:
    async with store.begin() as connection:
        if not (await connection.execute(select(tenant.c.id))).first():
            await connection.execute(insert(tenant).values(id="acme", name="Acme"))
        return await receive(
            connection,
            signal,
            tenant_id=tenant_id,
            program=PlainProgram(),
            terms=TERMS,
            draw_offset_s=lambda _: offset_s,
            decide=fleet_of(fleet_kw),
            clock=clock,
        )


async def activate(store: Store, commitment: Commitment, at: datetime) -> Commitment:
    active = replace(commitment, state=CommitmentState.ACTIVE, revision=commitment.revision + 1, next_due_at=at)
    async with store.begin() as connection:
        await advance(connection, commitment, active, at=at, what="event begins")
    return active


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(START_AT - 3 * HOUR)


async def test_an_event_the_fleet_covers_is_accepted_and_due_at_its_start(store: Store, clock: FixedClock) -> None:
    taken = await take(store, clock, a_signal(800, 900))
    assert (taken.state, taken.opt_in, taken.next_due_at) == (CommitmentState.ACCEPTED, True, START_AT)
    assert taken.energy_kwh() == 1700


async def test_an_event_beyond_the_fleet_is_declined_with_the_reason(store: Store, clock: FixedClock) -> None:
    """Holds conventions, rule 8."""
    taken = await take(store, clock, a_signal(1200))
    assert (taken.state, taken.opt_in) == (CommitmentState.DECLINED, False)
    assert taken.opt_reason == "needs 1200 kW, fleet holds 1000 kW"
    assert taken.next_due_at is None


async def test_an_event_outside_the_programmes_rules_is_declined_by_them(store: Store, clock: FixedClock) -> None:
    assert (await take(store, clock, a_signal(*[10.0] * 6))).opt_reason == "longer than 5 h"


async def test_a_version_told_again_changes_nothing(store: Store, clock: FixedClock) -> None:
    """Holds conventions, rule 12."""
    first = await take(store, clock, a_signal(800))
    again = await take(store, clock, a_signal(800), fleet_kw=0)
    assert again == first
    async with store.begin() as connection:
        assert (await connection.execute(select(func.count()).select_from(commitments))).scalar() == 1


async def test_an_event_is_not_taken_for_that_of_another_tenant(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(500))
    with pytest.raises(Conflict, match="another tenant's"):
        await take(store, clock, a_signal(400, number=1), tenant_id="other")


async def test_an_older_modification_is_ignored(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(800, number=3))
    late = await take(store, clock, a_signal(100, number=2))
    assert (late.modification_number, late.targets[0].target_kw) == (3, 800)


async def test_a_simple_level_becomes_the_programmes_power(store: Store, clock: FixedClock) -> None:
    taken = await take(store, clock, a_signal(2, kind=SignalKind.LEVEL))
    assert taken.targets[0].target_kw == 200


async def test_the_random_start_is_drawn_once_and_kept_by_modifications(store: Store, clock: FixedClock) -> None:
    first = await take(store, clock, a_signal(500, start_tolerance_s=600), offset_s=240)
    later = await take(store, clock, a_signal(600, number=1, start_tolerance_s=600), offset_s=17)
    assert first.window.start_at == later.window.start_at == START_AT + timedelta(seconds=240)


async def test_a_modification_before_the_event_is_decided_anew(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(800))
    assert (await take(store, clock, a_signal(2000, number=1))).state is CommitmentState.DECLINED
    assert (await take(store, clock, a_signal(900, number=2))).state is CommitmentState.ACCEPTED


async def test_an_event_that_turns_out_to_be_a_test_before_it_begins_is_one_and_the_reverse(
    store: Store, clock: FixedClock
) -> None:
    await take(store, clock, a_signal(100))
    for number, is_test in ((1, True), (2, False), (3, True)):
        changed = await take(store, clock, a_signal(100, number=number, is_test=is_test))
        async with store.begin() as connection:
            assert (await load(connection, changed.id)).is_test is is_test


async def test_a_modification_during_the_event_holds_from_now_on(store: Store, clock: FixedClock) -> None:
    await activate(store, await take(store, clock, a_signal(800, 800)), START_AT)
    clock.advance(START_AT + HOUR / 2 - clock.now())
    changed = await take(store, clock, a_signal(600, 400, number=1))
    assert [(t.interval.start_at, t.target_kw) for t in changed.targets] == [
        (START_AT, 800),
        (START_AT + HOUR / 2, 600),
        (START_AT + HOUR, 400),
    ]
    assert changed.next_due_at == clock.now()


async def test_a_modification_the_fleet_cannot_cover_leaves_the_accepted_targets(
    store: Store, clock: FixedClock
) -> None:
    active = await activate(store, await take(store, clock, a_signal(800, 800)), START_AT)
    clock.advance(START_AT + HOUR / 2 - clock.now())
    changed = await take(store, clock, a_signal(800, 5000, number=1))
    assert (changed.opt_in, changed.targets) == (False, active.targets)
    async with store.begin() as connection:
        assert (await load(connection, changed.id)).targets == active.targets


async def test_a_cancellation_before_the_event_ends_it(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(800))
    gone = await take(store, clock, a_signal(800, number=1, cancelled=True))
    assert (gone.state, gone.next_due_at) == (CommitmentState.CANCELLED, None)


async def test_a_cancellation_during_the_event_keeps_what_was_owed_until_then(store: Store, clock: FixedClock) -> None:
    await activate(store, await take(store, clock, a_signal(800, 800)), START_AT)
    clock.advance(START_AT + HOUR / 2 - clock.now())
    ended = await take(store, clock, a_signal(800, 800, number=1, cancelled=True))
    assert ended.cancel_requested
    assert (ended.window.end_at, ended.energy_kwh(), ended.next_due_at) == (clock.now(), 400, clock.now())
    assert await take(store, clock, a_signal(800, 800, number=1, cancelled=True)) == ended


async def test_a_cancellation_in_the_instant_of_the_start_owes_nothing(store: Store, clock: FixedClock) -> None:
    await activate(store, await take(store, clock, a_signal(800)), START_AT)
    clock.advance(START_AT - clock.now())
    ended = await take(store, clock, a_signal(800, number=1, cancelled=True))
    assert ended.energy_kwh() == 0


async def test_cancelling_an_event_never_seen_needs_its_intervals(store: Store, clock: FixedClock) -> None:
    with pytest.raises(InvalidRequest, match="intervals"):
        await take(store, clock, a_signal(cancelled=True))
    assert (await take(store, clock, a_signal(800, cancelled=True))).state is CommitmentState.CANCELLED


async def test_every_version_of_the_targets_is_kept(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(800))
    await take(store, clock, a_signal(700, number=1))
    async with store.begin() as connection:
        rows = await connection.execute(
            select(commitment_target.c.target_kw).order_by(commitment_target.c.modification_number)
        )
        assert rows.scalars().all() == [800, 700]


async def test_of_two_who_take_the_same_step_one_is_refused(store: Store, clock: FixedClock) -> None:
    taken = await take(store, clock, a_signal(800))
    await activate(store, taken, START_AT)
    with pytest.raises(Conflict, match="no longer at revision"):
        await activate(store, taken, START_AT)


async def test_a_state_cannot_be_skipped(store: Store, clock: FixedClock) -> None:
    taken = await take(store, clock, a_signal(800))
    with pytest.raises(Conflict, match="cannot go from accepted to settled"):
        async with store.begin() as connection:
            await advance(
                connection, taken, replace(taken, state=CommitmentState.SETTLED), at=START_AT, what="nonsense"
            )


async def test_a_cancelled_event_stated_again_before_its_start_begins_a_new_life(
    store: Store, clock: FixedClock
) -> None:
    first = await take(store, clock, a_signal(800, start_tolerance_s=600), offset_s=240)
    gone = await take(store, clock, a_signal(800, number=1, cancelled=True))
    again = await take(store, clock, a_signal(700, number=2, start_tolerance_s=600), offset_s=17)
    assert (again.life, again.state, again.targets[0].target_kw) == (2, CommitmentState.ACCEPTED, 700)
    assert again.id != first.id
    assert again.window.start_at == first.window.start_at  # the random start of the first life
    async with store.begin() as connection:
        assert (await load(connection, gone.id)).state is CommitmentState.CANCELLED
    assert await take(store, clock, a_signal(700, number=2)) == again


async def test_a_version_that_was_cancelled_does_not_come_to_life_by_being_told_again(
    store: Store, clock: FixedClock
) -> None:
    await take(store, clock, a_signal(800))
    gone = await take(store, clock, a_signal(800, number=1, cancelled=True))
    assert await take(store, clock, a_signal(800, number=1)) == gone
    more = await take(store, clock, a_signal(800, number=3, cancelled=True))
    assert (await take(store, clock, a_signal(800, number=2))).id == more.id


async def test_an_event_listed_again_after_it_was_only_missing_lives_again_by_the_same_number(
    store: Store, clock: FixedClock
) -> None:
    await take(store, clock, a_signal(800, number=4))
    await take(store, clock, a_signal(800, number=4, cancelled=True, withdrawn=True))
    again = await take(store, clock, a_signal(800, number=4))
    assert (again.life, again.state, again.modification_number) == (2, CommitmentState.ACCEPTED, 4)


async def test_a_cancelled_event_stated_again_while_it_runs_is_owed_for_the_rest(
    store: Store, clock: FixedClock
) -> None:
    active = await activate(store, await take(store, clock, a_signal(800, 800)), START_AT)
    clock.advance(START_AT + HOUR / 4 - clock.now())
    ended = await take(store, clock, a_signal(800, 800, number=1, cancelled=True))
    clock.advance(HOUR / 4)
    again = await take(store, clock, a_signal(800, 600, number=2))
    assert (again.life, again.state, again.next_due_at) == (2, CommitmentState.ACCEPTED, clock.now())
    assert [(t.interval.start_at, t.target_kw) for t in again.targets] == [(clock.now(), 800), (START_AT + HOUR, 600)]
    async with store.begin() as connection:  # the first life is what it was: handed back, measured and paid
        assert (await load(connection, active.id)).window == ended.window
    late = await take(store, clock, a_signal(800, 800, number=1, cancelled=True))
    assert late == again  # the cancellation of the first life, told again, does not end the second
    gone = await take(store, clock, a_signal(800, 600, number=3, cancelled=True))
    assert (gone.id, gone.state) == (again.id, CommitmentState.CANCELLED)


async def test_a_cancelled_event_stated_again_after_its_end_stays_cancelled(store: Store, clock: FixedClock) -> None:
    await take(store, clock, a_signal(800))
    await take(store, clock, a_signal(800, number=1, cancelled=True))
    clock.advance(5 * HOUR)
    late = await take(store, clock, a_signal(800, number=2))
    assert (late.life, late.state) == (1, CommitmentState.CANCELLED)


async def test_a_new_life_is_judged_by_the_rules_for_the_whole_event(store: Store, clock: FixedClock) -> None:
    await activate(store, await take(store, clock, a_signal(800, 800)), START_AT)
    clock.advance(START_AT + HOUR - clock.now())
    await take(store, clock, a_signal(800, number=1, cancelled=True))
    again = await take(store, clock, a_signal(*[10.0] * 6, number=2))
    assert (again.state, again.opt_reason) == (CommitmentState.DECLINED, "longer than 5 h")
