"""A target as one plain text, as OpenADR 3.1 has them, and back without losing its kind.

Spoken by `market/openadr3`, which writes events, and by `vpp/peering`, which grants targets to VENs. A group
is its bare name, because that is what a plain target in 3.1 means: whoever has been granted it. The other
kinds stand before a colon: `ven:plant-7`, `resource:heat-pump`, `party:acme`, `other:serviceArea:north`.
A group whose name would read as one of those is written `group:…`. So a VEN sees the events aimed at it by
name where it is granted `ven:` and its venName, and those of its groups where it is granted their names.
"""

from vpp.domain.errors import InvalidRequest
from vpp.domain.grid_event import Target, TargetKind

MAX_TARGET_LENGTH = 128
"""OpenADR 3.1, schema `target`."""

_OTHER = f"{TargetKind.OTHER.value}:"
_KINDS = {kind.value: kind for kind in TargetKind}


def target_text(target: Target) -> str:
    """Return the text of a target; different targets have different texts.

    Raises:
        InvalidRequest: it would be longer than OpenADR 3.1 allows.
    """
    if target.kind is TargetKind.OTHER:
        text = f"{_OTHER}{_escaped(target.label)}:{target.value}"
    elif target.kind is TargetKind.GROUP and target.value and _kind_of(target.value) is None:
        text = target.value
    else:
        text = f"{target.kind.value}:{target.value}"
    if len(text) > MAX_TARGET_LENGTH:
        raise InvalidRequest("target", text, f"at most {MAX_TARGET_LENGTH} characters, its kind included")
    return text


def target_of_text(text: str) -> Target:
    """Return the target a text stands for; whatever carries no kind is a group."""
    kind = _kind_of(text)
    if kind is None:
        return Target(TargetKind.GROUP, text)
    value = text.removeprefix(f"{kind.value}:")
    if kind is not TargetKind.OTHER:
        return Target(kind, value)
    label, colon, rest = value.partition(":")
    return Target(kind, rest if colon else label, _unescaped(label) if colon else "")


def _kind_of(text: str) -> TargetKind | None:
    kind, colon, _ = text.partition(":")
    return _KINDS.get(kind) if colon else None


def _escaped(label: str) -> str:
    return label.replace("%", "%25").replace(":", "%3A")


def _unescaped(label: str) -> str:
    return label.replace("%3A", ":").replace("%25", "%")
