"""Holds the MQTT broker to who may read which topic, through mosquitto's dynamic security plugin.

Called by `publisher.py`, which keeps roles as peers and VENs are, and by `notifiers.py`, which lets callers in.
Each client of our VTN has a role, `vpp:<client_id>`, that allows to subscribe to and receive its own topics and
nothing else. Each access token it shows has a login of its own, so that two instances of one client do not lock
each other out: the plugin knows one password for a login.
"""

import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import aiomqtt
import jwt
import structlog
from sqlalchemy import delete, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import NotReady
from vpp.domain.openadr3 import ObjectKind
from vpp.domain.peer import Caller, PeerRole, Protocol
from vpp.gateway.notify.broker import Broker
from vpp.peering import Topics
from vpp.ports import Clock
from vpp.store.engine import Store
from vpp.store.tables.notifications import mqtt_login as logins
from vpp.store.tables.openadr3 import openadr3_object as objects
from vpp.store.tables.peering import peer as peers

log = structlog.get_logger()

PREFIX = "vpp:"
"""What our roles' names begin with; roles and logins of others are left alone."""
PUBLISHER = "vpp-publisher"
LOGIN_LASTS = timedelta(hours=1)
"""Where a token does not say when it ends."""
MOST_LOGINS = 20
"""Of one client at a time; with one more its oldest ends, so that whoever gets token after token fills no broker."""
JUST_MADE = timedelta(minutes=1)
"""How long a login may be on its way to the broker."""
A_PAGE = 200
_HARMLESS = ("already exists", "not found")


class Access:
    """Roles and logins as peers, VENs and tokens are."""

    def __init__(self, store: Store, clock: Clock, topics: Topics) -> None:
        self._store, self._clock, self._topics = store, clock, topics

    async def let_in(self, broker: Broker, caller: Caller, access_token: str) -> str:
        """Make the token a password at the broker until it ends; returns the user name that goes with it."""
        name, now = username(caller.client_id, access_token), self._clock.now()
        row = {
            "username": name, "tenant_id": caller.tenant_id, "client_id": caller.client_id, "made_at": now,
            "expires_at": ends_at(access_token) or now + LOGIN_LASTS,
        }  # fmt: skip
        async with self._store.begin() as connection:  # before the broker: who is there and not here is thrown out
            kept = insert(logins).values(row).on_conflict_do_nothing().returning(logins.c.username)
            is_new = (await connection.execute(kept)).first() is not None
        acls, role = await self._rules_of(caller), {"rolename": PREFIX + caller.client_id}
        user = {"username": name, "password": access_token, "roles": [role | {"priority": 0}]}
        await _done(
            broker,
            [
                {"command": "createRole", "acls": acls} | role,
                {"command": "modifyRole", "acls": acls} | role,
                *([{"command": "deleteClient", "username": name}] if is_new else []),
                {"command": "createClient"} | user,
            ],
        )
        older = (
            select(logins.c.username)
            .where(logins.c.client_id == caller.client_id, logins.c.username != name)
            .order_by(logins.c.made_at.desc(), logins.c.username)
            .offset(MOST_LOGINS - 1)
        )
        if is_new:
            await self._throw_out(broker, logins.c.username.in_(older))
        now_right = await self._rules_of(caller)
        if now_right != acls:  # a VEN came or went meanwhile, and a worker may have said so before us
            await _done(broker, [{"command": "modifyRole", "acls": now_right} | role])
        return name

    async def _rules_of(self, caller: Caller) -> list[dict[str, Any]]:
        async with self._store.begin() as connection:
            wanted = await self._wanted(connection, caller.client_id)
            if caller.client_id in wanted:
                return wanted[caller.client_id]
            # of an external OAuth server, with no peer here
            vens = await _vens_of(connection, caller.client_id)
            own = vens.get((caller.tenant_id, caller.client_id), ())
            return rules(self._topics.may_read(caller.tenant_id, caller.role, own))

    async def prepare(self, broker: Broker) -> bool:
        """See to it that we may publish ourselves; True where we may already.

        Where we may only from now on, the broker ends the connection: connect again.
        """
        prefix = self._topics.prefix
        (own,) = await broker.control([{"command": "getClient", "username": broker.address.username}])
        if "error" in own:
            raise NotReady(f"the MQTT broker does not let us manage it: {own['error']}")
        held = {each["rolename"] for each in own["data"]["client"].get("roles") or ()}
        if PUBLISHER in held:
            return True
        allow = {"allow": True, "priority": 0}
        acls = [
            {"acltype": "publishClientSend", "topic": f"{prefix}/#"} | allow,
            {"acltype": "publishClientReceive", "topic": f"{prefix}/check/#"} | allow,
            {"acltype": "subscribePattern", "topic": f"{prefix}/check/#"} | allow,
        ]
        await _done(broker, [{"command": "createRole", "rolename": PUBLISHER, "acls": acls}])
        give = {"command": "addClientRole", "username": broker.address.username, "rolename": PUBLISHER}
        with suppress(aiomqtt.MqttError):
            await broker.control([give])
        return False

    async def reconcile(self, broker: Broker) -> None:
        """Make every role and login of ours at the broker what it should be."""
        revoked = select(peers.c.client_id).where(peers.c.revoked_at.is_not(None), peers.c.client_id.is_not(None))
        await self._throw_out(broker, logins.c.client_id.in_(revoked))
        there = {each["rolename"]: each for each in await _all(broker, "listRoles", "roles")}
        ours = {name.removeprefix(PREFIX): each for name, each in there.items() if name.startswith(PREFIX)}
        users = [
            each["username"]
            for each in await _all(broker, "listClients", "clients")
            if any(role["rolename"].startswith(PREFIX) for role in each.get("roles") or ())
        ]
        async with self._store.begin() as connection:  # after the lists: who was let in meanwhile is known by now
            wanted = await self._wanted(connection, None)
            known = (await connection.execute(select(logins.c.username, logins.c.client_id))).all()
        names, clients = {row.username for row in known}, {row.client_id for row in known}
        commands: list[Mapping[str, Any]] = []
        for client_id, acls in wanted.items():
            if client_id not in ours:
                commands.append({"command": "createRole", "rolename": PREFIX + client_id, "acls": acls})
            elif _comparable(ours[client_id]["acls"]) != _comparable(acls):
                commands.append({"command": "modifyRole", "rolename": PREFIX + client_id, "acls": acls})
        commands += [{"command": "deleteClient", "username": name} for name in users if name not in names]
        commands += [
            {"command": "deleteRole", "rolename": PREFIX + client_id}
            for client_id in ours
            if client_id not in wanted and client_id not in clients
        ]
        await _done(broker, commands)
        lost = logins.c.username.in_(names - set(users)), logins.c.made_at < self._clock.now() - JUST_MADE
        async with self._store.begin() as connection:  # a broker that lost its file: they are let in anew
            await connection.execute(delete(logins).where(*lost))

    async def refresh(self, broker: Broker, client_id: str) -> None:
        """Make one client's role what it should be; one that was revoked is thrown out."""
        async with self._store.begin() as connection:
            wanted = await self._wanted(connection, client_id)
            known_as_peer = select(peers.c.id).where(peers.c.client_id == client_id)
            is_peer = (await connection.execute(known_as_peer)).first() is not None
        if client_id in wanted:
            role = {"rolename": PREFIX + client_id, "acls": wanted[client_id]}
            await _done(broker, [{"command": "createRole"} | role, {"command": "modifyRole"} | role])
        elif is_peer:
            await self._throw_out(broker, logins.c.client_id == client_id)
            # Emptied, not deleted: mosquitto 2.0.11 can crash where a role goes that a login still has.
            await _done(broker, [{"command": "modifyRole", "rolename": PREFIX + client_id, "acls": rules(())}])

    async def expire(self, broker: Broker) -> None:
        """Throw out whose token has ended."""
        await self._throw_out(broker, logins.c.expires_at <= self._clock.now())

    async def _throw_out(self, broker: Broker, which: Any) -> None:
        async with self._store.begin() as connection:
            names = (await connection.execute(select(logins.c.username).where(which))).scalars().all()
        await _done(broker, [{"command": "deleteClient", "username": name} for name in names])
        async with self._store.begin() as connection:
            await connection.execute(delete(logins).where(logins.c.username.in_(names)))

    async def _wanted(self, connection: AsyncConnection, client_id: str | None) -> dict[str, list[dict[str, Any]]]:
        """The rules of every client that is a peer, or of one."""
        query = select(peers.c.client_id, peers.c.tenant_id, peers.c.role).where(
            peers.c.protocol == Protocol.OPENADR3.value,
            peers.c.role.in_((PeerRole.BL.value, PeerRole.VEN.value)),
            peers.c.revoked_at.is_(None),
            peers.c.client_id.is_not(None),
        )
        if client_id is not None:
            query = query.where(peers.c.client_id == client_id)
        rows = (await connection.execute(query)).all()
        vens = await _vens_of(connection, client_id)
        return {
            row.client_id: rules(
                self._topics.may_read(row.tenant_id, PeerRole(row.role), vens.get((row.tenant_id, row.client_id), ()))
            )
            for row in rows
        }


async def _vens_of(connection: AsyncConnection, client_id: str | None) -> dict[tuple[str, str], list[str]]:
    query = select(objects.c.tenant_id, objects.c.client_id, objects.c.id).where(objects.c.kind == ObjectKind.VEN.value)
    if client_id is not None:
        query = query.where(objects.c.client_id == client_id)
    found: dict[tuple[str, str], list[str]] = {}
    for tenant_id, owner, ven_id in await connection.execute(query):
        found.setdefault((tenant_id, owner), []).append(ven_id)
    return found


def username(client_id: str, access_token: str) -> str:
    """The login of a token: the client's id, and some of the token's hash."""
    return f"{client_id}.{hashlib.sha256(access_token.encode()).hexdigest()[:16]}"


def ends_at(access_token: str) -> datetime | None:
    """When a token ends, if it says so; whoever shows it has been checked already."""
    try:
        said = jwt.decode(access_token, options={"verify_signature": False})
        return datetime.fromtimestamp(float(said["exp"]), UTC)
    except (jwt.PyJWTError, KeyError, ValueError, TypeError, OverflowError, RecursionError):
        return None


def rules(filters: Iterable[str]) -> list[dict[str, Any]]:
    """The rules of a role: nothing is allowed but to subscribe to these, and to receive from them."""
    closed = [
        {"acltype": kind, "topic": "#", "allow": False, "priority": 0}
        for kind in ("publishClientSend", "publishClientReceive", "subscribePattern")
    ]
    return closed + [
        {"acltype": kind, "topic": each, "allow": True, "priority": 10}
        for each in filters
        for kind in ("subscribePattern", "publishClientReceive")
    ]


def _comparable(acls: Iterable[Mapping[str, Any]]) -> set[tuple[Any, ...]]:
    return {(each["acltype"], each["topic"], each["allow"], each.get("priority", 0)) for each in acls}


async def _all(broker: Broker, command: str, of: str) -> list[Mapping[str, Any]]:
    found: list[Mapping[str, Any]] = []
    while True:
        (page,) = await broker.control([{"command": command, "verbose": True, "count": A_PAGE, "offset": len(found)}])
        if "error" in page:
            raise NotReady(f"the MQTT broker does not let us manage it: {page['error']}")
        rows = page["data"][of]
        found += rows
        if not rows or len(found) >= page["data"]["totalCount"]:
            return found


async def _done(broker: Broker, commands: list[Mapping[str, Any]]) -> None:
    """Send commands; what is there already, or gone already, is as good as done."""
    for command, answer in zip(commands, await broker.control(commands), strict=True):
        error = str(answer.get("error", ""))
        if error and not error.lower().endswith(_HARMLESS):
            raise NotReady(f"the MQTT broker refuses {command['command']}: {error}")
