"""From a commitment to commands and back: one stateless control cycle, and the hand-back.

Called by the lifecycle's worker and, for the question whether the fleet covers an event, by the
gateway. Keeps nothing in memory between two cycles: any worker can run the next one.
"""

from vpp.dispatch.cover import covers
from vpp.dispatch.cycle import run_cycle
from vpp.dispatch.handback import expired_leases, hand_back, open_handbacks
from vpp.dispatch.progress import delivered_kw, delivered_kwh
from vpp.dispatch.tools import Tools

__all__ = [
    "Tools",
    "covers",
    "delivered_kw",
    "delivered_kwh",
    "expired_leases",
    "hand_back",
    "open_handbacks",
    "run_cycle",
]
