"""A month's pay split into lines of site and event: pure, exact, and recomputable on paper.

Part of the settlement room. The utility pays for the resource; sites share by credited kWh with the
largest remainder, ties to the lower site id. The owner's share of a line is rounded once.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

from vpp.domain.errors import NotReady
from vpp.domain.money import cents_half_up, split_cents
from vpp.domain.settlement import MonthlyPay, PayLine


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteCredit:
    """A site's measured part in one event [kWh]; `facts` go into its statement as they are."""

    commitment_id: UUID
    site_id: str
    metered_kwh: Decimal
    credited_kwh: Decimal
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SiteTerms:
    """Who owns a site and their share of its revenue, 0-1."""

    owner_id: str
    owner_share: Decimal


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLine:
    """A site's money from one event. `parts` say how `gross_cents` came about, one per pay line."""

    credit: SiteCredit
    terms: SiteTerms
    parts: tuple[dict[str, Any], ...]
    gross_cents: int
    owner_cents: int


@dataclass(frozen=True, slots=True)
class Allocation:
    """All lines of a month, ordered by site and event, and pay that no site was credited for."""

    lines: tuple[SiteLine, ...]
    unallocated_cents: int


def allocate(
    pay: MonthlyPay,
    credits_: Sequence[SiteCredit],
    terms: Mapping[str, SiteTerms],
    kept: Mapping[tuple[str, UUID], SiteTerms] | None = None,
) -> Allocation:
    """Split a month's pay.

    A pay line of one event is split over that event's sites. One of the month as a whole is split
    over the sites by what they were credited in the month, and each site's part over its events.

    Args:
        credits_: in order of the events' time; at most one per site and event.
        terms: by site, as they are now.
        kept: by (site, event), as they were when that event was first settled; these go first.

    Raises:
        NotReady: a site was credited whose terms are not known.
    """
    in_force = {
        (c.site_id, c.commitment_id): (kept or {}).get((c.site_id, c.commitment_id)) or terms.get(c.site_id)
        for c in credits_
    }
    agreed = {at: found for at, found in in_force.items() if found is not None}
    unknown = sorted({site_id for site_id, _ in in_force.keys() - agreed.keys()})
    if unknown:
        raise NotReady(f"no owner's share is known for {', '.join(unknown[:5])}; enrol them in {pay.program}")
    by_site: dict[str, list[SiteCredit]] = {}
    for credit in credits_:
        by_site.setdefault(credit.site_id, []).append(credit)
    parts: dict[tuple[str, UUID], list[dict[str, Any]]] = {}
    unallocated_cents = 0
    for line in pay.lines:
        if not _split_line(line, by_site, parts):
            unallocated_cents += line.amount_cents
    lines = [
        _site_line(credit, agreed[(site_id, credit.commitment_id)], parts.get((site_id, credit.commitment_id), []))
        for site_id in sorted(by_site)
        for credit in by_site[site_id]
    ]
    return Allocation(tuple(lines), unallocated_cents)


def _split_line(
    line: PayLine,
    by_site: Mapping[str, Sequence[SiteCredit]],
    parts: dict[tuple[str, UUID], list[dict[str, Any]]],
) -> bool:
    """Add the line's parts; false where no site has any credit to share it by."""
    shared = {
        site_id: [c for c in by_site[site_id] if line.commitment_id in (None, c.commitment_id)]
        for site_id in sorted(by_site)
    }
    site_kwh = {site_id: sum((c.credited_kwh for c in some), Decimal(0)) for site_id, some in shared.items() if some}
    all_kwh = sum(site_kwh.values(), Decimal(0))
    if all_kwh == 0:
        return False
    split = split_cents(line.amount_cents, list(site_kwh.values()))
    for (site_id, own_kwh), site_cents in zip(site_kwh.items(), split, strict=True):
        if own_kwh == 0:
            continue
        events = shared[site_id]
        for credit, event_cents in zip(events, split_cents(site_cents, [c.credited_kwh for c in events]), strict=True):
            parts.setdefault((site_id, credit.commitment_id), []).append(
                {
                    "kind": line.kind,
                    "quantity": str(line.quantity),
                    "unit": line.unit,
                    "price": str(line.price),
                    "resource_cents": line.amount_cents,
                    "clause": line.clause,
                    "site_kwh": str(own_kwh),
                    "all_sites_kwh": str(all_kwh),
                    "site_cents": site_cents,
                    "event_kwh": str(credit.credited_kwh),
                    "event_cents": event_cents,
                }
            )
    return True


def _site_line(credit: SiteCredit, terms: SiteTerms, parts: Sequence[dict[str, Any]]) -> SiteLine:
    gross_cents = sum(part["event_cents"] for part in parts)
    return SiteLine(
        credit=credit,
        terms=terms,
        parts=tuple(parts),
        gross_cents=gross_cents,
        owner_cents=cents_half_up(Decimal(gross_cents) * terms.owner_share / 100),
    )
