"""Tells subscribers of our OpenADR 3 VTN what changed: webhooks and MQTT. Other rooms import from `vpp.gateway`."""

from vpp.gateway.notify.callbacks import CallbackChallenge, CallbackClient
from vpp.gateway.notify.guard import AddressRules, CallbackGuard

__all__ = ["AddressRules", "CallbackChallenge", "CallbackClient", "CallbackGuard"]
