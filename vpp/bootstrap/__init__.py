"""Wires everything by hand. The only room that knows the vendors in `adapters/` and the programmes in `market/`.

What is named here is loaded when it is first used: a process starts with what it runs on alone, and is back the
sooner after it was killed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vpp.bootstrap.frame import RANKS, Secrets, clock_for, open_store, until_stopped, watched_loops
    from vpp.bootstrap.gateway import gateway as run_gateway
    from vpp.bootstrap.gateway import openadr2_ven
    from vpp.bootstrap.serve import serve as run_serve
    from vpp.bootstrap.vtn2 import vtn2 as run_vtn2
    from vpp.bootstrap.wiring import (
        ADAPTERS,
        MODE_ADAPTERS,
        TESLA_URL,
        TeslaTokens,
        adapters,
        decision,
        new_secret,
        policy,
        programs,
        tools_for,
    )
    from vpp.bootstrap.work import work as run_work

__all__ = [
    "ADAPTERS",
    "MODE_ADAPTERS",
    "RANKS",
    "TESLA_URL",
    "Secrets",
    "TeslaTokens",
    "adapters",
    "clock_for",
    "decision",
    "new_secret",
    "open_store",
    "openadr2_ven",
    "policy",
    "programs",
    "run_gateway",
    "run_serve",
    "run_vtn2",
    "run_work",
    "tools_for",
    "until_stopped",
    "watched_loops",
]

_FRAME = frozenset({"RANKS", "Secrets", "clock_for", "open_store", "until_stopped", "watched_loops"})
_PROCESSES = {
    "openadr2_ven": ("gateway", "openadr2_ven"),
    "run_gateway": ("gateway", "gateway"),
    "run_serve": ("serve", "serve"),
    "run_vtn2": ("vtn2", "vtn2"),
    "run_work": ("work", "work"),
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PROCESSES.get(name, ("frame" if name in _FRAME else "wiring", name))
    return getattr(import_module(f"{__name__}.{module}"), attribute)
