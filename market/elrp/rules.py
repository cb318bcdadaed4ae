"""ELRP's facts, each with where it was read. A contract's own numbers come in as terms' options.

[V] read at the utility or its contractor (SCE's ELRP FAQ, PG&E's contractor Olivine, PCE);
[S] read in another public source; none of it is a tariff's text: check yours before you rely on it.
"""

from decimal import Decimal

PRICE_PER_KWH = Decimal("2.00")
"""Verified reduction, with exports of Rule 21 permit holders; no penalty. [V] SCE FAQ, Olivine."""
PRICE_CLAUSE = "ELRP: $2 per kWh of verified reduction, no penalty (SCE ELRP FAQ)"

FIRST_MONTH, LAST_MONTH = 5, 10
"""May to October. [V]"""
FIRST_HOUR, LAST_HOUR = 16, 21
"""From 16:00 until 21:00 local, every day of the week. [V]"""
MIN_EVENT_H = 1.0
MAX_EVENT_H = 5.0
"""One to five hours. [V] Groups A.4 and A.5 are held to three [S]: set the option `max_event_h`."""
MAX_HOURS_A_YEAR = 60.0
"""[V] Checked only where the option `hours_used` says how many were used."""
