"""Where choices are whole: found by OR-Tools for the sites concerned, beside the rest at its price."""

from vpp.allocation.discrete.minimum import with_minimum_power
from vpp.allocation.discrete.programs import Assignment, assign_programs, serving
from vpp.allocation.discrete.reserve import Reserved, with_reserve
from vpp.allocation.discrete.simultaneity import without_simultaneity

__all__ = [
    "Assignment", "Reserved", "assign_programs", "serving", "with_minimum_power", "with_reserve",
    "without_simultaneity",
]  # fmt: skip
