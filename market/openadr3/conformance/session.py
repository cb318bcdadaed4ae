"""One conversation with a VTN under test: tokens by role, every answer kept, and what was made is removed again.

Made by `opened`, used by the checks of this folder.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urljoin, urlsplit
from uuid import uuid4

import httpx

from vpp.domain.conformance import ClientCredential, Failed, Skipped, VtnUnderTest
from vpp.domain.openadr3 import OLDER_VERSION
from vpp.ports import Clock

MAX_BODY_BYTES = 8 * 1024 * 1024
TIDY_WITHIN_EXCHANGES = 20
Query = Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What came back for one request; `content` is None where the body is no JSON."""

    asked: str
    status: int
    content_type: str
    content: Any
    body: bytes

    @property
    def brief(self) -> str:
        """The answer in a few words."""
        said = self.content if isinstance(self.content, dict) else {}
        why = ": ".join(str(said[key]) for key in ("title", "detail", "error") if said.get(key))
        return f"HTTP {self.status} {why}".strip()[:200]

    def expect(self, *statuses: int) -> Any:
        """Return the content of an answer that has one of some statuses.

        Raises:
            Failed: it has another.
        """
        if self.status not in statuses:
            wanted = " or ".join(str(each) for each in statuses)
            raise Failed(f"{self.asked} was answered with {self.brief}, not with {wanted}")
        return self.content

    def made(self) -> dict[str, Any]:
        """Return the object of an answer that has one.

        Raises:
            Failed: it failed, or holds something else.
        """
        found = self.expect(200, 201)
        if not isinstance(found, dict):
            raise Failed(f"{self.asked} was answered with no JSON object")
        return found


@dataclass(slots=True)
class Client:
    """One of our clients at the VTN, with its token."""

    session: "Session3"
    credential: ClientCredential
    token: str

    async def get(self, path: str, *query: tuple[str, str]) -> Answer:
        """Ask for something."""
        return await self.session.send("GET", path, token=self.token, query=query)

    async def create(self, path: str, body: dict[str, Any]) -> Answer:
        """Make an object; what is made is removed at the end."""
        answer = await self.session.send("POST", path, token=self.token, body=body)
        made = answer.content.get("id") if isinstance(answer.content, dict) else None
        if answer.status in (200, 201) and isinstance(made, str):
            self.session.objects.append((self, f"{path}/{made}"))
        return answer

    async def replace(self, path: str, body: dict[str, Any]) -> Answer:
        """Put another body in an object's place."""
        return await self.session.send("PUT", path, token=self.token, body=body)

    async def delete(self, path: str) -> Answer:
        """Remove an object."""
        answer = await self.session.send("DELETE", path, token=self.token)
        if answer.status in (200, 204, 404):
            self.session.objects[:] = [each for each in self.session.objects if each[1] != path]
        return answer


@dataclass(slots=True)
class Session3:
    """What the checks know: the VTN, our clients, and every answer so far."""

    vtn: VtnUnderTest
    http: httpx.AsyncClient
    clock: Clock
    answers: list[Answer] = field(default_factory=list)
    objects: list[tuple[Client, str]] = field(default_factory=list)
    tag: str = field(default_factory=lambda: f"conformance-{uuid4().hex[:10]}")
    token_url: str | None = None
    _clients: dict[str, Client] = field(default_factory=dict)

    @property
    def is_older(self) -> bool:
        """Whether it is 3.0.1."""
        return self.vtn.profile == OLDER_VERSION

    async def send(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        query: Query = (),
        body: dict[str, Any] | None = None,
        form: dict[str, str] | None = None,
        basic: ClientCredential | None = None,
        keep: bool = True,
    ) -> Answer:
        """Make one exchange; `keep` counts the answer among those that are judged as a whole.

        Raises:
            Failed: there is no answer, or one without end.
        """
        asked = f"{method} {path}" + ("" if not query else "?" + "&".join(f"{key}={value}" for key, value in query))
        headers = {"accept": "application/json"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        if basic is not None:
            pair = f"{quote(basic.client_id, safe='')}:{quote(basic.client_secret, safe='')}"
            headers["authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
        content = bytearray()
        try:
            url = path if "://" in path else f"{self.vtn.url}{path}"
            async with (
                asyncio.timeout(self.vtn.timeout_s),
                self.http.stream(
                    method, url, headers=headers, params=list(query) or None, json=body, data=form
                ) as reply,
            ):
                async for chunk in reply.aiter_bytes():
                    content += chunk
                    if len(content) > MAX_BODY_BYTES:
                        raise Failed(f"{asked} was answered with more than {MAX_BODY_BYTES} bytes")
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, ssl.SSLError) as error:
            raise Failed(f"{asked} was not answered: {type(error).__name__} {error}") from error
        answer = Answer(
            asked=asked,
            status=reply.status_code,
            content_type=reply.headers.get("content-type", ""),
            content=_parsed(bytes(content)),
            body=bytes(content),
        )
        if keep:
            self.answers.append(answer)
        return answer

    async def bl(self) -> Client:
        """Our business logic.

        Raises:
            Skipped: we have no credentials for it.
        """
        return await self._client("business logic", self.vtn.bl, "--bl-client-id and --bl-client-secret")

    async def ven(self) -> Client:
        """Our VEN.

        Raises:
            Skipped: we have no credentials for it.
        """
        return await self._client("a VEN", self.vtn.ven, "--client-id and --client-secret")

    async def other_ven(self) -> Client:
        """Another VEN of ours.

        Raises:
            Skipped: we have no credentials for it.
        """
        wanted = "--other-client-id and --other-client-secret"
        return await self._client("a second VEN", self.vtn.other_ven, wanted)

    async def anybody(self) -> Client:
        """Business logic, or a VEN where there is none."""
        return await (self.ven() if self.vtn.bl is None else self.bl())

    async def token(self, credential: ClientCredential, *, as_form: bool, keep: bool = True) -> Answer:
        """Ask for a token, with the secret in the form or by HTTP Basic."""
        form = {"grant_type": "client_credentials"}
        if as_form:
            form |= {"client_id": credential.client_id, "client_secret": credential.client_secret}
        url = await self.find_token_url()
        return await self.send("POST", url, form=form, basic=None if as_form else credential, keep=keep)

    async def find_token_url(self) -> str:
        """Return the token endpoint: what `/auth/server` names, else the one beside it.

        Raises:
            Failed: it would have our secret sent unencrypted.
        """
        if self.token_url is None:
            url = f"{self.vtn.url}/auth/token"
            if not self.is_older:
                told = (await self.send("GET", "/auth/server", keep=False)).content
                named = told.get("tokenURL") if isinstance(told, dict) else None
                url = urljoin(f"{self.vtn.url}/", named) if isinstance(named, str) and named else url
            if urlsplit(self.vtn.url).scheme == "https" and urlsplit(url).scheme != "https":
                raise Failed(f"it names {url} to send a secret to, which is not encrypted")
            self.token_url = url
        return self.token_url

    async def tidy(self) -> None:
        """Remove what was made, the last first."""
        with suppress(TimeoutError):
            async with asyncio.timeout(TIDY_WITHIN_EXCHANGES * self.vtn.timeout_s):
                for client, path in reversed(list(self.objects)):
                    with suppress(Failed):
                        await client.delete(path)

    async def _client(self, name: str, credential: ClientCredential | None, wanted: str) -> Client:
        if credential is None:
            raise Skipped(f"needs {name}: {wanted}")
        if name not in self._clients:
            answer = await self.token(credential, as_form=False, keep=False)
            if answer.status != 200:
                answer = await self.token(credential, as_form=True, keep=False)
            found = answer.content.get("access_token") if isinstance(answer.content, dict) else None
            if answer.status != 200 or not isinstance(found, str):
                raise Skipped(f"no token for {name} was had: {answer.brief}")
            self._clients[name] = Client(self, credential, found)
        return self._clients[name]


@asynccontextmanager
async def opened(vtn: VtnUnderTest, clock: Clock) -> AsyncIterator[Session3]:
    """A conversation; at its end nothing of ours is left at the VTN.

    Raises:
        NotReady: a certificate or key cannot be used.
    """
    async with httpx.AsyncClient(verify=vtn.tls_context(), timeout=vtn.timeout_s, trust_env=False) as http:
        session = Session3(vtn, http, clock)
        try:
            yield session
        finally:
            await session.tidy()


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
