"""Room gateway: every event heard is kept with its meaning, and what of it holds is written down for the fleet.

Called by both VENs once an event has reached the commitments, with what came of it there. What power is owed is a
commitment's; this keeps the rest: capacity limits, which every plan honours, and prices, charges and alerts, which
are shown. Told again, an event changes nothing; changed or withdrawn, what held of it ends in the same transaction.
"""

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import InvalidRequest
from vpp.domain.fleet_signal import (
    Alert,
    CapacityLimit,
    ChargeKind,
    ChargeState,
    Effect,
    FleetLimit,
    FleetSignal,
    NotUsable,
    Price,
)
from vpp.domain.fleet_signal_words import words
from vpp.domain.grid_event import GridEvent, Point, Series, SeriesType, Target, TargetKind
from vpp.domain.peer import Peer
from vpp.enrolment import load_sites
from vpp.gateway.meaning import MAX_MODIFICATION, chosen_series
from vpp.gateway.meanings import RULES, series_meanings
from vpp.peering import (
    GridAlert,
    HeardEvent,
    HeardSeries,
    Holding,
    ProgramPrice,
    WantedCharge,
    end_heard,
    forget_received,
    keep_heard,
    open_heard,
    prune_heard,
)
from vpp.ports import Clock
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")

KEPT = timedelta(days=90)
END_SLACK = timedelta(seconds=60)
"""A VTN whose clock runs ahead of ours may drop an event this early without meaning to withdraw it."""
MAX_ID_CHARS = 256
_INFORMATION = frozenset(
    type_
    for type_ in SeriesType
    if type_.value.startswith(("ALERT_", "IMPORT_CAPACITY_", "EXPORT_CAPACITY_")) or "PRICE" in type_.value
) | {SeriesType.GHG, SeriesType.DEMAND_CHARGE}
"""Types that ask nothing of the fleet that it does not do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HearingTerms:
    """What a peer may do beside asking for power.

    Attributes:
        may_limit: whether its capacity limits count.
        site_of: our site's id by the peer's name of it as a resource.
    """

    may_limit: bool = True
    site_of: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, peer: Peer) -> "HearingTerms":
        """Read `limits` (false: its capacity limits are ignored) and `sites` (site ids by resource) of its config.

        Raises:
            InvalidRequest: a value cannot be.
        """
        may_limit, site_of = peer.config.get("limits", True), peer.config.get("sites", {})
        if not isinstance(may_limit, bool):
            raise InvalidRequest("config.limits", may_limit, "true or false")
        if not isinstance(site_of, dict) or not all(isinstance(site, str) for site in site_of.values()):
            raise InvalidRequest("config.sites", site_of, "ids of our sites by the peer's names of them")
        return cls(may_limit=may_limit, site_of={str(name): site for name, site in site_of.items()})


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What came of an event's power.

    Attributes:
        program: our programme, None where the event is not for us.
        opted_in: whether a commitment was accepted; None where there is none.
        reason: why not.
    """

    program: str | None
    opted_in: bool | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came of an event as a whole: whether all it asks for is done or needs no doing, and in words."""

    in_full: bool
    reason: str


@dataclass(frozen=True, slots=True)
class Hearing:
    """Keeps what one source tells."""

    store: Store
    clock: Clock
    source: str
    tenant_id: str
    terms: HearingTerms = field(default_factory=HearingTerms)

    async def hear(self, event: GridEvent, outcome: Outcome) -> Heard:
        """Keep an event as it stands now, with what came of it."""
        if len(event.event_id) > MAX_ID_CHARS or event.modification_number > MAX_MODIFICATION:
            return Heard(False, "its id or modification number is out of range")
        async with self.store.begin() as connection:
            return await self.hear_in(connection, event, outcome)

    async def hear_in(self, connection: AsyncConnection, event: GridEvent, outcome: Outcome) -> Heard:
        """The same in the caller's transaction."""
        sites = await _sites(connection, self.tenant_id, event)
        made = [self._series(event, series, outcome, sites) for series in event.series]
        holding = Holding()
        for _, held in made:
            holding = _joined(holding, held)
        heard = HeardEvent(
            source=self.source,
            event_id=event.event_id,
            tenant_id=self.tenant_id,
            program=outcome.program,
            modification_number=event.modification_number,
            start_at=event.start_at,
            over_at=event.end_at,
            series=tuple(series for series, _ in made),
            is_test=event.is_test,
            comment=event.comment[:500],
            cancelled=event.cancelled,
        )
        if await keep_heard(connection, heard, holding, at=self.clock.now()):
            self._log(heard, holding)
        return _summary(heard)

    async def withdraw(self, event_ids: Collection[str]) -> int:
        """The source no longer has these events: nothing of them holds; returns how many there were."""
        async with self.store.begin() as connection:
            return await end_heard(connection, self.source, event_ids, at=self.clock.now())

    async def absent(self, listed: Collection[str], *, early: timedelta = timedelta(0)) -> set[str]:
        """Return the open events that a list leaves out; `early` as for `EventDesk.missing`."""
        after = self.clock.now() + early + END_SLACK
        async with self.store.begin() as connection:
            return await open_heard(connection, self.source, after=after) - set(listed)

    async def leave(self) -> None:
        """The source is a peer no longer: none of its limits, prices and alerts holds."""
        now = self.clock.now()
        async with self.store.begin() as connection:
            await end_heard(connection, self.source, await open_heard(connection, self.source, after=now), at=now)

    async def prune(self) -> None:
        """Forget what was over long ago."""
        async with self.store.begin() as connection:
            before = self.clock.now() - KEPT
            await prune_heard(connection, self.source, before=before)
            await forget_received(connection, tenant_id=self.tenant_id, before=before)

    def _series(
        self, event: GridEvent, series: Series, outcome: Outcome, sites: Mapping[str, str]
    ) -> tuple[HeardSeries, Holding]:
        signals = series_meanings(series)
        effect, reason, holding = self._effect(event, series, signals, outcome, sites)
        kept = HeardSeries(
            type=series.type.value,
            name=series.name[:200],
            unit=None if series.unit is None else series.unit[:50],
            intervals=tuple(
                _interval(signal, part.values) for signal, part in zip(signals, series.intervals, strict=True)
            ),
            effect=effect,
            reason=reason[:500],
        )
        return kept, holding

    def _effect(
        self,
        event: GridEvent,
        series: Series,
        signals: tuple[FleetSignal, ...],
        outcome: Outcome,
        sites: Mapping[str, str],
    ) -> tuple[Effect, str, Holding]:
        """What comes of a series: one bad value refuses it whole, so that a limit never holds in part."""
        wrong = next((signal for signal in signals if isinstance(signal, NotUsable)), None)
        if event.cancelled:
            return Effect.ENDED, "cancelled by the utility", Holding()
        if outcome.program is None:
            return Effect.REFUSED, outcome.reason, Holding()
        if wrong is not None:
            return Effect.REFUSED, wrong.reason, Holding()
        rule = RULES[series.type]
        if rule.effect is Effect.COMMITTED:
            return (*_power_effect(event, series, outcome), Holding())
        if event.is_test:
            return Effect.SHOWN, "a test event: nothing comes of it", Holding()
        if rule.effect is Effect.LIMIT:
            return self._limits(event, series, signals, sites)
        return Effect.SHOWN, rule.note, _holding(outcome.program, signals, self._charged(event, series, sites))

    def _limits(
        self, event: GridEvent, series: Series, signals: tuple[FleetSignal, ...], sites: Mapping[str, str]
    ) -> tuple[Effect, str, Holding]:
        if not self.terms.may_limit:
            log.warning("limit ignored", source=self.source, event_id=event.event_id, signal=series.name)
            return Effect.REFUSED, "this peer may set no limits (limits: false in its configuration)", Holding()
        aimed_at, unknown = self._aimed_at(event, series, sites)
        if unknown:
            reason = (
                f"resource {', '.join(unknown)[:200]} is none of our sites; name it in the peer's configuration (sites)"
            )
            return Effect.REFUSED, reason, Holding()
        limits = tuple(
            FleetLimit(
                source=self.source,
                event_id=event.event_id,
                direction=signal.direction,
                limit_kw=signal.limit_kw,
                start_at=signal.start_at,
                end_at=signal.end_at,
                site_id=site_id,
            )
            for signal in signals
            if isinstance(signal, CapacityLimit)
            for site_id in aimed_at or (None,)
        )
        where = f"at {len(aimed_at)} site{'s' if len(aimed_at) != 1 else ''}" if aimed_at else "for the fleet together"
        return Effect.LIMIT, f"a hard limit {where}", Holding(limits=limits)

    def _charged(self, event: GridEvent, series: Series, sites: Mapping[str, str]) -> tuple[str | None, ...]:
        aimed_at, unknown = self._aimed_at(event, series, sites)
        return () if unknown else aimed_at or (None,)

    def _aimed_at(
        self, event: GridEvent, series: Series, sites: Mapping[str, str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Sites it is aimed at, none meaning all, and resources that are none of ours.

        OpenADR 3.1's targets bear no kind: one that is the name of a site means it, any other a group we are in.
        """
        found: dict[str, None] = {}
        unknown = []
        for target in series.targets or event.targets:
            site_id = sites.get(self.terms.site_of.get(target.value, target.value))
            if site_id is not None and target.kind is not TargetKind.VEN:
                found[site_id] = None
            elif target.kind is TargetKind.RESOURCE:
                unknown.append(target.value)
        return tuple(found), tuple(unknown)

    def _log(self, heard: HeardEvent, holding: Holding) -> None:
        log.info(
            "event heard",
            source=self.source,
            event_id=heard.event_id,
            modification=heard.modification_number,
            effects=[f"{series.name}: {series.effect.value}" for series in heard.series][:20],
            limits=len(holding.limits),
        )


def _power_effect(event: GridEvent, series: Series, outcome: Outcome) -> tuple[Effect, str]:
    if chosen_series(event.series) is not series:
        return Effect.SHOWN, "another signal of the event counts"
    if outcome.opted_in:
        return Effect.COMMITTED, outcome.reason
    return Effect.REFUSED, outcome.reason or "not accepted"


def _holding(program: str, signals: tuple[FleetSignal, ...], sites: tuple[str | None, ...]) -> Holding:
    return Holding(
        prices=tuple(
            ProgramPrice(
                program=program,
                kind=signal.kind.value,
                amount=signal.amount,
                unit=signal.unit,
                currency=signal.currency,
                start_at=signal.start_at,
                end_at=signal.end_at,
            )
            for signal in signals
            if isinstance(signal, Price)
        ),
        charges=tuple(_charges(signals, sites)),
        alerts=tuple(
            GridAlert(kind=signal.type.value, text=signal.text, start_at=signal.start_at, end_at=signal.end_at)
            for signal in signals
            if isinstance(signal, Alert)
        ),
    )


def _charges(signals: tuple[FleetSignal, ...], sites: tuple[str | None, ...]) -> Iterator[WantedCharge]:
    for signal in signals:
        if isinstance(signal, ChargeState) and signal.kind is ChargeKind.SETPOINT:
            for site_id in sites:
                yield WantedCharge(
                    start_at=signal.start_at,
                    end_at=signal.end_at,
                    site_id=site_id,
                    share=signal.share,
                    energy_kwh=signal.energy_kwh,
                )


def _joined(one: Holding, other: Holding) -> Holding:
    return replace(
        one,
        limits=one.limits + other.limits,
        prices=one.prices + other.prices,
        charges=one.charges + other.charges,
        alerts=one.alerts + other.alerts,
    )


def _summary(heard: HeardEvent) -> Heard:
    refused = next((series for series in heard.series if series.effect is Effect.REFUSED), None)
    if refused is not None:
        return Heard(False, refused.reason)
    limits = [series for series in heard.series if series.effect is Effect.LIMIT]
    asks = [series for series in heard.series if SeriesType(series.type) not in _INFORMATION]
    if not heard.series or asks:
        return Heard(False, asks[0].reason if asks else "it says nothing")
    return Heard(True, limits[0].reason if limits else "kept and shown")


def _interval(signal: FleetSignal, values: tuple[object, ...]) -> dict[str, Any]:
    return {
        "start_at": _stamp(signal.start_at),
        "end_at": None if signal.end_at is None else _stamp(signal.end_at),
        "values": [{"x": each.x, "y": each.y} if isinstance(each, Point) else _bounded(each) for each in values[:50]],
        "words": words(signal)[:500],
    }


def _bounded(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON has no word for it
    return value[:500] if isinstance(value, str) else value


def _stamp(at: datetime) -> str:
    return at.isoformat()


async def _sites(connection: AsyncConnection, tenant_id: str, event: GridEvent) -> dict[str, str]:
    """Ids of our sites by id and by name, where the event is aimed at anything but VENs."""
    targets: set[Target] = {*event.targets, *(target for series in event.series for target in series.targets)}
    if all(target.kind is TargetKind.VEN for target in targets):
        return {}
    sites = await load_sites(connection, tenant_id=tenant_id)
    count = Counter(site.name for site in sites)
    by_name = {site.name: site.id for site in sites if count[site.name] == 1}
    return by_name | {site.id: site.id for site in sites}
