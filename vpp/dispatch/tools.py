"""What a control cycle works with, handed in by bootstrap."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

from vpp.allocation import Policy
from vpp.domain.device import ControlKind
from vpp.domain.errors import TimedOut, Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock, DeviceAdapter
from vpp.store.engine import Store

Asked = TypeVar("Asked")
Told = TypeVar("Told")

ANSWER_WITHIN_S = 60.0
"""Above every adapter's own deadline; it only catches one that forgot."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Store, clock and adapters, with the length of a cycle and how many sites to talk to at once."""

    store: Store
    clock: Clock
    adapters: Mapping[str, DeviceAdapter]
    cycle: timedelta = timedelta(minutes=5)
    concurrency: int = 64
    policy: Policy = field(default_factory=Policy)

    def adapter(self, site: Site) -> DeviceAdapter:
        """Return the adapter of a site.

        Raises:
            Unsupported: this installation has no such adapter; the site fails, the others go on.
        """
        try:
            return self.adapters[site.adapter]
        except KeyError:
            known = ", ".join(sorted(self.adapters))
            raise Unsupported(f"site {site.id} needs the adapter {site.adapter!r}; configured are: {known}") from None

    @property
    def mode_adapters(self) -> frozenset[str]:
        """The adapters whose devices know modes only, no setpoint."""
        return frozenset(name for name, adapter in self.adapters.items() if adapter.control is ControlKind.MODE)

    def is_mode_site(self, site: Site) -> bool:
        """Whether the site's vendor offers modes only."""
        return site.adapter in self.mode_adapters

    async def within_deadline(self, asked: Awaitable[Told]) -> Told:
        """Await a device's answer, but not for ever.

        Raises:
            TimedOut: the adapter kept no deadline of its own.
        """
        try:
            async with asyncio.timeout(ANSWER_WITHIN_S):
                return await asked
        except TimeoutError:
            raise TimedOut(f"no answer within {ANSWER_WITHIN_S:g} s", sent=True) from None

    async def with_each(self, asked: Iterable[Asked], ask: Callable[[Asked], Awaitable[Told]]) -> list[Told]:
        """Ask about each in turn, no more than `concurrency` at once; answers keep the order."""
        gate = asyncio.Semaphore(self.concurrency)

        async def one(item: Asked) -> Told:
            async with gate:
                return await ask(item)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(item)) for item in asked]
        return [task.result() for task in tasks]
