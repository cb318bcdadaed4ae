"""Tesla Fleet API: operating mode, export rule, tariff and reserve of an energy site; no kW setpoint."""

from adapters.tesla.adapter import TeslaAdapter
from adapters.tesla.auth import InMemoryTokenStore, Token, TokenStore

__all__ = ["InMemoryTokenStore", "TeslaAdapter", "Token", "TokenStore"]
