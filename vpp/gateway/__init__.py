"""Room gateway: signals in, answers and reports out. Other rooms import from here only."""

from vpp.gateway.events import PassOn
from vpp.gateway.measures import DeliveredKw, IsOnline, Telemetry
from vpp.gateway.supervisor import PeerLoop, Supervisor
from vpp.gateway.terms import OptChanges, VtnTerms
from vpp.gateway.ven import Openadr2Ven

__all__ = [
    "DeliveredKw",
    "IsOnline",
    "Openadr2Ven",
    "OptChanges",
    "PassOn",
    "PeerLoop",
    "Supervisor",
    "Telemetry",
    "VtnTerms",
]
