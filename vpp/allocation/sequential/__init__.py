"""The allocator for large fleets: an exact oracle for each site, coordinated by prices.

Importing it loads the kernels, most of a second: import it where it is needed, not before.
"""

from vpp.allocation.sequential.solve import prepared, solve_sequential, takes

__all__ = ["prepared", "solve_sequential", "takes"]
