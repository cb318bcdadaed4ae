"""Delivery by the batteries' own meters: what each battery discharged during the event.

Part of the measurement room; pure. Sub-metering is what programmes use where a home's own load is
larger and noisier than what its battery gives (ELRP A.4 and A.5, ConnectedSolutions, DSGS).
"""

from dataclasses import dataclass

import numpy as np

from vpp.domain.fleet import Floats
from vpp.domain.settlement import Netting
from vpp.measurement.baselines.days import Finding
from vpp.measurement.meter import Metered

METHOD = "submeter"


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmeterDelivery:
    """Battery energy toward the grid in an event [kWh].

    Attributes:
        interval_kwh: sum over sites per interval, charging negative, shape (interval,).
        measurable: whether any site was metered in that interval, shape (interval,).
        metered_kwh: per site over the event, charging negative, shape (site,).
        credited_kwh: per site, never below 0, shape (site,).
        cover: metered part of the event per site, 0-1, shape (site,).
    """

    interval_kwh: Floats
    measurable: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]
    metered_kwh: Floats
    credited_kwh: Floats
    cover: Floats
    findings: tuple[Finding, ...]


def submeter_delivery(battery: Metered, hours: Floats, netting: Netting) -> SubmeterDelivery:
    """Return the delivery of battery energy metered per (site, interval).

    Args:
        battery: energy of the battery channel, discharge positive.
        hours: length of each interval [h], shape (interval,).
        netting: EVENT sets charging off against discharge over the whole event before the floor at
            zero; INTERVAL floors each interval by itself.
    """
    floored = battery.energy_kwh if netting is Netting.EVENT else np.maximum(battery.energy_kwh, 0.0)
    metered_kwh = battery.energy_kwh.sum(axis=1)
    cover = (battery.cover * hours).sum(axis=1) / hours.sum()
    return SubmeterDelivery(
        interval_kwh=battery.energy_kwh.sum(axis=0),
        measurable=np.asarray((battery.cover > 0).any(axis=0)),
        metered_kwh=metered_kwh,
        credited_kwh=np.maximum(floored.sum(axis=1), 0.0),
        cover=cover,
        findings=_findings(battery, metered_kwh),
    )


def _findings(battery: Metered, metered_kwh: Floats) -> tuple[Finding, ...]:
    findings: list[Finding] = []
    short = ~battery.whole.all(axis=1)
    if short.any():
        text = "sites without complete sub-meter data; only what was metered is credited"
        findings.append({"code": "submeter_missing", "text": text, "sites": int(short.sum())})
    if battery.estimated.any():
        text = "sites with estimated sub-meter data"
        findings.append({"code": "submeter_estimated", "text": text, "sites": int(battery.estimated.any(axis=1).sum())})
    if (metered_kwh < 0).any():
        text = "sites that charged more than they discharged; their credit is zero"
        findings.append({"code": "net_charging", "text": text, "sites": int((metered_kwh < 0).sum())})
    return tuple(findings)
