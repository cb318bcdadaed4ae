"""Room gateway, OpenADR 3 VEN: what is agreed with one VTN. Made by `vpp/bootstrap` from a peer."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import Peer
from vpp.domain.ven3 import VenWanted
from vpp.gateway.hearing import HearingTerms
from vpp.gateway.ven3.wake import CALLBACK_PATH


class Push(StrEnum):
    """How a VTN tells us that something changed, beside our polling."""

    WEBHOOK = "webhook"
    MQTT = "mqtt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ven3Terms:
    """What is agreed with one VTN.

    Attributes:
        program_of: our programme by the VTN's name or id of it; one not named is refused.
        targets: asked for in addition to those the VTN has given our VEN and resources.
        callback_url: where its webhooks reach us; None subscribes to nothing.
        hears_mqtt: whether we listen to its broker, if it has one.
        poll_s: how often we ask [s].
        seed: fixes random starts and the jitter of retries.
        hearing: what it may do beside asking for power.
        peer_id: its row, where it has one: how it stands is kept there.
    """

    tenant_id: str
    wanted: VenWanted
    program_of: Mapping[str, str]
    targets: tuple[str, ...] = ()
    callback_url: str | None = None
    hears_mqtt: bool = False
    poll_s: float = 60.0
    seed: int = 0
    hearing: HearingTerms = field(default_factory=HearingTerms)
    peer_id: str | None = None

    @classmethod
    def of(cls, peer: Peer, *, ven_name: str, poll_s: float, public_url: str | None, seed: int) -> "Ven3Terms":
        """Return the terms a peer is configured with.

        Keys of `peer.config` read here, beside those of `vpp.peering.NewPeer` (`ven_name`, `programs`, `poll_s`,
        `targets`): `resources` (names to have there), `attributes` (of our VEN: values by type), `create_ven`
        (false: only look for what is there) and `push` (`webhook`, `mqtt` or a list of both; polling goes on
        beside them), and those of `HearingTerms`.

        Args:
            ven_name: our name where the peer has none of its own for us.
            poll_s: how often we ask where the peer does not say [s].
            public_url: where peers reach our portal; webhooks need it.

        Raises:
            InvalidRequest: a value of its configuration cannot be.
        """
        config = peer.config
        push = _push(config.get("push", []))
        if Push.WEBHOOK in push and public_url is None:
            raise InvalidRequest("VPP_PUBLIC_URL", None, f"where {peer.name} reaches us: it is to push by webhook")
        return cls(
            tenant_id=peer.tenant_id,
            wanted=VenWanted(
                name=_one_text(config, "ven_name") or peer.party_id or ven_name,
                attributes=_attributes(config.get("attributes", {})),
                resources=_texts(config, "resources"),
                may_create=config.get("create_ven", True) is True,
            ),
            program_of=_programs(config.get("programs", {})),
            targets=_texts(config, "targets"),
            callback_url=f"{public_url}{CALLBACK_PATH}/{peer.name}" if public_url and Push.WEBHOOK in push else None,
            hears_mqtt=Push.MQTT in push,
            poll_s=_seconds(config, poll_s),
            seed=seed,
            hearing=HearingTerms.of(peer),
            peer_id=peer.id,
        )


def _one_text(config: Mapping[str, object], key: str) -> str | None:
    value = config.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"config.{key}", value, "a text")
    return value or None


def _texts(config: Mapping[str, object], key: str) -> tuple[str, ...]:
    value = config.get(key, [])
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
        raise InvalidRequest(f"config.{key}", value, "a list of texts")
    return tuple(dict.fromkeys(value))


def _programs(value: object) -> dict[str, str]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value.values()):
        raise InvalidRequest("config.programs", value, "our programmes by the VTN's names of them")
    return {str(theirs): ours for theirs, ours in value.items()}


def _attributes(value: object) -> dict[str, tuple[float | str, ...]]:
    right = 'lists of numbers or texts by attribute, as {"MAX_POWER_EXPORT": [500]}'
    if not isinstance(value, dict):
        raise InvalidRequest("config.attributes", value, right)
    found = {}
    for kind, values in value.items():
        if not isinstance(values, list) or not all(
            isinstance(each, str | int | float) and not isinstance(each, bool) for each in values
        ):
            raise InvalidRequest(f"config.attributes.{kind}", values, right)
        found[str(kind)] = tuple(values)
    return found


def _push(value: object) -> frozenset[Push]:
    wanted = value if isinstance(value, list) else [value]
    try:
        return frozenset(Push(str(each)) for each in wanted)
    except ValueError as error:
        raise InvalidRequest("config.push", value, f"of {', '.join(Push)}, one or a list") from error


def _seconds(config: Mapping[str, object], default_s: float) -> float:
    value = config.get("poll_s", default_s)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 86_400:
        raise InvalidRequest("config.poll_s", value, "1 to 86400 seconds")
    return float(value)
