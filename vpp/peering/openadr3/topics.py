"""What the MQTT topics of our OpenADR 3 VTN are called, and who may read which.

Called by `queue.py`, which says what is published, and by `vpp/gateway/notify`, which publishes it, tells
callers the names and has the broker hold them to it. Below `<prefix>/<tenant>/` there are three trees:

- `bl/…`: everything, for business logic only;
- `open/…`: programmes and events without targets, for every VEN;
- `vens/<venID>/…`: what concerns one VEN: itself, its resources, programmes and events targeted at it.
"""

from collections.abc import Iterable
from urllib.parse import quote

from vpp.domain.openadr3 import ObjectKind, Operation, StoredObject
from vpp.domain.peer import PeerRole

_COLLECTIONS = {kind: f"{kind.value.lower()}s" for kind in ObjectKind}
_OF_VENS = ("events", "programs", "resources")
_OPEN_DEPTHS = {1: ("programs",), 2: ("programs", ""), 3: ("programs", "", "events")}


class Topics:
    """Names of topics under one prefix; `only_open` where the broker knows no users and nothing may be private."""

    def __init__(self, prefix: str = "openadr3", *, only_open: bool = False) -> None:
        self.prefix, self.only_open = prefix, only_open

    def base(self, tenant_id: str) -> str:
        """What all topics of a tenant begin with."""
        return f"{self.prefix}/{quote(tenant_id, safe='')}"

    def for_business_logic(self, found: StoredObject, operation: Operation) -> list[str]:
        """Where every change is published."""
        if self.only_open:
            return []
        paths = [_COLLECTIONS[found.kind]]
        if found.kind in (ObjectKind.PROGRAM, ObjectKind.VEN) and operation is not Operation.CREATE:
            paths.append(f"{_COLLECTIONS[found.kind]}/{found.id}")
        if found.kind is ObjectKind.EVENT:
            paths.append(f"programs/{found.program_id}/events")
        return [f"{self.base(found.tenant_id)}/bl/{path}/{operation.value.lower()}" for path in paths]

    def for_everyone(self, found: StoredObject, operation: Operation) -> list[str]:
        """Where a programme or event without targets is published as well."""
        base, word = f"{self.base(found.tenant_id)}/open", operation.value.lower()
        if found.kind is ObjectKind.EVENT:
            return [f"{base}/programs/{found.program_id}/events/{word}"]
        if found.kind is not ObjectKind.PROGRAM:
            return []
        own = [] if operation is Operation.CREATE else [f"{base}/programs/{found.id}/{word}"]
        return [f"{base}/programs/{word}", *own]

    def for_ven(self, found: StoredObject, operation: Operation, ven_id: str) -> str:
        """Where something that concerns one VEN is published to it."""
        own = f"{self.base(found.tenant_id)}/vens/{ven_id}"
        path = own if found.kind is ObjectKind.VEN else f"{own}/{_COLLECTIONS[found.kind]}"
        return f"{path}/{operation.value.lower()}"

    def may_read(self, tenant_id: str, role: PeerRole, ven_ids: Iterable[str]) -> tuple[str, ...]:
        """Return the filters a client may subscribe to and receive from; `ven_ids`: of its own VENs."""
        base = self.base(tenant_id)
        if role is PeerRole.BL:
            return (f"{base}/#",)
        return (f"{base}/open/#", *(f"{base}/vens/{ven_id}/#" for ven_id in sorted(ven_ids)))

    def named(self, tenant_id: str, role: PeerRole, path: str) -> dict[str, str] | None:
        """Return the topics of a path under `/notifiers/mqtt/topics/` by operation, None where it has none.

        Whether the caller may ask, and whether the programme or VEN is there, is for the caller of this.
        """
        parts = path.strip("/").split("/")
        base = self.base(tenant_id)
        if parts[0] == "vens" and len(parts) in (2, 3) and not self.only_open:
            if len(parts) == 3 and parts[2] not in _OF_VENS:
                return None
            return _operations(f"{base}/{'/'.join(parts)}", created=len(parts) == 3)
        if role is PeerRole.BL and not self.only_open:
            known = len(parts) == 1 and parts[0] in _COLLECTIONS.values()
            tree = "bl"
        else:
            known, tree = False, "open"
        wanted = _OPEN_DEPTHS.get(len(parts), ())
        if not known and not (wanted and all(not a or a == b for a, b in zip(wanted, parts, strict=True))):
            return None
        return _operations(f"{base}/{tree}/{'/'.join(parts)}", created=len(parts) != 2)


def _operations(path: str, *, created: bool) -> dict[str, str]:
    """CREATE is left out for one object: before it is there nobody can ask for its topics."""
    words = ("CREATE", "UPDATE", "DELETE") if created else ("UPDATE", "DELETE")
    return {word: f"{path}/{word.lower()}" for word in words} | {"ALL": f"{path}/+"}
