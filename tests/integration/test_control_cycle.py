"""One control cycle at a time over batteries in memory, PostgreSQL and Valkey as they are."""

from dataclasses import replace
from datetime import timedelta

import pytest
from sqlalchemy import update

from tests.builders import some_targets
from tests.builders_dispatch import CYCLE, a_world, unreachable
from vpp.commitments.records import create
from vpp.dispatch import hand_back, run_cycle
from vpp.dispatch.fleet import call_fleet
from vpp.domain.commitment import CommitmentState
from vpp.domain.device import ReceiptState
from vpp.domain.errors import (
    AuthFailed,
    Busy,
    DeviceError,
    NotApplied,
    OutOfRange,
    ProtocolError,
    RateLimited,
    Rejected,
    TimedOut,
    Unsupported,
)
from vpp.enrolment import set_reserve
from vpp.store.engine import Store
from vpp.store.tables.commitments import commitment as commitments

MINUTE = timedelta(minutes=1)
START_AT = some_targets(1)[0].interval.start_at
FAILED, UNKNOWN = ReceiptState.FAILED.value, ReceiptState.UNKNOWN.value
EVERY_ERROR = [
    unreachable(),
    TimedOut("no answer", sent=False),
    RateLimited("too often"),
    AuthFailed("token expired"),
    Rejected("no"),
    OutOfRange("too much"),
    NotApplied("reads back otherwise"),
    Busy("storm watch"),
    Unsupported("cannot"),
    ProtocolError("gibberish"),
]


async def test_the_fleet_meets_the_target_within_every_sites_limits(store: Store) -> None:
    world = await a_world(store, 15, setpoint=4, mode=2)
    for outcome in await world.play(4):
        assert 15 <= outcome.planned_kw <= 15 * 1.06
    for row in await world.commands():
        battery = world.site(row.site_id).battery
        assert 0 <= row.power_kw <= battery.max_discharge_kw + 1e-9
    assert 15 <= world.delivered_kw() <= 15 * 1.06


async def test_no_site_is_written_to_before_its_own_settings_are_stored(store: Store) -> None:
    world = await a_world(store, 15, setpoint=4, mode=2)
    stored_at_write: dict[str, object] = {}

    async def look(call) -> None:  # type: ignore[no-untyped-def]
        if call.what == "apply":
            owed = await world.handbacks()
            stored_at_write[call.site_id] = owed[call.site_id].native if call.site_id in owed else None

    world.kw.before = world.modes.before = look
    await world.play(2)
    assert len(stored_at_write) >= 4
    assert set(map(str, stored_at_write.values())) == {str({"mode": "self_consumption", "reserve": 0.2})}
    calls = [(c.what, c.site_id) for c in world.kw.calls + world.modes.calls]
    for _, site_id in [c for c in calls if c[0] == "apply"]:
        assert calls.index(("save_native", site_id)) < calls.index(("apply", site_id))
    assert len(set(calls)) == len([c for c in calls if c[0] != "apply"]) + len({c for c in calls if c[0] == "apply"})


async def test_settings_that_cannot_be_read_keep_a_site_from_being_written_to(store: Store) -> None:
    world = await a_world(store, 15, setpoint=6)
    world.kw.failures["save_native", "site-002"] = unreachable()
    outcome = await world.cycle()
    assert outcome.failed == 1
    assert world.kw.applied("site-002") == []
    assert [row.state for row in await world.commands("site-002")] == [FAILED]
    assert "site-002" not in await world.handbacks()


async def test_a_setpoint_expires_no_later_than_two_cycles_on_and_a_mode_soon_after_the_event(store: Store) -> None:
    world = await a_world(store, 15, setpoint=4, mode=2)
    await world.play(12)
    end_at = world.commitment.window.end_at
    rows = await world.commands()
    assert {world.site(row.site_id).adapter for row in rows} == {"sunspec", "tesla"}
    for row in rows:
        if world.tools.is_mode_site(world.site(row.site_id)):
            assert row.expires_at == end_at + MINUTE
        else:
            assert row.cycle_start_at + CYCLE < row.expires_at <= row.cycle_start_at + 2 * CYCLE
            assert row.expires_at <= end_at + MINUTE


async def test_a_short_first_cycle_leaves_its_commands_a_full_cycle_of_grace(store: Store) -> None:
    """A modification at 16:04:50 makes a cycle of ten seconds; its timers must outlive a late next cycle."""
    start_at = some_targets(1)[0].interval.start_at + timedelta(minutes=4, seconds=50)
    world = await a_world(store, targets=some_targets(15, start_at=start_at))
    await world.cycle()
    assert {row.expires_at for row in await world.commands()} == {start_at + timedelta(seconds=10) + CYCLE}


@pytest.mark.parametrize("error", EVERY_ERROR, ids=lambda error: type(error).__name__)
async def test_a_site_that_fails_is_replaced_in_the_next_cycle(store: Store, error: DeviceError) -> None:
    world = await a_world(store, 12, setpoint=6)
    victim = "site-003"
    world.kw.failures["apply", victim] = error
    first = (await world.play(1))[0]
    assert first.failed == 1
    assert [row.state for row in await world.commands(victim)] == [FAILED]
    second = await world.cycle()
    assert second.planned_kw >= 12
    assert len(await world.commands(victim)) == 1
    assert world.delivered_kw() >= 12


async def test_a_command_that_may_have_arrived_is_unknown_until_proven(store: Store) -> None:
    world = await a_world(store, 12)
    world.kw.failures["apply", "site-001"] = TimedOut("no answer", sent=True)
    await world.play(1)
    row = (await world.commands("site-001"))[0]
    assert (row.state, row.reason) == (UNKNOWN, "TimedOut: no answer")


async def test_a_site_that_failed_rests_for_a_quarter_of_an_hour_and_after_three_times_stays_out(store: Store) -> None:
    world = await a_world(store, 12, 12)
    world.kw.failures["apply", "site-001"] = unreachable()
    await world.play(20)
    tried = [row.cycle_start_at - world.commitment.window.start_at for row in await world.commands("site-001")]
    assert tried == [0 * MINUTE, 15 * MINUTE, 30 * MINUTE]


async def test_a_site_that_recovers_is_called_again_after_its_rest(store: Store) -> None:
    world = await a_world(store, 12, 12)
    world.kw.failures["apply", "site-001"] = unreachable()
    await world.play(1)
    world.kw.failures.clear()
    await world.play(4)
    assert [row.state for row in await world.commands("site-001")][:2] == [FAILED, "effective"]


async def test_a_site_that_says_yes_and_does_nothing_is_found_out_at_its_meter(store: Store) -> None:
    world = await a_world(store, 12)
    world.battery("site-002").obeys = False
    await world.play(1)
    second = await world.cycle()
    assert [(row.state, row.reason) for row in await world.commands("site-002")] == [
        (FAILED, "not effective at the battery's meter")
    ]
    assert second.planned_kw >= 12
    assert world.delivered_kw() >= 12
    assert {row.state for row in await world.commands() if row.site_id != "site-002"} == {"effective", "readback_ok"}


async def test_a_command_is_judged_by_a_reading_taken_after_it_only(store: Store) -> None:
    """Reads and cycles share a rhythm: the newest reading may be older than the last command's effect."""
    world = await a_world(store, 0, 12, at=START_AT + timedelta(minutes=50))
    await world.play(2)
    await world.cycle()
    world.silent = {site.id for site in world.sites}
    world.pass_time()
    assert (await world.cycle()).planned_kw >= 12
    assert {row.state for row in await world.commands() if row.power_kw > 0} == {"readback_ok"}
    world.silent.clear()
    world.clock.advance(timedelta(seconds=2))
    await world.report()
    world.silent = {site.id for site in world.sites}
    world.pass_time(CYCLE - timedelta(seconds=2))
    await world.cycle()
    assert FAILED not in {row.state for row in await world.commands()}


async def test_a_stale_frozen_or_islanded_site_is_not_called(store: Store) -> None:
    world = await a_world(store, 12, setpoint=8)
    await world.play(1)
    world.silent.add("site-001")
    world.frozen["site-002"] = await world.kw.read(world.site("site-002"))
    world.battery("site-003").islanded = True
    outcomes = await world.play(6)
    last = world.clock.now() - 2 * CYCLE
    late = {row.site_id for row in await world.commands() if row.cycle_start_at >= last}
    assert late == {f"site-{n:03}" for n in range(4, 9)}
    assert all(outcome.planned_kw >= 12 for outcome in outcomes)


async def test_an_expired_command_of_a_site_that_fell_silent_is_no_failure(store: Store) -> None:
    world = await a_world(store, 12, 12)
    await world.play(1)
    world.silent.add("site-001")
    await world.play(6)
    world.silent.clear()
    await world.play(2)
    assert FAILED not in {row.state for row in await world.commands("site-001")}
    assert (await world.commands("site-001"))[-1].cycle_start_at == world.clock.now() - CYCLE


async def test_a_reserve_raised_between_plan_and_send_is_what_is_sent(store: Store) -> None:
    world = await a_world(store, 12)

    async def raise_it(call) -> None:  # type: ignore[no-untyped-def]
        if call.what == "save_native" and call.site_id == "site-001":
            world.kw.before = None
            world.kw.failures.clear()
            async with store.begin() as connection:
                await set_reserve(connection, "site-001", 0.5, by="owner", now=world.clock.now())
            raise RuntimeError("kill -9")

    world.kw.before = raise_it
    with pytest.raises(ExceptionGroup):
        await world.cycle()
    await run_cycle(world.tools, world.commitment, world.interval())
    assert [command.reserve_soc for command in world.kw.applied("site-001")] == [0.5]
    assert [row.reserve_soc for row in await world.commands("site-001")] == [0.5]
    await world.play(1)
    floors = {site.id: site.reserve_soc for site in world.sites} | {"site-001": 0.5}
    assert all(command.reserve_soc >= floors[command.site_id] for command in world.kw.applied())


async def test_a_site_owed_to_an_earlier_event_is_not_called_for_a_later_one(store: Store) -> None:
    world = await a_world(store, 12, 12)
    later = replace(
        world.commitment,
        id=type(world.commitment.id)(int=7),
        external_id="event-2",
        targets=some_targets(5, start_at=world.commitment.window.start_at + 10 * MINUTE),
    )
    async with store.begin() as connection:
        await create(connection, later, at=world.clock.now())
    await world.play(2)
    first, world.commitment = world.commitment, later
    outcome = await world.cycle()
    assert (outcome.planned_kw, outcome.sent) == (0, 0)
    async with store.begin() as connection:
        assert (await call_fleet(connection, later, at=world.clock.now())).sites == ()
    world.commitment = first
    assert (await world.cycle()).planned_kw >= 12


async def test_a_site_another_event_has_not_handed_back_yet_is_not_taken_over(store: Store) -> None:
    """Else the settings found would be those of the other event, and be put back at the end of this one."""
    world = await a_world(store, 12)
    await world.play(12)
    first = world.commitment
    world.commitment = replace(
        first, id=type(first.id)(int=7), external_id="event-2", targets=some_targets(12, start_at=world.clock.now())
    )
    async with store.begin() as connection:
        await create(connection, world.commitment, at=world.clock.now())
        await _set_state(connection, first, CommitmentState.RELEASING)
    outcome = await world.cycle()
    assert outcome.sent == 0
    assert await world.handbacks() == {}


async def _set_state(connection, commitment, state) -> None:  # type: ignore[no-untyped-def]
    await connection.execute(update(commitments).where(commitments.c.id == commitment.id).values(state=state.value))


async def test_a_cycle_without_a_word_to_say_still_renews_the_leases(store: Store) -> None:
    """A fleet of modes that all run hears nothing for an hour, and must not look abandoned."""
    world = await a_world(store, 10, setpoint=0, mode=2)
    await world.play(6)
    assert len(world.modes.applied()) == 2
    leases = {row.lease_until for row in (await world.handbacks()).values()}
    assert leases == {world.clock.now() + CYCLE}


async def test_one_site_without_an_adapter_does_not_stop_the_others(store: Store) -> None:
    world = await a_world(store, 12, setpoint=5, mode=1)
    await world.report()
    world.tools = replace(world.tools, adapters={"sunspec": world.kw})
    outcome = await run_cycle(world.tools, world.commitment, world.interval())
    assert (outcome.failed, outcome.planned_kw >= 12) == (1, True)
    assert (await world.commands("site-006"))[0].reason.startswith("Unsupported: site site-006 needs the adapter")


async def test_a_mode_site_is_told_once_and_an_extended_event_tells_it_again(store: Store) -> None:
    world = await a_world(store, 10, 10, setpoint=2, mode=2)
    await world.play(4)
    told = [command.site_id for command in world.modes.applied()]
    assert told
    assert len(told) == len(set(told))
    targets = some_targets(10, 10, 10, start_at=world.commitment.window.start_at)
    world.commitment = replace(world.commitment, targets=targets)
    await world.play(2)
    ends = [command.expires_at for command in world.modes.applied(told[0])]
    assert ends[1:] == [ends[0] + timedelta(hours=1)]


async def test_a_mode_site_dropped_by_the_plan_is_stopped_by_giving_it_back_and_stays_out(store: Store) -> None:
    world = await a_world(store, 15, setpoint=2, mode=2)
    await world.play(2)
    running = {command.site_id for command in world.modes.applied()}
    start_at = world.commitment.window.start_at
    world.commitment = replace(
        world.commitment,
        targets=(
            *some_targets(15, start_at=start_at, step=10 * MINUTE),
            *some_targets(2, start_at=start_at + 10 * MINUTE, step=20 * MINUTE),
            *some_targets(15, start_at=start_at + 30 * MINUTE, step=30 * MINUTE),
        ),
    )
    await world.play(6)
    stopped = [(row.site_id, row.power_kw, row.state) for row in await world.commands(*running) if row.power_kw <= 0]
    assert {site_id for site_id, *_ in stopped} == running
    assert {state for *_, state in stopped} == {"readback_ok"}
    released = [call.site_id for call in world.modes.calls if call.what == "release"]
    assert sorted(released) == sorted(running)
    await world.play(2)
    assert {command.site_id for command in world.modes.applied()} == running
    assert len(world.modes.applied()) == len(running)


@pytest.mark.parametrize("error", [unreachable(), TimedOut("no answer", sent=True)], ids=["failed", "unknown"])
async def test_a_mode_site_that_may_run_without_being_counted_is_given_back_at_once(
    store: Store, error: DeviceError
) -> None:
    world = await a_world(store, 12, setpoint=3, mode=2)
    await world.report()
    for n in (4, 5):
        world.modes.failures["apply", f"site-{n:03}"] = error
    await world.cycle()
    tried = {call.site_id for call in world.modes.calls if call.what == "apply"}
    assert tried
    assert {call.site_id for call in world.modes.calls if call.what == "release"} == tried
    owed = await world.handbacks()
    assert all(owed[site_id].verified_at for site_id in tried)
    world.modes.failures.clear()
    world.pass_time()
    await world.play(5)
    assert tried.isdisjoint(command.site_id for command in world.modes.applied() if command.not_before > START_AT)


async def test_a_running_mode_site_that_ends_on_its_own_is_replaced_and_given_back(store: Store) -> None:
    world = await a_world(store, 14, setpoint=3, mode=2)
    await world.play(2)
    quitter = world.modes.applied()[0].site_id
    world.battery(quitter).obeys = False
    await world.play(1)
    outcome = await world.cycle()
    assert outcome.planned_kw >= 14
    assert world.delivered_kw() >= 14
    row = (await world.commands(quitter))[-1]
    assert (row.state, row.reason) == (FAILED, "no longer effective at the battery's meter")
    assert (await world.handbacks())[quitter].verified_at is not None


async def test_a_mode_site_whose_settings_could_not_be_read_may_be_asked_again(store: Store) -> None:
    world = await a_world(store, 5, setpoint=0, mode=1)
    world.modes.failures["save_native", "site-001"] = unreachable()
    await world.play(1)
    world.modes.failures.clear()
    await world.play(4)
    assert [row.state for row in await world.commands("site-001")] == [FAILED, "effective"]


async def test_a_site_called_again_after_it_was_given_back_has_its_settings_saved_anew(store: Store) -> None:
    world = await a_world(store, 20, setpoint=4)
    await world.play(2)
    await hand_back(world.tools, world.commitment.id)
    world.battery("site-001").settings = {"mode": "self_consumption", "reserve": 0.35}
    await world.play(1)
    row = (await world.handbacks())["site-001"]
    assert (row.native["reserve"], row.verified_at, row.released_at) == (0.35, None, None)
    await hand_back(world.tools, world.commitment.id)
    assert world.battery("site-001").settings == {"mode": "self_consumption", "reserve": 0.35}
