"""Our VEN at utilities' OpenADR 3 VTNs, one loop for each. Other rooms import it from `vpp.gateway`."""

from vpp.gateway.ven3.figures import About, Figures, FleetFigures
from vpp.gateway.ven3.loop import Openadr3Ven
from vpp.gateway.ven3.terms import Push, Ven3Terms
from vpp.gateway.ven3.wake import WAKE_CHANNEL, Alarm, source_of, wake

__all__ = [
    "WAKE_CHANNEL",
    "About",
    "Alarm",
    "Figures",
    "FleetFigures",
    "Openadr3Ven",
    "Push",
    "Ven3Terms",
    "source_of",
    "wake",
]
