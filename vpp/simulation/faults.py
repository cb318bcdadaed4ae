"""Room simulation: what goes wrong with virtual devices, when, by seed.

Called by the demo's conductor and tests (which plan faults) and by `world` and the device servers
(which let them happen). Times are virtual.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

import numpy as np

from vpp.domain.errors import InvalidRequest
from vpp.domain.time import Interval, as_utc
from vpp.simulation.fleet import VirtualFleet
from vpp.simulation.recipes import Kind


class FaultKind(StrEnum):
    """What is wrong with a site."""

    OFFLINE = "offline"
    """Nobody answers: TCP is refused, the vendor's cloud says 408. The battery goes on by itself."""
    FROZEN = "frozen"
    """Readings stop moving; the device's clock goes on."""
    STALE = "stale"
    """The same, and the reading's time stands still too."""
    ISLANDED = "islanded"
    """The site is cut off from the grid and lives on its battery."""
    WRITE_IGNORED = "write_ignored"
    """Writes are acknowledged and forgotten; read back, the old value is there."""
    NO_EFFECT = "no_effect"
    """Writes read back as written, and the battery does not move."""
    LYING_SOC = "lying_soc"
    """The state of charge is told too high by `amount`, 0-1."""
    SLOW = "slow"
    """Every answer takes `amount` seconds of the machine's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One fault of one site during `[start_at, end_at)`."""

    site_id: str
    kind: FaultKind
    start_at: datetime
    end_at: datetime
    amount: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The fault as JSON; `fault_from_json` reads it."""
        return {
            "site_id": self.site_id,
            "kind": self.kind.value,
            "start_at": self.start_at.isoformat(),
            "end_at": self.end_at.isoformat(),
            "amount": self.amount,
        }


def fault_from_json(stored: dict[str, Any]) -> Fault:
    """Read what `Fault.as_json` wrote.

    Raises:
        InvalidRequest: an unknown kind, or an end that is not after the start.
    """
    kinds = [kind.value for kind in FaultKind]
    if stored["kind"] not in kinds:
        raise InvalidRequest("kind", stored["kind"], f"one of {', '.join(kinds)}")
    span = Interval(datetime.fromisoformat(stored["start_at"]), datetime.fromisoformat(stored["end_at"]))
    return Fault(
        site_id=stored["site_id"],
        kind=FaultKind(stored["kind"]),
        start_at=span.start_at,
        end_at=span.end_at,
        amount=float(stored.get("amount", 0.0)),
    )


class FaultPlan:
    """The faults of a run, to be asked by site and time. More can be added while it runs."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self.faults: list[Fault] = []
        self._by_site: dict[str, list[Fault]] = {}
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Let one more fault happen."""
        self.faults.append(fault)
        self._by_site.setdefault(fault.site_id, []).append(fault)

    def active(self, site_id: str, at: datetime, *kinds: FaultKind) -> Fault | None:
        """The first fault of these kinds that holds a site at an instant."""
        for fault in self._by_site.get(site_id, ()):
            if fault.kind in kinds and fault.start_at <= at < fault.end_at:
                return fault
        return None

    def only(self, *kinds: FaultKind) -> "FaultPlan":
        """The faults of these kinds."""
        return FaultPlan(fault for fault in self.faults if fault.kind in kinds)

    def changes(self) -> list[datetime]:
        """Every instant at which a fault begins or ends, in order."""
        return sorted({at for fault in self.faults for at in (fault.start_at, fault.end_at)})


def demo_faults(
    fleet: VirtualFleet, window: Interval, *, recovery: timedelta = timedelta(minutes=30)
) -> tuple[Fault, ...]:
    """Five sites lost on the way: two offline (one of each vendor), one frozen, one islanded, one that ignores writes.

    They go one after another in the middle half of the event and recover `recovery` after its end.
    Hospitals are spared. A fleet too small for five different sites loses fewer.
    """
    random = np.random.default_rng([fleet.seed, 4])
    end_at = window.end_at + recovery
    wanted: Sequence[tuple[FaultKind, str]] = (
        (FaultKind.OFFLINE, "sunspec"),
        (FaultKind.OFFLINE, "tesla"),
        (FaultKind.FROZEN, "sunspec"),
        (FaultKind.ISLANDED, "sunspec"),
        (FaultKind.WRITE_IGNORED, "sunspec"),
    )
    taken: set[str] = set()
    faults = []
    for place, (kind, adapter) in enumerate(wanted):
        candidates = [
            virtual.site.id
            for virtual in fleet.sites
            if virtual.site.adapter == adapter
            and virtual.recipe.kind is not Kind.HOSPITAL
            and virtual.site.id not in taken
        ]
        if not candidates:
            continue
        site_id = str(random.choice(candidates))
        taken.add(site_id)
        share = 0.25 + 0.1 * (place + float(random.uniform(0.0, 0.9)))
        start_at = window.start_at + timedelta(minutes=round(window.duration.total_seconds() * share / 60.0))
        faults.append(Fault(site_id=site_id, kind=kind, start_at=as_utc(start_at), end_at=end_at))
    return tuple(faults)
