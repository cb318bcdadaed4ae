"""Who gives how much and when: the award split over sites without hurting any one of them."""

from vpp.allocation.answer import Allocation
from vpp.allocation.blocks import ModeState
from vpp.allocation.exact import Options, solve
from vpp.allocation.files import allocate_file, options_from, read_problem, write_problem, write_result
from vpp.allocation.from_sites import Policy, full_charge_look_back
from vpp.allocation.horizon import horizon_steps
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import split_by_cost, split_by_time_to_go
from vpp.allocation.service import Capability, Plan, capability, plan

__all__ = [
    "Allocation", "Capability", "ModeState", "Options", "Plan", "Policy", "Problem", "allocate_file", "capability",
    "full_charge_look_back", "horizon_steps", "options_from", "plan", "read_problem", "solve", "split_by_cost",
    "split_by_time_to_go", "write_problem", "write_result",
]  # fmt: skip
