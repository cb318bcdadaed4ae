"""What our OpenADR 3 VTN keeps: six kinds of object, how they are asked for, and what happens to them.

Spoken between `market/openadr3` (which knows HTTP and both versions of the wire) and `vpp/peering`
(which keeps the objects). One model serves 3.1.0 and 3.0.1: bodies are those of 3.1.0, and what only
3.0.1 says stays beside or inside them, so that either version can be written from one object.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

VERSION = "3.1.0"
"""What bodies are kept in."""
OLDER_VERSION = "3.0.1"


class ObjectKind(StrEnum):
    """The kinds of object; the names are the wire's `objectTypes`."""

    PROGRAM = "PROGRAM"
    EVENT = "EVENT"
    REPORT = "REPORT"
    SUBSCRIPTION = "SUBSCRIPTION"
    VEN = "VEN"
    RESOURCE = "RESOURCE"


class Operation(StrEnum):
    """What was done to an object; the names are 3.1.0's (3.0.1 says GET, POST, PUT, DELETE)."""

    READ = "READ"
    CREATE = "CREATE"
    UPDATE = "UPDATE"
    DELETE = "DELETE"


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectDraft:
    """An object to be created, or to take the place of one.

    Attributes:
        body: the request's body as 3.1.0 has it, `targets` included; id, createdDateTime,
            modificationDateTime, objectType and clientID in it are ignored.
        client_id: whose it is; required for reports, subscriptions, vens and resources.
        target_types: 3.0.1's type of a target by its value, where 3.0.1 named one (`{"g1": ("GROUP",)}`).
        api_version: through which it came; a subscription's notifications speak this version.
        keeps_targets: its targets are those of the object it takes the place of, and must be so still.
    """

    kind: ObjectKind
    tenant_id: str
    body: Mapping[str, Any]
    client_id: str | None = None
    target_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    api_version: str = VERSION
    keeps_targets: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One object as it is kept.

    Attributes:
        text: the whole object as 3.1.0 JSON, server-set fields included, but without its `targets`
            (unless they are null or empty), because who asks decides which of them are shown.
        targets: every target of the object, whoever may see them.
        client_id: whose it is; None for programs and events.
        name: programName, eventName, venName or resourceName; clientName of reports and subscriptions.
        program_id: of an event, a report (its event's) or a subscription.
        event_id: of a report.
        ven_id: of a resource.
        number: the order of creation: later is greater, across all kinds.
        api_version: through which it was last written; a subscriber of 3.0.1 is told in 3.0.1.
    """

    kind: ObjectKind
    id: str
    tenant_id: str
    text: str
    targets: tuple[str, ...] = ()
    client_id: str | None = None
    name: str | None = None
    program_id: str | None = None
    event_id: str | None = None
    ven_id: str | None = None
    created_at: datetime
    modified_at: datetime
    target_types: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    number: int = 0
    api_version: str = VERSION

    def wire_text(self, shown: frozenset[str] | None = None) -> str:
        """Return the object as 3.1.0 JSON; of its targets those in `shown`, all of them where that is None."""
        if not self.targets:
            return self.text
        targets = self.targets if shown is None else [each for each in self.targets if each in shown]
        return f'{self.text[:-1]},"targets":{json.dumps(targets, ensure_ascii=False)}}}'

    def wire(self, shown: frozenset[str] | None = None) -> dict[str, Any]:
        """Return the object as 3.1.0 JSON, parsed."""
        found: dict[str, Any] = json.loads(self.wire_text(shown))
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectQuery:
    """Which objects are asked for, in order of creation.

    Attributes:
        name: as in `StoredObject.name`.
        client_id: only what belongs to this client.
        any_target: only what has at least one of these targets; None does not filter.
        target_type: 3.0.1's type that such a target must have, where its type is known.
        sight: only what has no target, or at least one of these; None sees everything.
        objects: only subscriptions to any of these kinds.
        active_at: only events that are not over at this instant; events without an end never are.
    """

    kind: ObjectKind
    tenant_id: str
    name: str | None = None
    program_id: str | None = None
    event_id: str | None = None
    ven_id: str | None = None
    client_id: str | None = None
    any_target: frozenset[str] | None = None
    target_type: str | None = None
    sight: frozenset[str] | None = None
    objects: tuple[ObjectKind, ...] = ()
    active_at: datetime | None = None
    skip: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Something that happened to an object. For a deletion `object` is what was deleted."""

    operation: Operation
    object: StoredObject
    at: datetime
    before: StoredObject | None = None
