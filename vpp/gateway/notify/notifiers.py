"""What our OpenADR 3 VTN tells callers of its MQTT broker: `vpp.ports.Notifiers`. Made by bootstrap for the routes."""

from typing import Any

import structlog

from vpp.domain.errors import NotReady, PeerUnreachable
from vpp.domain.peer import Caller
from vpp.gateway.notify.access import Access
from vpp.gateway.notify.broker import BrokerAddress, connected
from vpp.peering import Topics

log = structlog.get_logger()


class MqttNotifiers:
    """The broker's addresses, a login for whoever asks, and the names of topics.

    With `access`, authentication is OAUTH2_BEARER_TOKEN: the password is the access token the caller asked with, and
    the `username` is a literal that goes with this token. Both are good until the token ends; who has a new one
    asks again. Without, it is ANONYMOUS, and only what everybody may see is published.
    """

    def __init__(
        self,
        topics: Topics,
        urls: tuple[str, ...],
        *,
        address: BrokerAddress | None = None,
        access: Access | None = None,
    ) -> None:
        self._topics, self._urls, self._address, self._access = topics, urls, address, access

    async def mqtt_binding(self, caller: Caller, *, access_token: str) -> dict[str, Any] | None:
        """See `Notifiers.mqtt_binding`."""
        authentication: dict[str, str] = {"method": "ANONYMOUS"}
        if self._access is not None and self._address is not None:
            name = await self._let_in(self._address, self._access, caller, access_token)
            if name is None:
                return None
            authentication = {"method": "OAUTH2_BEARER_TOKEN", "username": name}
        return {"URIS": list(self._urls), "serialization": "JSON", "authentication": authentication}

    async def _let_in(self, address: BrokerAddress, access: Access, caller: Caller, access_token: str) -> str | None:
        for last in (False, True):  # twice: a worker that gives our own user a role ends its other connections too
            try:
                async with connected(address) as broker:
                    return await access.let_in(broker, caller, access_token)
            except (PeerUnreachable, NotReady) as error:
                if last:
                    log.warning("nobody can be let in at the MQTT broker", client=caller.client_id, error=str(error))
        return None

    async def topics(self, path: str, caller: Caller) -> dict[str, str] | None:
        """See `Notifiers.topics`."""
        return self._topics.named(caller.tenant_id, caller.role, path)
