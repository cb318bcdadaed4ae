"""Passwords, session tokens and API tokens: made, hashed, stored and looked up. Called by `auth` and `sign_in`.

Only hashes are stored. A password goes through scrypt with a salt of its own; tokens are 256 random
bits, for which one SHA-256 is enough.
"""

import asyncio
import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import uuid4

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.errors import Conflict, InvalidRequest
from vpp.store.tables import accounts

SESSION_LIFETIME = timedelta(hours=12)
PASSWORD_MIN, PASSWORD_MAX = 10, 256
SCOPES = ("operate", "telemetry", "read")
ROLES = ("operator", "utility", "owner")

R = TypeVar("R")

_COST, _BLOCK, _LANES = 2**14, 8, 5  # OWASP's set for 16 MB: about 0.2 s of one core a guess
_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]{1,190}")
_HASHING = ThreadPoolExecutor(max_workers=2, thread_name_prefix="scrypt")
"""Bounds the memory and cores that sign-in attempts can take."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """Who is asking. A machine's token has the role `machine` and sees its whole tenant.

    `owner_id` is set for the role `owner`, `program` for `utility`; every query must narrow by them.
    """

    tenant_id: str
    role: str
    account_id: str
    owner_id: str | None = None
    program: str | None = None
    email: str = ""
    scope: str | None = None


def hash_password(password: str) -> str:
    """Return `scrypt$n$r$p$salt$key`; takes about 0.2 s of a core, so call it in a thread."""
    salt = secrets.token_bytes(16)
    key = _scrypt(password, salt, _COST, _BLOCK, _LANES)
    return f"scrypt${_COST}${_BLOCK}${_LANES}${_text(salt)}${_text(key)}"


def password_matches(password: str, stored: str) -> bool:
    """Compare in constant time with a hash of `hash_password`; a hash of another kind never matches."""
    kind, *parts = stored.split("$")
    if kind != "scrypt" or len(parts) != 5:
        return False
    cost, block, lanes = (int(part) for part in parts[:3])
    salt, key = (base64.b64decode(part) for part in parts[3:])
    return hmac.compare_digest(_scrypt(password, salt, cost, block, lanes), key)


_NOBODY = f"scrypt${_COST}${_BLOCK}${_LANES}${'A' * 22}==${'A' * 43}="
"""Compared with where the e-mail is unknown, so that both cases take the same time."""


def token_hash(token: str) -> str:
    """Return what is stored of a random token."""
    return hashlib.sha256(token.encode()).hexdigest()


def csrf_token(session_token: str) -> str:
    """Return the token a page must send back with a change; it cannot be guessed without the cookie."""
    return hmac.new(session_token.encode(), b"csrf", hashlib.sha256).hexdigest()


async def create_account(
    connection: AsyncConnection,
    *,
    tenant_id: str,
    email: str,
    password: str,
    role: str,
    owner_id: str | None = None,
    program: str | None = None,
) -> str:
    """Store a person who may sign in and return the account's id.

    Args:
        role: `operator`, `utility` (needs `program`) or `owner` (needs `owner_id`).

    Raises:
        InvalidRequest: the e-mail, password or role is not acceptable.
        Conflict: the e-mail has an account already.
    """
    email = email.strip().lower()
    if not _EMAIL.fullmatch(email):
        raise InvalidRequest("email", email, "an e-mail address")
    if not PASSWORD_MIN <= len(password) <= PASSWORD_MAX:
        raise InvalidRequest("password", "(hidden)", f"{PASSWORD_MIN} to {PASSWORD_MAX} characters")
    if role not in ROLES or (role == "owner") != (owner_id is not None) or (role == "utility") != (program is not None):
        raise InvalidRequest("role", role, "operator, utility with a programme, or owner with an owner_id")
    known = (await connection.execute(select(accounts.account.c.id).where(accounts.account.c.email == email))).scalar()
    if known is not None:
        raise Conflict(f"{email} has an account already")
    account_id = uuid4().hex
    hashed = await _in_thread(hash_password, password)
    await connection.execute(
        insert(accounts.account).values(
            id=account_id,
            tenant_id=tenant_id,
            email=email,
            password_hash=hashed,
            role=role,
            owner_id=owner_id,
            program=program,
        )
    )
    return account_id


async def create_token(connection: AsyncConnection, *, tenant_id: str, label: str, scope: str, now: datetime) -> str:
    """Store a machine's token and return it; it cannot be shown again.

    Raises:
        InvalidRequest: the scope is none of `SCOPES`.
    """
    if scope not in SCOPES:
        raise InvalidRequest("scope", scope, ", ".join(SCOPES))
    token = f"vpp_{secrets.token_urlsafe(32)}"
    await connection.execute(
        insert(accounts.api_token).values(
            token_hash=token_hash(token), tenant_id=tenant_id, label=label, scope=scope, created_at=now
        )
    )
    return token


async def check_password(connection: AsyncConnection, email: str, password: str) -> str | None:
    """Return the account's id if the password is right, else None, in the same time."""
    query = select(accounts.account.c.id, accounts.account.c.password_hash)
    row = (await connection.execute(query.where(accounts.account.c.email == email.strip().lower()))).first()
    stored = _NOBODY if row is None else row.password_hash
    right = await _in_thread(password_matches, password[:PASSWORD_MAX], stored)
    return str(row.id) if row is not None and right else None


async def open_session(connection: AsyncConnection, account_id: str, *, now: datetime) -> str:
    """Store a session, forget expired ones of the account, and return the cookie's token."""
    token = secrets.token_urlsafe(32)
    sessions = accounts.session
    await connection.execute(delete(sessions).where(sessions.c.account_id == account_id, sessions.c.expires_at <= now))
    await connection.execute(
        insert(sessions).values(token_hash=token_hash(token), account_id=account_id, expires_at=now + SESSION_LIFETIME)
    )
    return token


async def close_session(connection: AsyncConnection, token: str) -> None:
    """Forget a session, so that its cookie is worth nothing."""
    await connection.execute(delete(accounts.session).where(accounts.session.c.token_hash == token_hash(token)))


async def subject_of_session(connection: AsyncConnection, token: str, *, now: datetime) -> Subject | None:
    """Return who a session cookie belongs to; None if it is unknown or over."""
    account, session = accounts.account, accounts.session
    query = select(account).join(session, session.c.account_id == account.c.id)
    query = query.where(session.c.token_hash == token_hash(token), session.c.expires_at > now)
    row = (await connection.execute(query)).first()
    if row is None:
        return None
    return Subject(
        tenant_id=row.tenant_id,
        role=row.role,
        account_id=row.id,
        owner_id=row.owner_id,
        program=row.program,
        email=row.email,
    )


async def subject_of_token(connection: AsyncConnection, token: str) -> Subject | None:
    """Return whose machine a bearer token belongs to; None if it is unknown."""
    tokens = accounts.api_token
    row = (await connection.execute(select(tokens).where(tokens.c.token_hash == token_hash(token)))).first()
    if row is None:
        return None
    return Subject(tenant_id=row.tenant_id, role="machine", account_id=f"token:{row.label}", scope=row.scope)


async def _in_thread(work: Callable[..., R], *args: str) -> R:
    return await asyncio.get_running_loop().run_in_executor(_HASHING, work, *args)


def _scrypt(password: str, salt: bytes, cost: int, block: int, lanes: int) -> bytes:
    return hashlib.scrypt(password.encode(), salt=salt, n=cost, r=block, p=lanes, maxmem=64 * 1024 * 1024, dklen=32)


def _text(raw: bytes) -> str:
    return base64.b64encode(raw).decode()
