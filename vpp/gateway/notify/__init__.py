"""Tells subscribers of our OpenADR 3 VTN what changed: webhooks and MQTT. Made by bootstrap, run by `vpp work`."""

from vpp.gateway.notify.access import Access
from vpp.gateway.notify.body import Render, as_stored
from vpp.gateway.notify.broker import Broker, BrokerAddress, broker_address, connected
from vpp.gateway.notify.callbacks import CallbackChallenge, CallbackClient
from vpp.gateway.notify.guard import AddressRules, CallbackGuard, pushable
from vpp.gateway.notify.notifiers import MqttNotifiers
from vpp.gateway.notify.outbox import Outbox
from vpp.gateway.notify.policy import Policy
from vpp.gateway.notify.publisher import MqttPublisher, mqtt_policy
from vpp.gateway.notify.service import run_notify
from vpp.gateway.notify.wake import Wake
from vpp.gateway.notify.webhooks import WebhookWorker

__all__ = [
    "Access",
    "AddressRules",
    "Broker",
    "BrokerAddress",
    "CallbackChallenge",
    "CallbackClient",
    "CallbackGuard",
    "MqttNotifiers",
    "MqttPublisher",
    "Outbox",
    "Policy",
    "Render",
    "Wake",
    "WebhookWorker",
    "as_stored",
    "broker_address",
    "connected",
    "mqtt_policy",
    "pushable",
    "run_notify",
]
