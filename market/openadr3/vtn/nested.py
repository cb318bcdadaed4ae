"""Resources inside their ven, as 3.0.1 creates and shows them. Called by `objects.py`.

A ven posted with `resources` is created with them or not at all, and shown with those it has. A PUT of a ven leaves
its resources alone: they have operations of their own.
"""

from typing import Any

from market.openadr3.vtn.bodies import parse_object
from market.openadr3.vtn.calls import Call
from market.openadr3.vtn.privacy import is_ven
from market.openadr3.vtn.problems import BAD_REQUEST, Problem
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery, StoredObject

_NESTED_MAX = 100
_SHOWN_MAX = 1000


def given_body(call: Call) -> dict[str, Any]:
    """Return the body's object without resources that are inside a ven.

    Raises:
        Problem: the body is no JSON object.
    """
    given = parse_object(call.body)
    if call.version.resources_in_vens and call.kind is ObjectKind.VEN:
        given.pop("resources", None)
    return given


def nested_drafts(call: Call, ven: ObjectDraft) -> list[ObjectDraft]:
    """Return the resources a body holds inside a ven, whose id is still to be filled in.

    Raises:
        Problem: they are not resources, or too many.
    """
    if not (call.version.resources_in_vens and call.kind is ObjectKind.VEN):
        return []
    nested = parse_object(call.body).get("resources") or []
    if not isinstance(nested, list) or len(nested) > _NESTED_MAX or not all(isinstance(each, dict) for each in nested):
        raise Problem(BAD_REQUEST, f"resources: expected a list of up to {_NESTED_MAX} resources")
    return [_draft(call, ven, each) for each in nested]


async def written(call: Call, stored: StoredObject, shown: frozenset[str] | None) -> str:
    """Return an object as its version writes it, a ven with its resources where it shows them."""
    text = call.version.write(stored, shown)
    if not (call.version.resources_in_vens and stored.kind is ObjectKind.VEN):
        return text
    query = ObjectQuery(
        kind=ObjectKind.RESOURCE, tenant_id=stored.tenant_id, ven_id=stored.id, limit=_SHOWN_MAX
    )  # fmt: skip
    resources = [call.version.write(each, None) for each in await call.desk.shelf.select(query)]
    return f'{text[:-1]},"resources":[{",".join(resources)}]}}'


def _draft(call: Call, ven: ObjectDraft, given: dict[str, Any]) -> ObjectDraft:
    body, types = call.version.read(ObjectKind.RESOURCE, given | {"venID": "new"})
    if is_ven(call.caller):  # only business logic grants targets
        body.pop("targets", None)
        types = {}
    return ObjectDraft(
        kind=ObjectKind.RESOURCE,
        tenant_id=ven.tenant_id,
        body=body,
        client_id=ven.client_id,
        target_types=types,
        api_version=ven.api_version,
    )
