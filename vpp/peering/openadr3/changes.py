"""The seam between the objects of our OpenADR 3 VTN and whoever must be told that they changed.

Called by `shelf.py` for every object created, replaced or deleted, deletions that follow from another
one included; implemented by `vpp/gateway/notify`.
"""

from typing import Protocol

from sqlalchemy.ext.asyncio import AsyncConnection

from vpp.domain.openadr3 import Change


class Changes(Protocol):
    """Is told of every change inside the transaction that makes it: both are kept, or neither."""

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        """Note a change; whatever is raised undoes it."""
        ...


class NobodyTold:
    """`Changes` where there is nobody to tell."""

    async def changed(self, connection: AsyncConnection, change: Change) -> None:
        """Do nothing."""
