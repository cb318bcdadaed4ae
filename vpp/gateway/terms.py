"""Room gateway: what is agreed with one VTN. Made by `vpp/bootstrap` from a peer or from settings."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer
from vpp.gateway.hearing import HearingTerms


class OptChanges(StrEnum):
    """When a VTN is told that the fleet's capability has changed since it was answered."""

    NEVER = "never"
    BEFORE = "before"
    """Until the event begins: an optOut then ends our part, an optIn takes it up again."""
    ALWAYS = "always"
    """During the event as well: the VTN is told, and the fleet goes on delivering what it can."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnTerms:
    """What is agreed with one VTN.

    Attributes:
        ven_name: our name as its VEN.
        program_of: our programme's name by market context; a context not named is refused.
        ven_id: the venID it gave us beforehand, if it did.
        vtn_id: the vtnID it must show; any if None.
        poll_s: how often we ask where it does not say [s].
        opt_changes: when it is told that the fleet's capability has changed.
        spread: whether polls keep a phase of their own between those of other VENs.
        hearing: what it may do beside asking for power.
        peer: its row, where it has one: what it is asked to report is kept by that.
    """

    ven_name: str
    program_of: Mapping[str, str] = field(default_factory=dict)
    ven_id: str | None = None
    vtn_id: str | None = None
    poll_s: float = 60.0
    opt_changes: OptChanges = OptChanges.NEVER
    spread: bool = False
    hearing: HearingTerms = field(default_factory=HearingTerms)
    peer: Peer | None = None

    @property
    def peer_id(self) -> str | None:
        """The id of its row, where it has one."""
        return None if self.peer is None else self.peer.id

    @classmethod
    def of(cls, peer: Peer, *, ven_name: str, poll_s: float) -> "VtnTerms":
        """Return the terms a peer is configured with (keys as in `vpp.peering.NewPeer`).

        Keys of `peer.config` read here: `ven_name`, `ven_id`, `programs`, `poll_s`, `opt_changes`, and those of
        `HearingTerms`; `reports` is read by `asking`.

        Args:
            peer: a VTN above us.
            ven_name: our name where the peer has none of its own for us.
            poll_s: how often we ask where neither peer nor VTN say [s].

        Raises:
            InvalidRequest: a value of its configuration cannot be.
        """
        config = peer.config
        programs = config.get("programs", {})
        if not isinstance(programs, dict) or not all(isinstance(name, str) for name in programs.values()):
            raise InvalidRequest("config.programs", programs, "programmes by market context")
        return cls(
            ven_name=_text(config, "ven_name") or ven_name,
            program_of={str(context): name for context, name in programs.items()},
            ven_id=_text(config, "ven_id"),
            vtn_id=peer.party_id,
            poll_s=_seconds(config, poll_s),
            opt_changes=_opt_changes(config),
            spread=True,
            hearing=HearingTerms.of(peer),
            peer=peer,
        )


def _text(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"config.{key}", value, "a text")
    return value or None


def _seconds(config: Mapping[str, object], default_s: float) -> float:
    value = config.get("poll_s", default_s)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86_400:
        raise InvalidRequest("config.poll_s", value, "1 to 86400 seconds")
    return float(value)


def _opt_changes(config: Mapping[str, object]) -> OptChanges:
    value = config.get("opt_changes", OptChanges.ALWAYS)
    try:
        return OptChanges(str(value))
    except ValueError as error:
        raise InvalidRequest("config.opt_changes", value, f"one of {', '.join(OptChanges)}") from error
