"""Which reports our VTN can send a VEN: what it holds of that VEN's own reports. Called by `sending`.

A VEN can so check what is made of its reports, its pay before all. Nothing is worked out anew: a value is the one
the VEN sent, with its time, its length and its unit; what it never sent is not there. No VEN gets another's.

* `vpp-received-usage` and `vpp-received-history`: every point of usage the VEN has offered, by its specifier and its
  own rID (`specifier/rID`).
* `vpp-received-status`: its points of status likewise, and `ven`: whether we count the VEN itself online.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from vpp.domain.openadr2 import PointOffer, ReportOffer
from vpp.gateway.offers import HISTORY_USAGE, TELEMETRY_STATUS, TELEMETRY_USAGE, Catalogue
from vpp.gateway.refused import MAX_ID

USAGE_SPECIFIER = "vpp-received-usage"
STATUS_SPECIFIER = "vpp-received-status"
HISTORY_SPECIFIER = "vpp-received-history"
VEN_POINT = "ven"
SAMPLING = (timedelta(minutes=1), timedelta(days=1))
MAX_POINTS = 200
"""Points told of each report; a VEN that offers more hears nothing of the rest."""

Origin = tuple[str, str]
"""A point by the VEN's own words: specifier and rID."""


@dataclass(frozen=True, slots=True)
class Offered:
    """What a VEN is offered; `origin` has the VEN's own point by our rID."""

    offers: tuple[ReportOffer, ...]
    catalogue: Catalogue
    origin: Mapping[str, Origin]


def offered(theirs: Sequence[ReportOffer], *, kept: timedelta, at: datetime) -> Offered:
    """Return what can be told of a VEN's reports.

    Args:
        theirs: what the VEN has offered us.
        kept: how long values are kept.
    """
    usage: list[PointOffer] = []
    status = [PointOffer(r_id=VEN_POINT, report_type="x-resourceStatus", reading_type="x-notApplicable")]
    origin: dict[str, Origin] = {}
    for offer in theirs:
        points = status if offer.name.removeprefix("METADATA_") == TELEMETRY_STATUS else usage
        for point in offer.points:
            r_id = f"{offer.specifier_id}/{point.r_id}"
            if len(r_id) <= MAX_ID and r_id not in origin and len(points) < MAX_POINTS:
                origin[r_id] = (offer.specifier_id, point.r_id)
                points.append(replace(point, r_id=r_id))
    made = (
        _offer(USAGE_SPECIFIER, TELEMETRY_USAGE, usage, at, SAMPLING[1]),
        _offer(STATUS_SPECIFIER, TELEMETRY_STATUS, status, at, SAMPLING[1]),
        _offer(HISTORY_SPECIFIER, HISTORY_USAGE, usage, at, kept),
    )
    offers = tuple(offer for offer in made if offer.points)
    return Offered(offers, _catalogue(offers, kept), origin)


def _offer(
    specifier_id: str, name: str, points: Iterable[PointOffer], at: datetime, duration: timedelta
) -> ReportOffer:
    told = (replace(point, min_sampling=SAMPLING[0], max_sampling=SAMPLING[1], on_change=False) for point in points)
    return ReportOffer(
        specifier_id=specifier_id, name=f"METADATA_{name}", points=tuple(told), created_at=at, duration=duration
    )


def _catalogue(offers: Iterable[ReportOffer], kept: timedelta) -> Catalogue:
    return Catalogue(
        reports={
            offer.specifier_id: (offer.name.removeprefix("METADATA_"), tuple(point.r_id for point in offer.points))
            for offer in offers
        },
        sampling=SAMPLING,
        history_step=timedelta(0),
        history_kept=kept,
        min_back=SAMPLING[0],
    )
