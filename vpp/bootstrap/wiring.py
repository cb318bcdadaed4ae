"""Room bootstrap: the parts our processes are made of: vendors, programmes, policy."""

import secrets
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy.ext.asyncio import AsyncConnection

from market.coned_csrp import ConEdCsrp
from market.elrp import Elrp
from vpp.allocation import Policy
from vpp.bootstrap.frame import Secrets
from vpp.commitments import Decide, Decision
from vpp.config import Settings
from vpp.dispatch import Tools, covers
from vpp.domain.commitment import Commitment
from vpp.ports import Clock, DeviceAdapter, MarketProgram
from vpp.store.engine import Store
from vpp.store.shared import SharedCallBudget, SharedTokens

if TYPE_CHECKING:
    from adapters.tesla import Token

ADAPTERS = ("sunspec", "tesla")
MODE_ADAPTERS = frozenset({"tesla"})
"""Whose devices know modes only; a test holds this against the adapters' own word."""
TESLA_URL = "https://fleet-api.prd.na.vn.cloud.tesla.com"


def programs() -> dict[str, MarketProgram]:
    """Every programme this release knows, by name."""
    return {program.name: program for program in (Elrp(), ConEdCsrp())}


class TeslaTokens:
    """Tesla's tokens where all workers see them."""

    def __init__(self, shared: SharedTokens) -> None:
        self._shared = shared

    async def load(self, account: str) -> "Token | None":
        """The newest token of an account."""
        from adapters.tesla import Token

        found = await self._shared.load(account)
        return None if found is None else Token(*found)

    async def save(self, account: str, token: "Token") -> None:
        """Keep a token; returns only when it is safe."""
        await self._shared.save(account, token.access, token.refresh)

    def exclusive(self, account: str) -> AbstractAsyncContextManager[None]:
        """Held while an account's token is refreshed."""
        return self._shared.exclusive(account)


def adapters(settings: Settings, store: Store, clock: Clock) -> dict[str, DeviceAdapter]:
    """Every vendor this release knows, by name."""
    from adapters.sunspec import SunSpecAdapter  # only who speaks to devices loads the vendors
    from adapters.tesla import TeslaAdapter
    from adapters.tesla.auth import TOKEN_URL

    return {
        "sunspec": SunSpecAdapter(clock),
        "tesla": TeslaAdapter(
            settings.adapter_urls.get("tesla", TESLA_URL),
            Secrets(settings.secrets_dir),
            clock,
            tokens=TeslaTokens(SharedTokens(store, clock, "tesla")),
            budget=SharedCallBudget(store.redis, "tesla"),
            settings_per_day=settings.tesla_settings_per_day or None,
            readback_delay_s=settings.tesla_readback_delay_s,
            token_url=settings.adapter_urls.get("tesla_token", TOKEN_URL),
        ),
    }


def policy(settings: Settings) -> Policy:
    """What allocation assumes, and where large fleets are solved."""
    return Policy(dask_url=settings.dask_url)


def decision(settings: Settings, clock: Clock) -> Decide:
    """How an event is decided on: by readings up to one and a half idle rounds old."""

    async def decide(connection: AsyncConnection, commitment: Commitment) -> Decision:
        return await covers(
            connection,
            commitment,
            clock=clock,
            mode_adapters=MODE_ADAPTERS,
            max_age_s=1.5 * settings.idle_read_interval_s,
            policy=policy(settings),
        )

    return decide


@asynccontextmanager
async def tools_for(settings: Settings, store: Store, clock: Clock) -> AsyncIterator[Tools]:
    """What a control cycle works with, the vendors open for the block."""
    vendors = adapters(settings, store, clock)
    for vendor in vendors.values():
        await vendor.open()
    try:
        yield Tools(
            store=store, clock=clock, adapters=vendors, cycle=timedelta(seconds=settings.cycle_s),
            policy=policy(settings),
        )  # fmt: skip
    finally:
        for vendor in vendors.values():
            await vendor.close()


def new_secret() -> str:
    """A secret fit for a token or a first password."""
    return secrets.token_urlsafe(16)
