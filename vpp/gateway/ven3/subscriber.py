"""Room gateway, OpenADR 3 VEN: keeps a VTN's webhooks coming. Called by `loop`, at its start and now and then."""

import secrets

import structlog

from vpp.domain.errors import PeerRefused, PeerUnreachable
from vpp.domain.ven3 import Callback
from vpp.gateway.ven3 import registration
from vpp.ports import Clock, Ven3Client
from vpp.store.engine import Store

log = structlog.get_logger("vpp.gateway")


class Subscriber:
    """Our subscription at one VTN. It makes us ask sooner, never less often: without it nothing is lost."""

    def __init__(self, store: Store, clock: Clock, client: Ven3Client, *, url: str | None, client_name: str) -> None:
        self._store, self._clock, self._client = store, clock, client
        self._url, self._client_name = url, client_name
        self._programs: tuple[str, ...] | None = None

    async def ensure(self, program_ids: tuple[str, ...]) -> None:
        """Subscribe where the VTN has no subscription of ours, or other programmes than when it was made.

        A token is made for each attempt and expected before the VTN hears of it. A VTN that refuses, or
        cannot reach us, is asked again the next time.
        """
        if self._url is None:
            return
        try:
            if await self._stands() and self._programs in (None, program_ids):
                self._programs = program_ids
                return
            token = secrets.token_urlsafe(32)
            async with self._store.begin() as connection:
                await registration.save_callback(connection, self._client.name, token=token)
            callback = Callback(
                url=self._url, bearer_token=token, client_name=self._client_name, program_ids=program_ids
            )
            ids = await self._client.subscribe(callback)
        except (PeerRefused, PeerUnreachable) as error:
            log.warning("not subscribed, polling only", source=self._client.name, error=str(error))
            return
        async with self._store.begin() as connection:
            await registration.save_subscriptions(connection, self._client.name, ids, at=self._clock.now())
        self._programs = program_ids
        log.info("subscribed", source=self._client.name, subscriptions=len(ids))

    async def end(self) -> None:
        """End what we have subscribed to; whatever is still told is no longer taken."""
        async with self._store.begin() as connection:
            known = await registration.load_known(connection, self._client.name)
            if known is None or not known.subscription_ids:
                return
            await registration.save_callback(connection, self._client.name, token=secrets.token_urlsafe(32))
        await self._client.unsubscribe(known.subscription_ids)

    async def _stands(self) -> bool:
        async with self._store.begin() as connection:
            known = await registration.load_known(connection, self._client.name)
        if known is None or not known.subscription_ids or known.callback_hash is None:
            return False
        return await self._client.has_subscriptions(known.subscription_ids)
