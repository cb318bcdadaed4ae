"""Tells subscribers of our OpenADR 3 VTN what changed: webhooks and MQTT. Made by bootstrap, run by `vpp work`."""

from vpp.gateway.notify.body import Render, as_stored
from vpp.gateway.notify.callbacks import CallbackChallenge, CallbackClient
from vpp.gateway.notify.guard import AddressRules, CallbackGuard
from vpp.gateway.notify.outbox import Outbox
from vpp.gateway.notify.policy import Policy
from vpp.gateway.notify.wake import Wake
from vpp.gateway.notify.webhooks import WebhookWorker

__all__ = [
    "AddressRules",
    "CallbackChallenge",
    "CallbackClient",
    "CallbackGuard",
    "Outbox",
    "Policy",
    "Render",
    "Wake",
    "WebhookWorker",
    "as_stored",
]
