"""Every operation of our VTN: where it is, which scopes open it, which statuses it lists. Called by `app.py`.

The facts are those of the OpenAPI documents of 3.1.0 and 3.0.1. A read scope of a VEN (`read_targets`,
`read_ven_objects`) is no more than `read_all`, which is business logic's, so that one opens what those do.
3.0.1 has one read scope for all, `read_all`; there the read scopes of 3.1.0 will do as well, because a VEN
registered here holds those, and what it sees depends on who it is, not on which of them it shows.
`/notifiers/mqtt/topics/programs` and below ask for `read_all` and yet list no 403: they are open to any reader.
"""

from dataclasses import dataclass, replace
from enum import StrEnum

from vpp.domain.openadr3 import ObjectKind

READ_ALL, READ_BL = "read_all", "read_bl"
READ_TARGETS, READ_OWN = "read_targets", "read_ven_objects"
ANY_READ = frozenset({READ_ALL, READ_BL, READ_TARGETS, READ_OWN})


class Action(StrEnum):
    LIST = "list"
    CREATE = "create"
    READ = "read"
    REPLACE = "replace"
    DELETE = "delete"


METHODS = {
    Action.LIST: "GET",
    Action.CREATE: "POST",
    Action.READ: "GET",
    Action.REPLACE: "PUT",
    Action.DELETE: "DELETE",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectOperation:
    """One operation on objects.

    Attributes:
        path: with `{object_id}`, and `{ven_id}` where 3.0.1 nests resources under their ven.
        scopes: any of them opens it.
        listed: the statuses its OpenAPI document lists.
    """

    action: Action
    kind: ObjectKind
    path: str
    scopes: frozenset[str]
    listed: frozenset[int]

    @property
    def method(self) -> str:
        return METHODS[self.action]


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicOperation:
    """One `/notifiers/mqtt/topics/…`: its path below that, what its id is of, which scopes open it."""

    path: str
    scopes: frozenset[str]
    kind: ObjectKind | None = None
    listed: frozenset[int] = frozenset({200, 400, 401, 403, 404, 500})


_WRITE = {
    ObjectKind.PROGRAM: "write_programs",
    ObjectKind.EVENT: "write_events",
    ObjectKind.REPORT: "write_reports",
    ObjectKind.SUBSCRIPTION: "write_subscriptions",
    ObjectKind.VEN: "write_vens",
    ObjectKind.RESOURCE: "write_vens",
}
_READ = {
    kind: frozenset({READ_TARGETS if kind in (ObjectKind.PROGRAM, ObjectKind.EVENT) else READ_OWN, READ_ALL})
    for kind in ObjectKind
}
_LISTED = {
    Action.LIST: frozenset({200, 400, 401, 403, 500}),
    Action.CREATE: frozenset({201, 400, 401, 403, 409, 500}),
    Action.READ: frozenset({200, 400, 401, 403, 404, 500}),
    Action.REPLACE: frozenset({200, 400, 401, 403, 404, 409, 500}),
    Action.DELETE: frozenset({200, 400, 401, 403, 404, 500}),
}
_COLLECTIONS = {
    ObjectKind.PROGRAM: "/programs",
    ObjectKind.EVENT: "/events",
    ObjectKind.REPORT: "/reports",
    ObjectKind.SUBSCRIPTION: "/subscriptions",
    ObjectKind.VEN: "/vens",
    ObjectKind.RESOURCE: "/resources",
}
_ONE = (Action.READ, Action.REPLACE, Action.DELETE)


def operations_310() -> list[ObjectOperation]:
    """The operations on objects of 3.1.0."""
    return [_of_310(action, kind) for kind in ObjectKind for action in Action]


def operations_301() -> list[ObjectOperation]:
    """The operations on objects of 3.0.1: no 401, resources below their ven, one scope to read."""
    return [_of_301(operation) for operation in operations_310()]


def topic_operations() -> list[TopicOperation]:
    """The operations that name MQTT topics."""
    only_bl, own = frozenset({READ_BL, READ_ALL}), frozenset({READ_OWN, READ_ALL, READ_BL})
    open_to_readers = frozenset({200, 400, 401, 404, 500})
    return [
        TopicOperation(path="programs", scopes=ANY_READ, listed=open_to_readers),
        *(
            TopicOperation(path=path, scopes=ANY_READ, kind=ObjectKind.PROGRAM, listed=open_to_readers)
            for path in ("programs/{object_id}", "programs/{object_id}/events")
        ),
        *(
            TopicOperation(path=path, scopes=only_bl)
            for path in ("events", "reports", "subscriptions", "vens", "resources")
        ),
        *(
            TopicOperation(path=f"vens/{{object_id}}{below}", scopes=own, kind=ObjectKind.VEN)
            for below in ("", "/events", "/programs", "/resources")
        ),
    ]


def _of_310(action: Action, kind: ObjectKind) -> ObjectOperation:
    listed = _LISTED[action]
    if kind is ObjectKind.RESOURCE and action in (Action.LIST, Action.CREATE):
        listed |= {404}
    if kind is ObjectKind.VEN and action is Action.CREATE:
        listed -= {409}
    if kind is ObjectKind.PROGRAM and action is Action.REPLACE:
        listed -= {401}
    return ObjectOperation(
        action=action,
        kind=kind,
        path=_COLLECTIONS[kind] + ("/{object_id}" if action in _ONE else ""),
        scopes=_READ[kind] if METHODS[action] == "GET" else frozenset({_WRITE[kind]}),
        listed=listed,
    )


def _of_301(operation: ObjectOperation) -> ObjectOperation:
    return replace(
        operation,
        path=operation.path.replace("/resources", "/vens/{ven_id}/resources"),
        scopes=ANY_READ if operation.method == "GET" else operation.scopes,
        listed=operation.listed - {401},
    )
