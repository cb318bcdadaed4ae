"""What was delivered: baselines by method, device sub-metering, and an event measured by both.

Called by the lifecycle and by settlement. Reads metered intervals, never devices.
"""

from vpp.measurement.baselines.caiso_10_in_10 import Rules as CaisoRules
from vpp.measurement.baselines.caiso_10_in_10 import caiso_10_in_10
from vpp.measurement.baselines.days import Baseline, DayLoads, Finding, day_loads
from vpp.measurement.calendars import is_business_day, nerc_holidays
from vpp.measurement.records import load_delivery
from vpp.measurement.service import baselines_kwh, measure_event, time_zone_of

__all__ = [
    "Baseline",
    "CaisoRules",
    "DayLoads",
    "Finding",
    "baselines_kwh",
    "caiso_10_in_10",
    "day_loads",
    "is_business_day",
    "load_delivery",
    "measure_event",
    "nerc_holidays",
    "time_zone_of",
]
