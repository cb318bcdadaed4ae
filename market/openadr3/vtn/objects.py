"""The operations on objects: list, create, read, replace, delete, for both versions. Called by `app.py`.

Each takes a `Call` and returns a status with JSON text. Rendered text is stored, so that a list is joined and not
rendered again.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Any

from market.openadr3.vtn.calls import Answer, Call
from market.openadr3.vtn.nested import given_body, nested_drafts, written
from market.openadr3.vtn.operations import Action
from market.openadr3.vtn.privacy import (
    is_ven,
    require_role,
    says_business_logic,
    sight_of_list,
    visible,
)
from market.openadr3.vtn.problems import BAD_REQUEST, CONFLICT, NOT_FOUND, Problem, not_found
from market.openadr3.vtn.queries import read_query, read_target_type, read_targets
from vpp.domain.errors import Conflict, InvalidRequest, NotFound
from vpp.domain.openadr3 import ObjectDraft, ObjectKind, ObjectQuery, StoredObject

_CALLBACKS_MAX = 10
_REFERENCES = {
    ObjectKind.REPORT: ("eventID", ObjectKind.EVENT, CONFLICT),
    ObjectKind.SUBSCRIPTION: ("programID", ObjectKind.PROGRAM, CONFLICT),
    ObjectKind.RESOURCE: ("venID", ObjectKind.VEN, NOT_FOUND),
}
"""What a VEN's object refers to, and the status that says there is no such thing."""


_MOST_OF_A_VEN = {ObjectKind.SUBSCRIPTION: 50, ObjectKind.VEN: 100, ObjectKind.RESOURCE: 5000}
_VEN_BODY_MAX_BYTES = {ObjectKind.SUBSCRIPTION: 64_000, ObjectKind.VEN: 64_000, ObjectKind.RESOURCE: 16_000}
"""What a VEN may keep here that costs something with every request or change of others; reports do not."""


async def list_objects(call: Call) -> Answer:
    """Return a page of what the caller may see."""
    params = call.request.query_params
    query = read_query(call.kind, params, tenant_id=call.caller.tenant_id, at=call.desk.clock.now())
    requested = read_targets(call.kind, params, call.version.targets_parameter)
    if call.version.resources_in_vens:
        query = replace(query, target_type=read_target_type(params))
    if (ven_id := await call.ven_in_path()) is not None:
        query = replace(query, ven_id=ven_id)
    sight = await sight_of_list(
        call.desk.shelf, call.caller, query, requested, targets_required=call.version.targets_required
    )
    found = await call.desk.shelf.select(sight.query) if sight.query is not None else []
    return 200, f"[{','.join([await written(call, each, sight.shown) for each in found])}]"


async def create_object(call: Call) -> Answer:
    """Keep a new object."""
    require_role(call.caller, call.kind)
    await _require_room(call)
    draft = await _draft(call, None)
    stored = await _kept(call.desk.shelf.create(draft, resources=nested_drafts(call, draft)))
    return 201, await written(call, stored, None)


async def read_object(call: Call) -> Answer:
    """Return one object."""
    stored, shown = await _of_path(call)
    return 200, await written(call, stored, shown)


async def replace_object(call: Call) -> Answer:
    """Put a body in the place of an object."""
    require_role(call.caller, call.kind)
    before, _ = await _of_path(call)
    draft = await _draft(call, before)
    stored = await _kept(call.desk.shelf.replace(before.id, draft))
    return 200, await written(call, stored, None)


async def delete_object(call: Call) -> Answer:
    """Remove an object, and what cannot be without it; return it as it was."""
    require_role(call.caller, call.kind, deleting=True)
    before, shown = await _of_path(call)
    stored = await _kept(call.desk.shelf.delete(call.kind, before.id, tenant_id=call.caller.tenant_id))
    return 200, call.version.write(stored, shown)


HANDLERS: Mapping[Action, Callable[[Call], Awaitable[Answer]]] = {
    Action.LIST: list_objects,
    Action.CREATE: create_object,
    Action.READ: read_object,
    Action.REPLACE: replace_object,
    Action.DELETE: delete_object,
}


async def _require_room(call: Call) -> None:
    """Refuse a VEN that has so many objects of a kind already; requests at once may pass it by a few."""
    most = _MOST_OF_A_VEN.get(call.kind)
    if most is None or not is_ven(call.caller):
        return
    last = ObjectQuery(
        kind=call.kind, tenant_id=call.caller.tenant_id, client_id=call.caller.client_id, skip=most - 1, limit=1
    )  # fmt: skip
    if await call.desk.shelf.select(last):
        raise Problem(CONFLICT, f"a VEN may have up to {most} {call.kind.value.lower()}s: delete one first")


async def _of_path(call: Call) -> tuple[StoredObject, frozenset[str] | None]:
    ven_id = await call.ven_in_path()
    stored, shown = await visible(call.desk.shelf, call.caller, call.kind, call.path_id())
    if ven_id is not None and stored.ven_id != ven_id:
        raise not_found(f"{call.kind.value.lower()} {stored.id} of ven {ven_id}")
    return stored, shown


async def _draft(call: Call, before: StoredObject | None) -> ObjectDraft:
    """Return what a body asks to be kept, with what only our VTN or business logic may say of it put right."""
    longest = _VEN_BODY_MAX_BYTES.get(call.kind)
    if longest is not None and is_ven(call.caller) and len(call.body) > longest:
        raise Problem(BAD_REQUEST, f"a {call.kind.value.lower()} of a VEN may have up to {longest} bytes")
    given = given_body(call)
    if (ven_id := await call.ven_in_path()) is not None:
        given["venID"] = ven_id
    if call.kind in (ObjectKind.VEN, ObjectKind.RESOURCE):
        says_business_logic(call.caller, call.kind, given.get("objectType"))
    body, types = call.version.read(call.kind, given)
    keeps_targets = call.kind in (ObjectKind.VEN, ObjectKind.RESOURCE) and is_ven(call.caller)
    if keeps_targets:
        _keep_targets(body, types, before)
    if call.kind is ObjectKind.VEN and is_ven(call.caller) and (before is None or before.name != body["venName"]):
        await _refuse_anothers_name(call, body["venName"])
    client_id = await _client_of(call, body, before)
    await _check_references(call, body)
    if call.kind is ObjectKind.SUBSCRIPTION:
        await _check_callbacks(call, body, before)
    return ObjectDraft(
        kind=call.kind,
        tenant_id=call.caller.tenant_id,
        body=body,
        client_id=client_id,
        target_types=types,
        api_version=call.version.name,
        keeps_targets=keeps_targets,
    )


def _keep_targets(body: dict[str, Any], types: dict[str, tuple[str, ...]], before: StoredObject | None) -> None:
    """Only business logic grants targets: a VEN's word on them is passed over, and what was granted stays."""
    body.pop("targets", None)
    types.clear()
    if before is not None and before.targets:
        body["targets"] = list(before.targets)
        types.update(before.target_types)


async def _client_of(call: Call, body: dict[str, Any], before: StoredObject | None) -> str | None:
    """Return whose an object is: who creates it, and of a ven or resource of business logic, whom that names."""
    if is_ven(call.caller):
        return call.caller.client_id
    if call.kind in (ObjectKind.VEN, ObjectKind.RESOURCE):
        return await _client_named(call, body, before)
    return before.client_id if before is not None else call.caller.client_id


async def _refuse_anothers_name(call: Call, ven_name: str) -> None:
    """A VEN that took the name another is configured with would be granted what business logic means for that one."""
    client_id = await call.desk.shelf.client_of_ven_name(ven_name, tenant_id=call.caller.tenant_id)
    if client_id not in (None, call.caller.client_id):
        raise Problem(CONFLICT, f"venName {ven_name!r} is taken")


async def _client_named(call: Call, body: dict[str, Any], before: StoredObject | None) -> str:
    named = body.get("clientID")
    if named is not None:
        return str(named)
    if call.version.targets_required:
        raise Problem(BAD_REQUEST, "clientID: Field required")
    if before is not None and before.client_id is not None:
        return before.client_id
    if call.kind is ObjectKind.RESOURCE:
        ven = await call.desk.shelf.find(ObjectKind.VEN, body["venID"], tenant_id=call.caller.tenant_id)
        return (ven.client_id if ven is not None else None) or call.caller.client_id
    known = await call.desk.shelf.client_of_ven_name(body["venName"], tenant_id=call.caller.tenant_id)
    return known or call.caller.client_id


async def _check_references(call: Call, body: Mapping[str, Any]) -> None:
    """Let a VEN refer only to what it may see; what does not exist at all is found out when it is kept."""
    if not is_ven(call.caller) or call.kind not in _REFERENCES:
        return
    field, kind, status = _REFERENCES[call.kind]
    if body.get(field) is not None:
        try:
            await visible(call.desk.shelf, call.caller, kind, body[field])
        except Problem as problem:
            raise Problem(status, problem.detail) from None


async def _check_callbacks(call: Call, body: Mapping[str, Any], before: StoredObject | None) -> None:
    """Ask each new callback address whether it wants to be called."""
    wanted = {each["callbackUrl"]: each.get("bearerToken") for each in body["objectOperations"]}
    if len(wanted) > _CALLBACKS_MAX:
        raise Problem(BAD_REQUEST, f"objectOperations: expected up to {_CALLBACKS_MAX} different callbackUrls")
    known = {each["callbackUrl"] for each in before.wire()["objectOperations"]} if before is not None else set()
    if call.desk.callbacks is None:
        return
    async with call.desk.challenges.of(call.caller.client_id):
        for url in wanted.keys() - known:
            try:
                await call.desk.callbacks.check(url, bearer_token=wanted[url])
            except InvalidRequest as error:
                raise Problem(BAD_REQUEST, str(error)) from None


async def _kept(writing: Awaitable[StoredObject]) -> StoredObject:
    """Wait for the shelf, and put its refusals in the wire's words."""
    try:
        return await writing
    except NotFound as error:
        raise Problem(NOT_FOUND, str(error)) from None
    except Conflict as error:
        raise Problem(CONFLICT, str(error)) from None
    except InvalidRequest as error:
        raise Problem(BAD_REQUEST, str(error)) from None
