"""Whom an event is for. Called by `view` for each VEN and event.

Several targets of an event are alternatives (profile 2.0b, 8.2.3). A VEN is told only those of them that are
its own: what is said to others is none of its business.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from vpp.domain.grid_event import GridEvent, Target, TargetKind
from vpp.domain.peer import Peer

ANYBODY = (TargetKind.OTHER, "")
"""Stands in an index for events without targets."""
Key = tuple[TargetKind, str]


@dataclass(frozen=True, slots=True)
class Addressee:
    """One VEN as targets name it.

    `contexts` are the market contexts it takes part in; None is all.
    """

    ven_id: str
    keys: frozenset[Key]
    contexts: frozenset[str] | None

    def own(self, event: GridEvent) -> tuple[Target, ...] | None:
        """Return the event's targets this VEN stands for; None where the event is not for it."""
        if not event.targets:
            told = self.contexts is None or event.program in self.contexts
            return (Target(TargetKind.VEN, self.ven_id),) if told else None
        mine = dict.fromkeys(self._said(target) for target in event.targets if key_of(target) in self.keys)
        return tuple(mine) or None

    def _said(self, target: Target) -> Target:
        """A bare name of OpenADR 3 has no word in 2.0b: the VEN is named instead."""
        return Target(TargetKind.VEN, self.ven_id) if target.kind is TargetKind.OTHER else target


def addressee(peer: Peer, ven_id: str) -> Addressee:
    """Return a VEN as targets name it.

    Its groups are the peer's; its `resources`, `parties` and `market_contexts` are lists in the peer's
    configuration. A target of OpenADR 3, which is a name and no more, is taken for a group or a granted target.
    """
    keys: set[Key] = {(TargetKind.VEN, ven_id)}
    keys.update((TargetKind.GROUP, name) for name in peer.groups)
    keys.update((TargetKind.RESOURCE, name) for name in _names(peer.config, "resources"))
    keys.update((TargetKind.PARTY, name) for name in _names(peer.config, "parties"))
    keys.update((TargetKind.OTHER, name) for name in (*peer.groups, *peer.granted_targets))
    contexts = peer.config.get("market_contexts")
    return Addressee(
        ven_id, frozenset(keys), frozenset(_names(peer.config, "market_contexts")) if contexts is not None else None
    )


def key_of(target: Target) -> Key:
    """Return how an index knows a target; a kind nobody here knows matches nobody."""
    if target.kind is TargetKind.OTHER and target.label:
        return (TargetKind.OTHER, f"\0{target.label}\0{target.value}")
    return (target.kind, target.value)


def keys_of(event: GridEvent) -> Iterator[Key]:
    """Return what an index finds an event by."""
    if not event.targets:
        yield ANYBODY
    for target in event.targets:
        yield key_of(target)


def _names(config: Mapping[str, object], key: str) -> Iterable[str]:
    value = config.get(key)
    return [str(each) for each in value] if isinstance(value, list | tuple) else []
