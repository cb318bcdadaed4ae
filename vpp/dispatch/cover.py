"""Whether the fleet covers an event: the question every opt-in depends on."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import Policy, capability
from vpp.commitments import Decision
from vpp.dispatch.fleet import FRESH_S, call_fleet
from vpp.dispatch.modes import mode_states
from vpp.domain.commitment import Commitment
from vpp.ports import Clock


async def covers(
    connection: AsyncConnection,
    commitment: Commitment,
    *,
    clock: Clock,
    mode_adapters: Collection[str],
    max_age_s: float = FRESH_S,
    policy: Policy | None = None,
) -> Decision:
    """Answer from the present snapshot and forecast; without usable telemetry the answer is no, with the reason.

    Args:
        mode_adapters: the adapters whose devices know modes only, no setpoint.
        max_age_s: how old a reading may be before the event begins, when devices are read seldom [s].
            Once it has begun, only what is fresh enough to be commanded on counts.
        policy: what the service assumes and how it solves.
    """
    now = clock.now()
    start_at = max(now, commitment.window.start_at)
    max_age_s = max(FRESH_S, max_age_s) if now < commitment.window.start_at else FRESH_S
    called = await call_fleet(connection, commitment, at=now, max_age_s=max_age_s)
    usable = int(called.state.available.sum())
    if usable == 0:
        return Decision(False, f"none of the {len(called.sites)} sites in the programme has a usable reading")
    targets = tuple(t for t in commitment.targets if t.interval.end_at > start_at)
    modes = await mode_states(connection, commitment, called.sites, mode_adapters, at=start_at)
    answer = capability(
        called.sites, called.state, called.net_load_kw, targets, called.steps, mode_sites=modes,
        hours_since_full_charge=called.hours_since_full_charge, policy=policy, limits=called.limits,
    )  # fmt: skip
    return Decision(answer.covered, answer.reason)
