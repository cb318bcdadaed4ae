"""Wires everything by hand. The only room that knows the vendors in `adapters/` and the programmes in `market/`."""

from vpp.bootstrap.gateway import gateway, openadr2_ven
from vpp.bootstrap.serve import serve
from vpp.bootstrap.vtn2 import vtn2
from vpp.bootstrap.wiring import (
    ADAPTERS,
    MODE_ADAPTERS,
    RANKS,
    TESLA_URL,
    Secrets,
    TeslaTokens,
    adapters,
    clock_for,
    decision,
    new_secret,
    open_store,
    policy,
    programs,
    tools_for,
    until_stopped,
    watched_loops,
)
from vpp.bootstrap.work import work

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
    "gateway",
    "new_secret",
    "open_store",
    "openadr2_ven",
    "policy",
    "programs",
    "serve",
    "tools_for",
    "until_stopped",
    "vtn2",
    "watched_loops",
    "work",
]
