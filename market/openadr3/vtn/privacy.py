"""Who may see and write what: object privacy as the definition has it. Called by `objects.py`.

Business logic sees everything. A VEN sees the reports, subscriptions, vens and resources that carry its clientID,
and of programs and events those without targets, and those with a target that is granted to it (on its ven, its
resources, or its configuration as a peer) and, in lists of 3.1.0, that its request names as well. Of an object's
targets it is shown only those. What it may not see does not exist for it: 404, never 403.
"""

from dataclasses import dataclass, replace

from market.openadr3.vtn.problems import BAD_REQUEST, FORBIDDEN, Problem, not_found
from vpp.domain.openadr3 import ObjectKind, ObjectQuery, StoredObject
from vpp.domain.peer import Caller, PeerRole
from vpp.ports import ObjectShelf

TARGETED = frozenset({ObjectKind.PROGRAM, ObjectKind.EVENT})
"""Kinds whose targets decide who sees them; the others belong to a client."""
_VEN_MAY_CREATE = frozenset({ObjectKind.REPORT, ObjectKind.SUBSCRIPTION, ObjectKind.VEN, ObjectKind.RESOURCE})
_BL_MAY_CREATE = frozenset(ObjectKind) - {ObjectKind.REPORT}


@dataclass(frozen=True, slots=True)
class Sight:
    """What a caller may see of a list: the query narrowed to it (None: nothing), and the targets shown."""

    query: ObjectQuery | None
    shown: frozenset[str] | None


def is_ven(caller: Caller) -> bool:
    """Whether a caller is bound by a VEN's limits: whoever is not business logic."""
    return caller.role is not PeerRole.BL


async def sight_of_list(
    shelf: ObjectShelf,
    caller: Caller,
    query: ObjectQuery,
    requested: frozenset[str] | None,
    *,
    targets_required: bool,
) -> Sight:
    """Narrow a list to what a caller may see and asked for by targets."""
    if not is_ven(caller):
        return Sight(replace(query, any_target=requested), None)
    if query.kind not in TARGETED:
        return Sight(replace(query, client_id=caller.client_id, any_target=requested), None)
    if requested is None and targets_required:
        return Sight(replace(query, sight=frozenset()), frozenset())
    granted = await shelf.granted_targets(caller.client_id, tenant_id=caller.tenant_id)
    if requested is None:
        return Sight(replace(query, sight=granted), granted)
    shown = requested & granted
    return Sight(replace(query, any_target=shown) if shown else None, shown)


async def visible(
    shelf: ObjectShelf, caller: Caller, kind: ObjectKind, object_id: str
) -> tuple[StoredObject, frozenset[str] | None]:
    """Return an object a caller may see, and which of its targets it is shown (None: all).

    Raises:
        Problem: 404, there is none for this caller.
    """
    stored = await shelf.find(kind, object_id, tenant_id=caller.tenant_id)
    if stored is None:
        raise not_found(f"{kind.value.lower()} {object_id}")
    if not is_ven(caller):
        return stored, None
    if kind not in TARGETED:
        if stored.client_id != caller.client_id:
            raise not_found(f"{kind.value.lower()} {object_id}")
        return stored, None
    granted = await shelf.granted_targets(caller.client_id, tenant_id=caller.tenant_id)
    if stored.targets and not granted.intersection(stored.targets):
        raise not_found(f"{kind.value.lower()} {object_id}")
    return stored, granted


def require_role(caller: Caller, kind: ObjectKind, *, deleting: bool = False) -> None:
    """Refuse a writer that a scope lets through and its role does not: programs and events are business logic's,
    reports a VEN's, though business logic that holds the scope may clear them away.

    Raises:
        Problem: 403.
    """
    allowed = _VEN_MAY_CREATE if is_ven(caller) else _BL_MAY_CREATE | ({kind} if deleting else set())
    if kind not in allowed:
        who = "VENs" if kind is ObjectKind.REPORT else "business logic"
        raise Problem(FORBIDDEN, f"only {who} may write {kind.value.lower()}s")


def says_business_logic(caller: Caller, kind: ObjectKind, object_type: object) -> None:
    """Check the discriminator of a ven or resource, where a body has one, against who sends it.

    Raises:
        Problem: 403, a VEN sends what only business logic may; 400, business logic sends a VEN's request,
            which lacks the client the object is for.
    """
    business, ven = f"BL_{kind.value}_REQUEST", f"VEN_{kind.value}_REQUEST"
    if object_type == business and is_ven(caller):
        raise Problem(FORBIDDEN, f"a VEN sends {ven}, not {business}")
    if object_type == ven and not is_ven(caller):
        raise Problem(BAD_REQUEST, f"objectType: business logic sends {business}, which names the clientID")
