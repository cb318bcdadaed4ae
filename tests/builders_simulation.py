"""Virtual fleets for tests, made once."""

from datetime import date
from functools import cache

from vpp.simulation.fleet import VirtualFleet, make_fleet

DAY = date(2026, 8, 19)


@cache
def small_fleet(seed: int = 3, sites: int = 24, base_port: int = 15_100) -> VirtualFleet:
    """A fleet of both vendors, with commerce and homes, at local midnight of a Wednesday."""
    return make_fleet(seed=seed, sites=sites, day=DAY, base_port=base_port)
