"""SunSpec over Modbus TCP: a kW setpoint with the device's own timer."""

from adapters.sunspec.adapter import SunSpecAdapter

__all__ = ["SunSpecAdapter"]
