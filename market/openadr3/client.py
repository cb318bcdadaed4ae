"""Room openadr3: our VEN's side of the wire to one VTN, 3.1.0 and 3.0.1 alike. Made by bootstrap.

Implements `vpp.ports.Ven3Client`. A GET that fails on the way is tried once more; nothing that changes the
VTN is ever repeated blindly: whoever lost an answer looks first whether the object is there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import quote

import structlog

from market.openadr3 import client_read as read
from market.openadr3 import client_write as write
from market.openadr3.client_auth import Credential, Tokens
from market.openadr3.client_http import Answer, Query, Wire, accepted
from market.openadr3.client_version import Place, found_out, stated
from market.openadr3.paging import MAX_OBJECTS, Listing, read_all
from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.ven3 import Callback, EventList, EventSeen, MqttOffer, ProgramSeen, ReportOut, VenSeen, VenWanted
from vpp.ports import Clock

MAX_TARGETS = 16
"""Each target is asked for on its own: the definition leaves open whether several are meant as 'and'."""
MAX_SUBSCRIPTIONS = 50
MAX_LIST_BYTES = 100_000_000
"""Of all pages of one list: 10,000 events of a day in quarters of an hour."""

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Where:
    """A VTN's address; `version` and `token_url` are found out where they are None."""

    url: str
    version: str | None = None
    token_url: str | None = None


class Openadr3Client:
    """One VTN, reached as one client.

    Args:
        name: the peer's name; part of the source of its events.
        wire: HTTP to it; closed with this client.
        list_max_bytes: of all pages of one list.
    """

    def __init__(
        self,
        name: str,
        wire: Wire,
        clock: Clock,
        where: Where,
        credential: Credential,
        *,
        list_max_bytes: int = MAX_LIST_BYTES,
    ) -> None:
        self.name, self._list_max_bytes = name, list_max_bytes
        self._wire, self._clock, self._where, self._credential = wire, clock, where, credential
        self._place = stated(where.url, where.version)
        self._tokens: Tokens | None = None

    async def version(self) -> str:
        """`3.1.0` or `3.0.1`."""
        return (await self._ready()).version

    async def register(self, wanted: VenWanted) -> VenSeen | None:
        """Find, create or bring up to date our VEN object and its resources; None where there is and may be none."""
        version = await self.version()
        body = write.ven_body(wanted, version)
        found = await self._find("vens", "venName", wanted.name)
        if found is None:
            if not wanted.may_create:
                return None
            found = await self._create_or_find("vens", body, "venName", wanted.name)
        elif wanted.may_create and (change := write.merged(found, body, version)) is not None:
            found = await self._object("PUT", f"vens/{_id(found)}", change)
        ven_id = str(found["id"])
        targets = list(read.targets_of(found.get("targets")))
        resources = await self._resources(ven_id, wanted)
        for resource in resources:
            targets += read.targets_of(resource.get("targets"))
        names = tuple(sorted(str(resource.get("resourceName")) for resource in resources))
        return VenSeen(ven_id=ven_id, name=wanted.name, targets=tuple(dict.fromkeys(targets)), resources=names)

    async def programs(self) -> tuple[ProgramSeen, ...]:
        """Every programme we may see."""
        listing = await self._list("programs")
        return tuple(read.program_of(found) for found in listing.objects)

    async def events(self, targets: Sequence[str]) -> EventList:
        """Every event we may see that is not over, those for all and those for any of these targets."""
        current: Query = (("active", "true"),) if await self.version() == write.V31 else ()
        found: dict[str, dict[str, Any]] = {}
        complete = True
        for query in [(), *self._each_target(targets, await self.version())]:
            listing = await self._list("events", (*query, *current))
            complete = complete and listing.complete
            found |= {str(each["id"]): each for each in listing.objects}
        return EventList(tuple(read.event_of(each) for each in found.values()), complete)

    @staticmethod
    def _each_target(targets: Sequence[str], version: str) -> list[Query]:
        if version != write.V31:  # 3.0.1 hides nothing behind targets
            return []
        return [(("targets", target),) for target in targets[:MAX_TARGETS]]

    async def event(self, event_id: str) -> EventSeen | None:
        """One event, None where the VTN has none by this id."""
        try:
            found = await self._object("GET", f"events/{quote(event_id, safe='')}")
        except PeerRefused as refused:
            if refused.code == 404:
                return None
            raise
        return read.event_of(found)

    async def send_report(self, report: ReportOut) -> str:
        """Create a report and return its id."""
        made = await self._object("POST", "reports", write.report_body(report, await self.version()))
        return str(made["id"])

    async def find_report(self, event_id: str, name: str) -> str | None:
        """The id of a report of ours that the VTN already has, by its name."""
        listing = await self._list("reports", (("eventID", event_id),))
        return next((str(found["id"]) for found in listing.objects if found.get("reportName") == name), None)

    async def subscribe(self, callback: Callback) -> tuple[str, ...]:
        """Replace our subscriptions by one for this callback (3.0.1: one for each programme)."""
        version = await self.version()
        for found in (await self._list("subscriptions")).objects:
            if found.get("clientName") == callback.client_name and _calls(found, callback.url):
                await self._object("DELETE", f"subscriptions/{_id(found)}", wants_object=False)
        programs = callback.program_ids[:MAX_SUBSCRIPTIONS] if version == write.V301 else (None,)
        made = [
            await self._object("POST", "subscriptions", write.subscription_body(callback, program))
            for program in programs
        ]
        return tuple(str(each["id"]) for each in made)

    async def has_subscriptions(self, ids: Sequence[str]) -> bool:
        """Whether the VTN still has all of them."""
        listing = await self._list("subscriptions")
        return set(ids) <= {str(found["id"]) for found in listing.objects}

    async def unsubscribe(self, ids: Sequence[str]) -> None:
        """End subscriptions; those the VTN no longer has are ended."""
        for each in ids:
            try:
                await self._object("DELETE", f"subscriptions/{quote(each, safe='')}", wants_object=False)
            except PeerRefused as refused:
                if refused.code != 404:
                    raise

    async def mqtt(self) -> MqttOffer | None:
        """The VTN's MQTT broker, None where it has none; 3.0.1 knows none."""
        if await self.version() == write.V301:
            return None
        try:
            told = await self._object("GET", "notifiers")
        except PeerRefused as refused:
            if refused.code in (404, 501):
                return None
            raise
        return _offer(told.get("MQTT"))

    async def topics(self, ven_id: str | None, program_ids: Sequence[str]) -> tuple[str, ...]:
        """The topics that tell of our programmes and events; what the VTN does not let us hear is left out."""
        paths = ["programs", *(f"programs/{quote(p, safe='')}/events" for p in program_ids[:MAX_SUBSCRIPTIONS])]
        if ven_id is not None:
            paths += [f"vens/{quote(ven_id, safe='')}/{kind}" for kind in ("events", "programs")]
        topics: list[str] = []
        for path in paths:
            try:
                told = (await self._object("GET", f"notifiers/mqtt/topics/{path}")).get("topics")
            except PeerRefused as refused:
                if refused.code in (401, 403, 404, 501):
                    continue
                raise
            named = told if isinstance(told, Mapping) else {}
            wanted = [named["ALL"]] if named.get("ALL") else list(named.values())
            topics += [topic for topic in wanted if isinstance(topic, str) and topic]
        return tuple(dict.fromkeys(topics))

    async def access_token(self) -> str | None:
        """A valid access token."""
        await self._ready()
        assert self._tokens is not None  # noqa: S101  # made by _ready
        return await self._tokens.get()

    async def close(self) -> None:
        """Give back connections."""
        await self._wire.close()

    async def _ready(self) -> Place:
        if self._place is None:
            self._place = await found_out(self._wire, self._where.url)
        if self._tokens is None:
            self._tokens = Tokens(
                self._wire, self._clock, self._place.base_url, self._credential, token_url=self._where.token_url
            )
        return self._place

    async def _send(self, method: str, path: str, query: Query = (), body: Mapping[str, Any] | None = None) -> Answer:
        """One request with a token; with a new one where the VTN would not take the first."""
        place = await self._ready()
        assert self._tokens is not None  # noqa: S101  # made by _ready
        token = await self._tokens.get()
        answer = await self._once(place, method, path, token, query, body)
        if answer.status == 401:
            token = await self._tokens.get(refused=token)
            answer = await self._once(place, method, path, token, query, body)
        return answer

    async def _once(
        self, place: Place, method: str, path: str, token: str, query: Query, body: Mapping[str, Any] | None
    ) -> Answer:
        url = f"{place.base_url}/{path}"
        headers = {"Authorization": f"Bearer {token}"}
        try:
            return await self._wire.send(method, url, headers=headers, query=query, body=body)
        except PeerUnreachable:
            if method != "GET":
                raise
            return await self._wire.send(method, url, headers=headers, query=query)

    async def _object(
        self, method: str, path: str, body: Mapping[str, Any] | None = None, *, wants_object: bool = True
    ) -> dict[str, Any]:
        kind = f"{method} /{path}"
        content = accepted(kind, await self._send(method, path, body=body))
        if not wants_object:
            return {}
        named = "id" in content if isinstance(content, dict) and not path.startswith("notifiers") else True
        if not isinstance(content, dict) or not named:
            raise PeerUnreachable(f"{kind}: the answer is no object with an id")
        return content

    async def _list(self, path: str, query: Query = ()) -> Listing:
        length = 0

        async def fetch(skip: int, limit: int) -> Any:
            nonlocal length
            page = (*query, ("skip", str(skip)), ("limit", str(limit)))
            answer = await self._send("GET", path, query=page)
            length += answer.length
            if length > self._list_max_bytes:
                raise PeerUnreachable(f"GET /{path}: more than {self._list_max_bytes} bytes in all")
            return accepted(f"GET /{path}", answer)

        listing = await read_all(fetch)
        if len(listing.objects) >= MAX_OBJECTS:
            log.warning("a list is longer than we read", source=self.name, path=path, objects=len(listing.objects))
        return listing

    async def _find(self, path: str, field: str, name: str) -> dict[str, Any] | None:
        """One of a list by its name; a VTN may ignore the filter, so the name is compared here too."""
        listing = await self._list(path, ((field, name),))
        return next((found for found in listing.objects if found.get(field) == name), None)

    async def _create_or_find(self, path: str, body: Mapping[str, Any], field: str, name: str) -> dict[str, Any]:
        """A 409 says that the name is taken: by ourselves, it may be, in a request whose answer was lost."""
        try:
            return await self._object("POST", path, body)
        except PeerRefused as refused:
            if refused.code != 409:
                raise
            found = await self._find(path, field, name)
            if found is None:
                raise PeerRefused(f"the name {name!r} is taken by another client of this VTN", code=409) from refused
            return found

    async def _resources(self, ven_id: str, wanted: VenWanted) -> list[dict[str, Any]]:
        version = await self.version()
        path = "resources" if version == write.V31 else f"vens/{quote(ven_id, safe='')}/resources"
        query: Query = (("venID", ven_id),) if version == write.V31 else ()
        listing = await self._list(path, query)
        mine = [found for found in listing.objects if str(found.get("venID") or ven_id) == ven_id]
        missing = set(wanted.resources) - {str(found.get("resourceName")) for found in mine}
        if wanted.may_create:
            for name in sorted(missing):
                try:
                    mine.append(await self._object("POST", path, write.resource_body(name, ven_id, version)))
                except PeerRefused as refused:
                    if refused.code != 409:  # 409: made meanwhile; its targets are read at the next registration
                        raise
        return mine


def _id(found: Mapping[str, Any]) -> str:
    return quote(str(found["id"]), safe="")


def _calls(found: Mapping[str, Any], url: str) -> bool:
    operations = found.get("objectOperations")
    return isinstance(operations, list) and any(
        isinstance(each, Mapping) and each.get("callbackUrl") == url for each in operations
    )


def _offer(told: object) -> MqttOffer | None:
    if not isinstance(told, Mapping) or not isinstance(told.get("URIS"), list):
        return None
    how = told.get("authentication")
    how = how if isinstance(how, Mapping) else {}
    return MqttOffer(
        uris=tuple(uri for uri in told["URIS"] if isinstance(uri, str)),
        method=str(how.get("method") or "ANONYMOUS"),
        username=_said(how.get("username")),
        ca_pem=_said(how.get("caCert")),
        cert_pem=_said(how.get("clientCert")),
        key_pem=_said(how.get("clientKey")),
    )


def _said(found: object) -> str | None:
    return found if _is_text(found) else None


def _is_text(found: object) -> TypeGuard[str]:
    return isinstance(found, str) and bool(found)
