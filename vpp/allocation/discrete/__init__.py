"""Where choices are whole: found by OR-Tools for the sites concerned, beside the rest at its price."""

from vpp.allocation.discrete.simultaneity import without_simultaneity

__all__ = ["without_simultaneity"]
