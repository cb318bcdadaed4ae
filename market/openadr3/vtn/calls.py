"""One request to an operation on objects, and what it needs. Called by `app.py`, `objects.py` and `nested.py`."""

import asyncio
from dataclasses import dataclass, field
from weakref import WeakValueDictionary

from starlette.requests import Request

from market.openadr3.vtn.operations import ObjectOperation
from market.openadr3.vtn.privacy import visible
from market.openadr3.vtn.queries import object_id
from market.openadr3.vtn.versions import Version
from vpp.domain.openadr3 import ObjectKind
from vpp.domain.peer import Caller
from vpp.ports import CallbackCheck, Clock, ObjectShelf

Answer = tuple[int, str]
"""A status, and JSON."""


class Turns:
    """One after the other for each client, so that one whose callbacks are slow keeps nobody else waiting."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def of(self, client_id: str) -> asyncio.Lock:
        """The lock of a client, the same for everybody who holds it or waits for it."""
        return self._locks.setdefault(client_id, asyncio.Lock())


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the operations need; `challenges`: whose callbacks are being asked."""

    shelf: ObjectShelf
    clock: Clock
    callbacks: CallbackCheck | None = None
    challenges: Turns = field(default_factory=Turns)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request whose caller is known and allowed."""

    desk: Desk
    version: Version
    operation: ObjectOperation
    caller: Caller
    request: Request
    body: bytes

    @property
    def kind(self) -> ObjectKind:
        return self.operation.kind

    def path_id(self, name: str = "object_id") -> str:
        """Return an id of the path.

        Raises:
            Problem: it cannot be one.
        """
        return object_id(self.request.path_params[name], name)

    async def ven_in_path(self) -> str | None:
        """Return the ven under which 3.0.1 nests resources, None elsewhere.

        Raises:
            Problem: there is no such ven for this caller.
        """
        if "ven_id" not in self.request.path_params:
            return None
        ven, _ = await visible(self.desk.shelf, self.caller, ObjectKind.VEN, self.path_id("ven_id"))
        return ven.id
