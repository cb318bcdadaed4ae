"""Room gateway: signals in, answers and reports out. Other rooms import from here only."""

from vpp.gateway.reports import DeliveredKw
from vpp.gateway.ven import Openadr2Ven

__all__ = ["DeliveredKw", "Openadr2Ven"]
