"""Who gives how much and when: the award split over sites without hurting any one of them.

The way through: `service.py` plans a control cycle and `promise.py` answers whether an event is covered;
`from_sites.py`, `tariffs.py` and `horizon.py` make a `Problem` (`problem.py`) of sites; `exact.py` solves it
with one linear programme (`linear.py`, `coupling.py`, `solver.py`) or, for large fleets, with `sequential/`,
or falls back to the split of `realtime.py`; `answer.py` costs whatever comes out anew.

`grid_limits.py` holds all of it to the capacity limits a utility has set.

Beside the way: choices of yes or no (`discrete/`, `blocks.py`), what can be held (`capability.py`), margins
(`robust.py`, `chance.py`), fairness (`fairness.py`), a second look (`audit.py`), and why each site got what
it got (`explain.py` for one site, `binding.py` and `marginal.py` for all, `supply.py`, `narrate.py`).
"""

from vpp.allocation.answer import Allocation
from vpp.allocation.binding import Constraint
from vpp.allocation.blocks import ModeState
from vpp.allocation.discrete import assign_programs, with_minimum_power, with_reserve, without_simultaneity
from vpp.allocation.exact import Options, solve
from vpp.allocation.explain import SiteExplanation, StepExplanation, explain
from vpp.allocation.files import allocate_file, options_from, read_problem, write_problem, write_result
from vpp.allocation.from_sites import Policy, full_charge_look_back
from vpp.allocation.grid_limits import GridLimits
from vpp.allocation.horizon import horizon_steps
from vpp.allocation.narrate import constraint_words, worth_words
from vpp.allocation.problem import Problem
from vpp.allocation.realtime import split_by_cost, split_by_time_to_go
from vpp.allocation.reasons import Reason, Reasons, read_reasons
from vpp.allocation.service import Capability, Plan, capability, plan
from vpp.allocation.site_files import Explained, explain_file
from vpp.allocation.supply import Offer, SupplyCurve, next_kw, supply_curve

__all__ = [
    "Allocation", "Capability", "Constraint", "Explained", "GridLimits", "ModeState", "Offer", "Options", "Plan",
    "Policy", "Problem", "Reason", "Reasons", "SiteExplanation", "StepExplanation", "SupplyCurve", "allocate_file",
    "assign_programs", "capability", "constraint_words", "explain", "explain_file", "full_charge_look_back",
    "horizon_steps", "next_kw", "options_from", "plan", "read_problem", "read_reasons", "solve", "split_by_cost",
    "split_by_time_to_go", "supply_curve", "with_minimum_power", "with_reserve", "without_simultaneity",
    "worth_words", "write_problem", "write_result",
]  # fmt: skip
