"""Whether the fleet covers an event: the question every opt-in depends on."""

from collections.abc import Collection

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.allocation import capability
from vpp.commitments import Decision
from vpp.dispatch.fleet import call_fleet
from vpp.dispatch.modes import mode_states
from vpp.domain.commitment import Commitment
from vpp.ports import Clock


async def covers(
    connection: AsyncConnection, commitment: Commitment, *, clock: Clock, mode_adapters: Collection[str]
) -> Decision:
    """Answer from the present snapshot and forecast; without usable telemetry the answer is no, with the reason.

    Args:
        mode_adapters: the adapters whose devices know modes only, no setpoint.
    """
    start_at = max(clock.now(), commitment.window.start_at)
    called = await call_fleet(connection, commitment, at=clock.now())
    usable = int(called.state.available.sum())
    if usable == 0:
        return Decision(False, f"none of the {len(called.sites)} sites in the programme has a usable reading")
    targets = tuple(t for t in commitment.targets if t.interval.end_at > start_at)
    modes = await mode_states(connection, commitment, called.sites, mode_adapters, at=start_at)
    answer = capability(called.sites, called.state, called.net_load_kw, targets, called.steps, mode_sites=modes)
    return Decision(answer.covered, answer.reason)
