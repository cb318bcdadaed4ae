"""The score of the day: what was owed, delivered, harmed (nothing, one hopes), handed back and paid."""

from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.demo.script import PROGRAM, TENANT, DemoScript
from vpp.domain.commitment import CommitmentState
from vpp.enrolment import load_sites
from vpp.ports import MarketProgram
from vpp.settlement import ledger_sum, paid_by_site, paid_cents
from vpp.store.tables.commitments import commitment
from vpp.store.tables.dispatch import handback
from vpp.store.tables.settlement import delivery, ledger_account, ledger_transfer

NEEDED_FRACTION = 0.97


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """Figures of one demo, in the order they are told; `failures` is empty if every invariant held."""

    sites: int
    adapters: tuple[str, ...]
    sites_by_adapter: dict[str, int]
    events_settled: int
    committed_kwh: float
    delivered_baseline_kwh: float | None
    delivered_submeter_kwh: float
    measurement: str
    delivered_fraction: float
    sites_lost: tuple[str, ...]
    reserve_breaches: int
    limit_breaches: int
    demand_peak_breaches: int
    demand_peaks_protected: int
    handbacks_verified: int
    handbacks_total: int
    ledger_sum_cents: int
    gross_cents: int
    paid_cents: int
    paid_sites: int
    paid_cents_by_site: dict[str, int]
    seed: int
    wall_s: float
    wall_s_by_loop: dict[str, float]

    @property
    def failures(self) -> tuple[str, ...]:
        """Every invariant that did not hold, in words."""
        checks = (
            (self.events_settled == 1, f"{self.events_settled} events settled, not 1"),
            (self.delivered_fraction >= NEEDED_FRACTION, f"delivered {self.delivered_fraction:.3f} of what was owed"),
            (self.reserve_breaches == 0, f"{self.reserve_breaches} reserve breaches"),
            (self.limit_breaches == 0, f"{self.limit_breaches} interconnection limit breaches"),
            (self.demand_peak_breaches == 0, f"{self.demand_peak_breaches} demand peaks made worse"),
            (
                self.handbacks_verified == self.handbacks_total,
                f"{self.handbacks_total - self.handbacks_verified} sites not handed back",
            ),
            (self.ledger_sum_cents == 0, f"the ledger is off by {self.ledger_sum_cents} cents"),
            (self.paid_cents > 0, "nobody was paid"),
            (sum(self.paid_cents_by_site.values()) == self.paid_cents, "statements do not add up to the ledger"),
        )
        return tuple(message for held, message in checks if not held)


async def measure_outcome(
    connection: AsyncConnection,
    script: DemoScript,
    program: MarketProgram,
    truth: dict[str, Any],
    *,
    lost: tuple[str, ...],
    wall_s: float,
    wall_s_by_loop: dict[str, float],
) -> Outcome:
    """Read the score from our own books, and the harm from the world's."""
    sites = await load_sites(connection, tenant_id=TENANT, program=PROGRAM)
    by_adapter = Counter(site.adapter for site in sites)
    submeter, baseline = await _delivered(connection, "submeter"), await _delivered(connection, "caiso_10_in_10")
    own = submeter if program.measurement == "submeter" else baseline
    month = script.day.replace(day=1)
    charges = sum(len(site.tariff.demand) for site in sites)
    harmed = len(truth["demand_peak_breaches"])
    by_site = await paid_by_site(connection, TENANT, month)
    return Outcome(
        sites=len(sites),
        adapters=tuple(sorted(by_adapter)),
        sites_by_adapter=dict(sorted(by_adapter.items())),
        events_settled=await _count(connection, commitment.c.state == CommitmentState.SETTLED.value),
        committed_kwh=float(submeter.committed_kwh),
        delivered_baseline_kwh=None if baseline.delivered_kwh is None else float(baseline.delivered_kwh),
        delivered_submeter_kwh=float(submeter.delivered_kwh or 0),
        measurement=program.measurement,
        delivered_fraction=float(own.within_kwh / own.committed_kwh) if own.committed_kwh else 0.0,
        sites_lost=lost,
        reserve_breaches=truth["reserve_breaches"],
        limit_breaches=truth["limit_breaches"],
        demand_peak_breaches=harmed,
        demand_peaks_protected=charges - harmed,
        handbacks_verified=await _count(connection, handback.c.verified_at.is_not(None)),
        handbacks_total=await _count(connection, handback.c.saved_at.is_not(None)),
        ledger_sum_cents=await ledger_sum(connection, TENANT),
        gross_cents=await _gross_cents(connection),
        paid_cents=await paid_cents(connection, TENANT),
        paid_sites=sum(cents > 0 for cents in by_site.values()),
        paid_cents_by_site=by_site,
        seed=script.seed,
        wall_s=round(wall_s, 1),
        wall_s_by_loop=wall_s_by_loop,
    )


@dataclass(frozen=True, slots=True)
class _Delivered:
    """`within_kwh` counts each interval up to what it owed: surplus in one hour pays for no other."""

    committed_kwh: Decimal
    delivered_kwh: Decimal | None
    within_kwh: Decimal


async def _delivered(connection: AsyncConnection, method: str) -> _Delivered:
    rows = (
        await connection.execute(
            select(delivery.c.committed_kwh, delivery.c.delivered_kwh).where(delivery.c.method == method)
        )
    ).all()
    known = [row for row in rows if row.delivered_kwh is not None]
    return _Delivered(
        committed_kwh=sum((row.committed_kwh for row in rows), Decimal(0)),
        delivered_kwh=sum((row.delivered_kwh for row in known), Decimal(0)) if known else None,
        within_kwh=sum((max(Decimal(0), min(row.delivered_kwh, row.committed_kwh)) for row in known), Decimal(0)),
    )


async def _count(connection: AsyncConnection, condition: Any) -> int:
    return int((await connection.execute(select(func.count()).where(condition))).scalar_one())


async def _gross_cents(connection: AsyncConnection) -> int:
    query = (
        select(func.coalesce(func.sum(ledger_transfer.c.amount_cents), 0))
        .join(ledger_account, ledger_account.c.id == ledger_transfer.c.debit_account)
        .where(ledger_account.c.kind == "receivable")
    )
    return int((await connection.execute(query)).scalar_one())
