"""California's Emergency Load Reduction Program (ELRP), paid per verified kWh. Built by `vpp.bootstrap`."""

from market.elrp.program import Elrp

__all__ = ["Elrp"]
