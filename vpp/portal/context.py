"""What every page and route needs of the process it runs in. Made once by `app.create_app`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from vpp.config import Settings
from vpp.peering import Changes
from vpp.ports import Clock, EventTranslator, MarketProgram
from vpp.store.engine import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The process's doors to the outside.

    `clock` tells the time of the fleet, which a simulation may step; `wall_clock` is real and ends
    sessions, so that a simulated day does not sign people out. `translator` and `changes` are what telling
    events downstream needs; without a translator none is told.
    """

    store: Store
    clock: Clock
    wall_clock: Clock
    settings: Settings
    programs: Mapping[str, MarketProgram]
    translator: EventTranslator | None = None
    changes: Changes | None = None


def get_context(request: Request) -> Context:
    """The application's context, as a dependency."""
    context: Context = request.app.state.context
    return context


Ctx = Annotated[Context, Depends(get_context)]
