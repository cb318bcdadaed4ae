"""What can be said of a peer on the command line, when it is added and when it is changed. Used by `peers`."""

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from vpp.domain.errors import InvalidRequest
from vpp.domain.peer import PeerRole

Url = Annotated[str | None, typer.Option(help="A VTN's address; for a 2.0b VEN, where pushes go.")]
PartyId = Annotated[
    str | None, typer.Option("--party-id", "--ven-id", "--vtn-id", help="venID or vtnID in 2.0b, venName in 3.")
]
ClientId = Annotated[str | None, typer.Option(help="Its client id with us, or ours with a VTN.")]
SecretName = Annotated[
    str | None, typer.Option("--client-secret-name", help="File in VPP_SECRETS_DIR with our client secret at a VTN.")
]
Fingerprint = Annotated[
    str | None,
    typer.Option("--fingerprint", "--vtn-fingerprint", help="Of its certificate, as AA:BB:... of ten bytes."),
]
Cert = Annotated[
    str | None, typer.Option(help="A VEN's certificate (PEM file); for a VTN, our own: a file in VPP_SECRETS_DIR.")
]
KeyName = Annotated[str | None, typer.Option("--key", help="Its key, for a VTN: a file in VPP_SECRETS_DIR.")]
CaName = Annotated[str | None, typer.Option("--ca", help="Who vouches for the VTN: a file in VPP_SECRETS_DIR.")]
VenName = Annotated[str | None, typer.Option(help="Our name as a VEN of the VTN.")]
Programs = Annotated[
    list[str] | None, typer.Option("--program", metavar="CONTEXT=NAME", help="Our programme by the VTN's name for it.")
]
Forward = Annotated[
    bool | None, typer.Option("--forward/--no-forward", help="Pass the VTN's events on to those below us.")
]
Sign = Annotated[bool | None, typer.Option("--sign/--no-sign", help="Sign what we send (2.0b).")]
PollS = Annotated[float | None, typer.Option(min=1, max=86_400, help="How often we ask the VTN, in seconds.")]
Groups = Annotated[list[str] | None, typer.Option("--group", "--groups", help="A group it is in; may be repeated.")]
Targets = Annotated[
    list[str] | None, typer.Option("--target", "--targets", help="A target it may see, or we ask a VTN for (3).")
]
More = Annotated[
    list[str] | None, typer.Option("--config", metavar="KEY=JSON", help="Anything else of its configuration.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What was said of a peer. None or no list: nothing was said. An empty text, alone: it is to have none."""

    url: Url = None
    party_id: PartyId = None
    client_id: ClientId = None
    client_secret_name: SecretName = None
    fingerprint: Fingerprint = None
    cert: Cert = None
    key: KeyName = None
    ca: CaName = None
    ven_name: VenName = None
    program: Programs = None
    forward: Forward = None
    sign: Sign = None
    poll_s: PollS = None
    group: Groups = None
    target: Targets = None
    config: More = None

    def fields(self, role: PeerRole) -> dict[str, Any]:
        """What was said, by the fields of `vpp.peering.NewPeer` but `config`; what is to be empty is None or ().

        Raises:
            InvalidRequest: the file of a certificate cannot be read.
        """
        below = role is not PeerRole.VTN
        texts = {
            "url": self.url, "party_id": self.party_id, "client_id": self.client_id, "fingerprint": self.fingerprint,
        }  # fmt: skip
        lists = {"groups": self.group, "granted_targets": self.target if below else None}
        said: dict[str, Any] = {name: text or None for name, text in texts.items() if text is not None}
        said |= {name: tuple(filter(None, names)) for name, names in lists.items() if names}
        if below and self.cert is not None:
            said["certificate_pem"] = _read("cert", self.cert) if self.cert else None
        return said

    def configuration(self, role: PeerRole) -> dict[str, Any]:
        """What was said of its configuration, by its keys; None for a key it is not to have.

        Raises:
            InvalidRequest: a pair is none, or JSON is none.
        """
        above = role is PeerRole.VTN
        own: dict[str, Any] = {
            "ven_name": self.ven_name, "forward": self.forward, "sign": self.sign, "poll_s": self.poll_s,
            "client_secret_name": self.client_secret_name, "cert_name": self.cert if above else None,
            "key_name": self.key, "ca_name": self.ca,
            "programs": _pairs("program", self.program) if self.program else None,
            "targets": list(filter(None, self.target)) if above and self.target else None,
        }  # fmt: skip
        said = {key: None if value in ("", [], {}) else value for key, value in own.items() if value is not None}
        return said | {key: _json("config", key, text) for key, text in _pairs("config", self.config).items()}


def told_of_a_peer(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command an option for each field of `Told` in the place of its parameter `told`."""
    of_told = inspect.signature(Told).parameters
    parameters: list[inspect.Parameter] = []
    for name, parameter in inspect.signature(command).parameters.items():
        parameters += of_told.values() if name == "told" else [parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY)]

    @wraps(command)
    def spread(**given: Any) -> None:
        told = Told(**{name: given.pop(name) for name in of_told})
        command(told=told, **given)

    spread.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]  # read by typer
    spread.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return spread


def _pairs(option: str, given: list[str] | None) -> dict[str, str]:
    """`KEY=VALUE` texts by key; a key may hold `=` where it is the market context of 2.0b, an address."""
    pairs: dict[str, str] = {}
    for text in filter(None, given or ()):
        split = str.partition if option == "config" else str.rpartition
        key, sign, value = split(text, "=")
        if not sign or not key or not value:
            raise InvalidRequest(f"--{option}", text, "KEY=VALUE")
        pairs[key] = value
    return pairs


def _json(option: str, key: str, text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        if text[:1] in '{["':
            raise InvalidRequest(f"--{option} {key}", text, "JSON, or a plain word") from None
        return text


def _read(option: str, path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InvalidRequest(f"--{option}", path, "a file that can be read") from error
