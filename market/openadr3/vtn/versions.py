"""The two versions of the wire over one model. Called by `objects.py`, and through bootstrap by whoever notifies.

A version reads a request's body into 3.1.0's words and writes a stored object in its own. 3.1.0 has nothing to
translate. What 3.0.1 says otherwise: targets are lists of a type with values (3.1.0 keeps the values; their types
are remembered beside the object, and a target 3.1.0 named has the type GROUP); a report names its program; an
event always has intervals, and a period always a start; a resource's ven is in the path. Fields that 3.1.0 dropped
from programs are extra fields there, and kept.
"""

import json
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping
from typing import Any, Protocol

from pydantic import ValidationError

from market.openadr3.vtn.bodies import checked
from market.openadr3.vtn.models import OLDER_NOW, ValuesMap
from market.openadr3.vtn.problems import BAD_REQUEST, Problem
from vpp.domain.openadr3 import OLDER_VERSION, VERSION, ObjectKind, Operation, StoredObject

_DEFAULT_TYPE = "GROUP"
_WRITTEN_MAX_CHARS = 32_000_000
_NOW = "0001-01-01T00:00:00Z"
_OPERATIONS_301 = {
    Operation.READ: "GET", Operation.CREATE: "POST", Operation.UPDATE: "PUT", Operation.DELETE: "DELETE",
}  # fmt: skip
_OPERATIONS_310 = {old: new.value for new, old in _OPERATIONS_301.items()}
_NAMED_AS_HTTP = " operations named as HTTP does"
"""Remembered among the types of targets, of which none has this name, where a subscriber used those names."""


class Version(Protocol):
    """One version of the wire."""

    name: str
    targets_parameter: str
    targets_required: bool
    """Whether a VEN must name targets to be shown what has any; else it is shown all that is granted to it."""
    resources_in_vens: bool
    """Whether a ven is created and shown with its resources."""

    def read(self, kind: ObjectKind, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """Return a body in 3.1.0's words, checked, and the types of its targets where the version has such.

        Raises:
            Problem: the body does not pass its schema.
        """
        ...

    def write(self, stored: StoredObject, shown: frozenset[str] | None) -> str:
        """Return an object as JSON, with those of its targets that are in `shown`; all where that is None."""
        ...

    def operation(self, operation: Operation) -> str:
        """Return what a notification calls an operation."""
        ...


class Version310:
    """3.1.0: what is kept is what is sent."""

    name = VERSION
    targets_parameter = "targets"
    targets_required = True
    resources_in_vens = False

    def read(self, kind: ObjectKind, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """See `Version.read`."""
        return checked(kind, body), {}

    def write(self, stored: StoredObject, shown: frozenset[str] | None) -> str:
        """See `Version.write`."""
        return stored.wire_text(shown)

    def operation(self, operation: Operation) -> str:
        """See `Version.operation`."""
        return operation.value


class Version301:
    """3.0.1, translated at this edge."""

    name = OLDER_VERSION
    targets_parameter = "targetValues"
    targets_required = False
    resources_in_vens = True

    def __init__(self) -> None:
        self._written = _Written()

    def read(self, kind: ObjectKind, body: dict[str, Any]) -> tuple[dict[str, Any], dict[str, tuple[str, ...]]]:
        """See `Version.read`."""
        _require(kind, body)
        types: dict[str, tuple[str, ...]] = {}
        translated = _with_plain_targets(body, types)
        if kind is ObjectKind.EVENT and isinstance(body.get("reportDescriptors"), list):
            translated["reportDescriptors"] = [_with_plain_targets(each, types) for each in body["reportDescriptors"]]
        if kind is ObjectKind.SUBSCRIPTION and isinstance(body.get("objectOperations"), list):
            translated["objectOperations"] = [_operations_310(each) for each in body["objectOperations"]]
            if translated["objectOperations"] != body["objectOperations"]:
                types[_NAMED_AS_HTTP] = ()
        return checked(kind, translated), types

    def write(self, stored: StoredObject, shown: frozenset[str] | None) -> str:
        """See `Version.write`."""
        key = (stored.id, stored.modified_at, stored.program_id)
        text = self._written.get(key)
        if text is None:
            text = _text_301(stored)
            self._written.keep(key, text)
        if not stored.targets:
            return text
        targets = stored.targets if shown is None else [each for each in stored.targets if each in shown]
        typed = json.dumps(_typed_targets(targets, stored.target_types), ensure_ascii=False)
        return f'{text[:-1]},"targets":{typed}}}'

    def operation(self, operation: Operation) -> str:
        """See `Version.operation`."""
        return _OPERATIONS_301[operation]


class _Written:
    """Texts written lately, by what determines them; together of a bounded length."""

    def __init__(self, chars_max: int = _WRITTEN_MAX_CHARS) -> None:
        self._chars_max = chars_max
        self._chars = 0
        self._texts: OrderedDict[Hashable, str] = OrderedDict()

    def get(self, key: Hashable) -> str | None:
        return self._texts.get(key)

    def keep(self, key: Hashable, text: str) -> None:
        self._chars += len(text) - len(self._texts.pop(key, ""))
        self._texts[key] = text
        while self._chars > self._chars_max and self._texts:
            self._chars -= len(self._texts.popitem(last=False)[1])


VERSIONS: Mapping[str, Version] = {each.name: each for each in (Version310(), Version301())}
"""Both versions, by name."""


def render_object(stored: StoredObject, shown: frozenset[str] | None, version: str) -> dict[str, Any]:
    """Return an object as a version of the wire has it, with those of its targets that are in `shown` (None: all)."""
    found: dict[str, Any] = json.loads(VERSIONS[version].write(stored, shown))
    return found


def _text_301(stored: StoredObject) -> str:
    """Return an object as 3.0.1 has it, but for its targets."""
    wire = json.loads(stored.text)
    if stored.kind is ObjectKind.REPORT and stored.program_id is not None:
        wire["programID"] = stored.program_id
    if stored.kind is ObjectKind.EVENT:
        _complete_event(wire, stored.target_types)
    if stored.kind is ObjectKind.SUBSCRIPTION and _NAMED_AS_HTTP in stored.target_types:
        for each in wire["objectOperations"]:
            each["operations"] = [_OPERATIONS_301[Operation(name)] for name in each["operations"]]
    text = json.dumps(wire, ensure_ascii=False, separators=(",", ":"))
    return text.replace(f'"start":"{OLDER_NOW}"', '"start":"0000-00-00"')


def _require(kind: ObjectKind, body: Mapping[str, Any]) -> None:
    """Refuse what 3.0.1 requires and 3.1.0 does not."""
    required = {
        ObjectKind.EVENT: ("programID", "intervals"),
        ObjectKind.REPORT: ("programID", "eventID"),
        ObjectKind.SUBSCRIPTION: ("clientName", "programID"),
    }
    for field in required.get(kind, ()):
        if body.get(field) is None:
            raise Problem(BAD_REQUEST, f"{field}: Field required")


def _with_plain_targets(said: Any, types: dict[str, tuple[str, ...]]) -> Any:
    """Return an object with 3.0.1's targets as values, noting the type of each."""
    if not isinstance(said, dict) or not isinstance(said.get("targets"), list):
        return dict(said) if isinstance(said, dict) else said
    found: dict[str, None] = {}
    for number, target in enumerate(said["targets"]):
        try:
            entry = ValuesMap.model_validate(target)
        except ValidationError as error:
            raise Problem(BAD_REQUEST, f"targets.{number}: {error.errors()[0]['msg']}") from None
        for value in entry.values:
            name = value if isinstance(value, str) else json.dumps(value)
            found[name] = None
            types[name] = tuple(dict.fromkeys((*types.get(name, ()), entry.type)))
    return said | {"targets": list(found)}


def _typed_targets(targets: Iterable[str], types: Mapping[str, tuple[str, ...]]) -> list[dict[str, Any]]:
    grouped: dict[str, list[str]] = {}
    for target in targets:
        for name in types.get(target) or (_DEFAULT_TYPE,):
            grouped.setdefault(name, []).append(target)
    return [{"type": name, "values": values} for name, values in grouped.items()]


def _operations_310(operations: Any) -> Any:
    """3.0.1's document lists 3.1.0's names of operations, its clients also those of HTTP: both are understood, and
    the subscriber reads its own."""
    if not isinstance(operations, dict) or not isinstance(operations.get("operations"), list):
        return operations
    names = [_OPERATIONS_310.get(name, name) if isinstance(name, str) else name for name in operations["operations"]]
    return operations | {"operations": names}


def _complete_event(wire: dict[str, Any], types: Mapping[str, tuple[str, ...]]) -> None:
    """Say what 3.0.1 requires of an event, and its report descriptors' targets in 3.0.1's way."""
    wire.setdefault("intervals", [])
    for descriptor in wire.get("reportDescriptors") or ():
        if descriptor.get("targets"):
            descriptor["targets"] = _typed_targets(descriptor["targets"], types)
    periods = [wire.get("intervalPeriod"), *(each.get("intervalPeriod") for each in wire["intervals"])]
    for period in periods:
        if period is not None:
            period.setdefault("start", _NOW)
