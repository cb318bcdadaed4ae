"""One connection to the MQTT broker: publishing, and commands to mosquitto's dynamic security plugin.

Called by `publisher.py` and `notifiers.py`. Works with any broker of MQTT 3.1.1 or 5; only `control` needs the plugin.
"""

import asyncio
import json
import secrets
import ssl
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import aiomqtt
import structlog
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from vpp.domain.errors import NotReady, PeerUnreachable

log = structlog.get_logger()

CONTROL = "$CONTROL/dynamic-security/v1"
RESPONSES = f"{CONTROL}/response"
DEADLINE_S = 5.0
COMMANDS_AT_ONCE = 50
RIGHTS_WITHIN_S = 1.0

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class BrokerAddress:
    """Where the broker is, and who we are to it."""

    host: str
    port: int
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    version: str = "5"


def broker_address(
    url: str,
    *,
    credentials: Path | None = None,
    ca: Path | None = None,
    cert: Path | None = None,
    key: Path | None = None,
    version: str = "5",
) -> BrokerAddress:
    """Return a broker's address from `mqtts://host[:8883]`, or `mqtt://` on this machine only.

    `credentials`: a file with user name and password in its first line, a colon between. `ca`: who vouches for the
    broker, the system's where None. `cert` and `key`: ours, where the broker asks for one.

    Raises:
        NotReady: the address or a file cannot be used.
    """
    parts = urlsplit(url)
    if parts.scheme not in ("mqtt", "mqtts") or not parts.hostname or parts.username:
        raise NotReady(f"VPP_MQTT_URL is {url!r}; expected mqtts://host or mqtts://host:port")
    if parts.scheme == "mqtt" and not _is_here(parts.hostname):
        raise NotReady("VPP_MQTT_URL: a broker on another machine is reached by mqtts:// only, for passwords go there")
    username = password = None
    try:
        if credentials is not None:
            line = credentials.read_text(encoding="utf-8").partition("\n")[0].strip()
            username, colon, password = line.partition(":")
            if not colon:
                raise NotReady(f"VPP_MQTT_CREDENTIALS: {credentials} has no line `user:password`")
        tls = None
        if parts.scheme == "mqtts":
            tls = ssl.create_default_context(cafile=ca)
            tls.minimum_version = ssl.TLSVersion.TLSv1_2
            if cert is not None:
                tls.load_cert_chain(cert, key)
    except OSError as error:  # ssl.SSLError is one
        raise NotReady(f"VPP_MQTT_…: {error}") from error
    port = parts.port or (8883 if tls else 1883)
    return BrokerAddress(parts.hostname, port, tls, username, password, version)


def _is_here(host: str) -> bool:
    with suppress(ValueError):
        return ip_address(host).is_loopback
    return host == "localhost"


@asynccontextmanager
async def connected(address: BrokerAddress) -> AsyncIterator["Broker"]:
    """Connect, and disconnect at the end.

    Raises:
        PeerUnreachable: it cannot be reached, refuses us, or the connection breaks inside the block.
    """
    client = aiomqtt.Client(
        address.host,
        address.port,
        username=address.username,
        password=address.password,
        identifier=f"vpp-{secrets.token_hex(8)}",
        protocol=aiomqtt.ProtocolVersion.V5 if address.version == "5" else aiomqtt.ProtocolVersion.V311,
        tls_context=address.tls,
        timeout=DEADLINE_S,
        max_inflight_messages=20,
        max_queued_incoming_messages=1000,
    )
    client.pending_calls_threshold = 1000  # a batch is sent at once, on purpose
    try:
        async with client:
            broker = Broker(client, address)
            reading = asyncio.create_task(broker.read())
            broker.reading = reading
            try:
                yield broker
            finally:
                reading.cancel()
                await asyncio.gather(reading, return_exceptions=True)
    except (aiomqtt.MqttError, OSError, TimeoutError) as error:
        raise PeerUnreachable(f"MQTT broker {address.host}:{address.port}: {error}") from error


class Broker:
    """What can be done over one connection; everything raises `aiomqtt.MqttError` as soon as it breaks."""

    def __init__(self, client: aiomqtt.Client, address: BrokerAddress) -> None:
        self._client, self.address = client, address
        self._answer: asyncio.Future[Mapping[str, Any]] | None = None
        self._seen: dict[str, asyncio.Event] = {}
        self._turn = asyncio.Lock()
        self._listens = False
        self.reading: asyncio.Task[None] | None = None

    async def read(self) -> None:
        """Sort what comes in, until the connection ends."""
        async for message in self._client.messages:
            topic = str(message.topic)
            if topic in self._seen:
                self._seen[topic].set()
            elif topic == RESPONSES and self._answer is not None and not self._answer.done():
                with suppress(ValueError, TypeError):
                    self._answer.set_result(json.loads(message.payload))

    async def unless_broken(self, work: Coroutine[Any, Any, Result], *, within_s: float = DEADLINE_S) -> Result:
        """Return what `work` returns, and fail as soon as the connection breaks or the time is up."""
        task = asyncio.create_task(work)
        assert self.reading is not None  # noqa: S101 connected() sets it
        try:
            done, _ = await asyncio.wait({task, self.reading}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            raise aiomqtt.MqttError("the connection broke" if done else f"no answer within {within_s:g} s")
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def publish(self, messages: Sequence[tuple[str, bytes, str]]) -> None:
        """Publish in order, at least once each; returns when the broker has taken all. `(topic, payload, id)`."""

        async def all_of_them() -> None:
            await asyncio.gather(*(self._publish(*message) for message in messages))

        await self.unless_broken(all_of_them(), within_s=DEADLINE_S + 0.05 * len(messages))

    async def _publish(self, topic: str, payload: bytes, message_id: str) -> None:
        properties = None
        if self.address.version == "5":
            properties = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
            properties.UserProperty = [("notification-id", message_id)]
            properties.ContentType = "application/json"
        try:
            await self._client.publish(topic, payload, qos=1, properties=properties, timeout=60)
        except ValueError as error:  # before anything was sent: it would be the same the next time
            log.error("MQTT has no way to carry a message", topic=topic, error=str(error))

    async def check_rights(self, prefix: str) -> None:
        """Publish something to ourselves: a broker that refuses a message does not say so in MQTT 3.1.1.

        Raises:
            NotReady: it did not come back.
        """
        topic = f"{prefix}/check/{secrets.token_hex(8)}"
        self._seen[topic] = asyncio.Event()
        try:
            await self._client.subscribe(topic, qos=1)
            await self.publish([(topic, b"{}", "check")])
            await self.unless_broken(self._seen[topic].wait(), within_s=RIGHTS_WITHIN_S)
        except aiomqtt.MqttError as error:
            why = f"the MQTT broker does not let us publish and read under {prefix}/check: {error}"
            raise NotReady(why) from error
        finally:
            del self._seen[topic]

    async def control(self, commands: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Send commands to the dynamic security plugin; returns an answer for each, `error` in it if it failed."""
        answers: list[Mapping[str, Any]] = []
        async with self._turn:
            if not self._listens:
                await self._client.subscribe(RESPONSES, qos=1)
                self._listens = True
            for begin in range(0, len(commands), COMMANDS_AT_ONCE):
                answers += await self._control(commands[begin : begin + COMMANDS_AT_ONCE])
        return answers

    async def _control(self, commands: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        mark = secrets.token_hex(8)
        said = json.dumps({"commands": [{**command, "correlationData": mark} for command in commands]})
        while True:
            self._answer = asyncio.get_running_loop().create_future()
            if said:
                await self.unless_broken(self._client.publish(CONTROL, said, qos=1, timeout=60))
                said = ""
            answer = await self.unless_broken(_result(self._answer))
            found: list[Mapping[str, Any]] = list(answer.get("responses") or ())
            if all(each.get("correlationData") == mark for each in found):
                return found


async def _result(future: asyncio.Future[Mapping[str, Any]]) -> Mapping[str, Any]:
    return await future
