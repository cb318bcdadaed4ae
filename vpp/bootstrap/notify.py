"""Room bootstrap: who is told of changes at our OpenADR 3 VTN: `vpp serve` asks, `vpp work` tells."""

import asyncio
import ssl
from ipaddress import ip_network

from market.openadr3.vtn import VERSIONS
from vpp.bootstrap.changes import topics_for
from vpp.config import Settings
from vpp.domain.errors import NotReady
from vpp.domain.openadr3 import StoredObject
from vpp.gateway.notify import (
    Access,
    AddressRules,
    BrokerAddress,
    CallbackChallenge,
    CallbackClient,
    CallbackGuard,
    MqttNotifiers,
    MqttPublisher,
    Outbox,
    Wake,
    WebhookWorker,
    broker_address,
    mqtt_policy,
    run_notify,
)
from vpp.peering import SqlMessageLog
from vpp.ports import Clock
from vpp.store.engine import Store


def callback_check(settings: Settings) -> CallbackChallenge:
    """What is asked before a subscription is kept."""
    return CallbackChallenge(callback_client(settings))


def callback_client(settings: Settings) -> CallbackClient:
    """The way to subscribers' callbacks, guarded.

    Raises:
        NotReady: a network or a certificate in the settings cannot be read.
    """
    try:
        networks = tuple(ip_network(each) for each in settings.openadr3_callback_networks)
    except ValueError as error:
        raise NotReady(f"VPP_OPENADR3_CALLBACK_NETWORKS: {error}") from error
    rules = AddressRules(private_networks=networks, http_on_loopback=settings.openadr3_allow_http_callbacks)
    tls = ssl.create_default_context()
    tls.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        if settings.openadr3_callback_ca is not None:
            tls.load_verify_locations(settings.openadr3_callback_ca)
    except OSError as error:
        raise NotReady(f"VPP_OPENADR3_CALLBACK_CA: {error}") from error
    return CallbackClient(CallbackGuard(rules), deadline_s=settings.openadr3_callback_timeout_s, tls=tls)


def notifiers_for(settings: Settings, store: Store, clock: Clock) -> MqttNotifiers | None:
    """What callers are told of our broker, or None without one."""
    topics = topics_for(settings)
    if topics is None or settings.mqtt_url is None:
        return None
    urls = tuple(settings.mqtt_public_urls) or (settings.mqtt_url,)
    if topics.only_open:
        return MqttNotifiers(topics, urls)
    return MqttNotifiers(topics, urls, address=_broker(settings), access=Access(store, clock, topics))


async def tell(settings: Settings, store: Store, clock: Clock) -> None:
    """Tell subscribers until cancelled."""
    client = callback_client(settings)
    messages = SqlMessageLog(store, clock, days=settings.message_log_days, rows=settings.message_log_rows)
    webhook_wake, mqtt_wake = Wake(), Wake()
    webhooks = WebhookWorker(Outbox(store, clock), client, wake=webhook_wake, messages=messages, render=_render)
    publisher, topics = None, topics_for(settings)
    if topics is not None:
        publisher = MqttPublisher(
            Outbox(store, clock, mqtt_policy()),
            _broker(settings),
            prefix=topics.prefix,
            wake=mqtt_wake,
            access=None if topics.only_open else Access(store, clock, topics),
            messages=messages,
            render=_render,
        )
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(messages.run())
            group.create_task(run_notify(store, webhooks, publisher, webhook_wake, mqtt_wake))
    finally:
        await client.close()


def _broker(settings: Settings) -> BrokerAddress:
    return broker_address(
        settings.mqtt_url or "",
        credentials=settings.mqtt_credentials,
        ca=settings.mqtt_ca,
        cert=settings.mqtt_cert,
        key=settings.mqtt_key,
        version=settings.mqtt_version,
    )


def _render(found: StoredObject, shown: frozenset[str] | None, version: str) -> str:
    return VERSIONS[version].write(found, shown)
