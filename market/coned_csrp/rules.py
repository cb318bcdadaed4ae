"""CSRP's facts, each with where it was read. A contract's own numbers come in as terms' options.

[V] read at coned.com (dated pages); [S] another public source; [K] unconfirmed knowledge. The rider's
text was not available: check it before you rely on any of this.
"""

from decimal import Decimal

RESERVATION_PER_KW_MONTH = Decimal("18.00")
"""Every network but those below. [V]"""
RESERVATION_LOW_PER_KW_MONTH = Decimal("6.00")
"""Staten Island and Westchester: set the option `area`. [V]"""
LOW_AREAS = frozenset({"staten_island", "westchester"})
RESERVATION_CLAUSE = "CSRP: reservation = nominated kW x performance factor x rate (coned.com)"

BONUS_PER_KW_MONTH = Decimal("5.00")
BONUS_FROM_EVENT = 5
"""From the fifth event. [V] That tests do not count and that the count runs over the season are [K]."""
BONUS_CLAUSE = "CSRP: $5 per kW-month more from the fifth event (coned.com)"

PERFORMANCE_PER_KWH = Decimal("1.00")
"""[V]"""
PERFORMANCE_CLAUSE = "CSRP: $1 per kWh delivered (coned.com)"

FACTOR_HOURS = 4.0
"""The factor is the mean hourly kW of the first four hours over the nominated kW [S: stated for DLRP],
held within 0 and 1 [K]."""
FACTOR_DIGITS = Decimal("0.000001")
"""Factors are rounded half up to six digits, ours, so that a statement's reader finds the same cents."""

FIRST_MONTH, LAST_MONTH = 5, 9
"""May to September. [V]"""
MAX_EVENT_H = 4.0
"""A four-hour window on weekdays, which one depends on the network: options `call_start_h`, `call_end_h`. [K]"""
