"""What sites will consume and generate while an event runs."""

from vpp.forecast.net_load import forecast_net_load_kw

__all__ = ["forecast_net_load_kw"]
