"""Con Edison's Commercial System Relief Program (CSRP), paid per kW-month. Built by `vpp.bootstrap`."""

from market.coned_csrp.program import ConEdCsrp

__all__ = ["ConEdCsrp"]
