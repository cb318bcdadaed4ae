"""SunSpec's layout: our offsets against the Alliance's own definitions, and values that say "nothing"."""

import json
from importlib.resources import files
from typing import Any

import pytest

from adapters.sunspec import wire
from tests.builders_sunspec import CONTROLS, MEASURE, METER, STORAGE, encoded
from tests.shared_data import shared_data
from vpp.domain.errors import OutOfRange

POINTS = [
    (701, "InvSt", wire.INVERTER_STATE),
    (701, "ConnSt", wire.CONNECTION_STATE),
    (701, "W", wire.DER_W),
    (701, "TotWhInj", wire.ENERGY_INJECTED),
    (701, "TotWhAbs", wire.ENERGY_ABSORBED),
    (702, "CtrlModes", wire.CONTROL_MODES),
    (713, "SoC", wire.STORAGE_SOC),
    (715, "LocRemCtl", wire.DER_LOCAL_REMOTE),
    (802, "SoC", wire.BATTERY_SOC),
    (802, "LocRemCtl", wire.BATTERY_LOCAL_REMOTE),
    *((model, "W", wire.METER_W) for model in wire.METERS_INT),
    *((model, "W", wire.METER_W_FLOAT) for model in wire.METERS_FLOAT),
    *((704, name, point) for name, point in wire.CONTROLS.items()),
    (704, "WSetRvrtRem", wire.REVERT_REMAINING),
]
TYPES = {
    "int16": wire.INT16,
    "uint16": wire.UINT16,
    "enum16": wire.ENUM16,
    "int32": wire.INT32,
    "uint32": wire.UINT32,
    "bitfield32": wire.UINT32,
    "uint64": wire.UINT64,
    "float32": wire.FLOAT32,
}


def _layout(definition: dict[str, Any]) -> dict[str, tuple[int, str, str | None]]:
    """Offset, type and scale factor of each point at a model's top level."""
    layout, offset = {}, 0
    for point in definition["group"]["points"]:
        layout[point["name"]] = (offset, point["type"], point.get("sf"))
        offset += point["size"]
    return layout


def _check(definition: dict[str, Any], name: str, point: wire.Point) -> None:
    layout = _layout(definition)
    offset, kind, scale = layout[name]
    assert (point.offset, point.kind) == (offset, TYPES[kind])
    assert point.scale_offset == (layout[scale][0] if scale else None)


@pytest.mark.parametrize(("model", "name", "point"), POINTS)
def test_each_point_lies_where_pysunspec2_says(model: int, name: str, point: wire.Point) -> None:
    definition = files("sunspec2.models.json").joinpath(f"model_{model}.json").read_text()
    _check(json.loads(definition), name, point)


@pytest.mark.parametrize(("model", "name", "point"), POINTS)
def test_each_point_lies_where_the_alliance_s_own_repository_says(model: int, name: str, point: wire.Point) -> None:
    definition = shared_data("devices", "sunspec", "models", f"model_{model}.json").read_text()
    _check(json.loads(definition), name, point)


@pytest.mark.parametrize(("model", "span"), wire.SPANS.items())
def test_a_read_ends_with_the_last_register_we_use(model: int, span: int) -> None:
    points = [point for number, _, point in POINTS if number == model]
    last = max(max(point.offset + point.kind.size, (point.scale_offset or 0) + 1) for point in points)
    assert span == last
    assert span <= 125


@pytest.mark.parametrize(
    ("raw", "exponent", "power_kw"), [(3200, 0, 3.2), (-320, 1, -3.2), (32000, -1, 3.2), (32767, 1, 327.67)]
)
def test_power_follows_its_scale_factor(raw: int, exponent: int, power_kw: float) -> None:
    assert wire.read_der(encoded(MEASURE | {"W": raw, "W_SF": exponent})).power_kw == pytest.approx(power_kw)


@pytest.mark.parametrize("exponent", [None, 11, -11])
def test_a_value_without_a_usable_scale_factor_is_missing(exponent: int | None) -> None:
    state = wire.read_der(encoded(MEASURE | {"W": 3200, "W_SF": exponent, "TotWh_SF": exponent}))
    assert (state.power_kw, state.injected_kwh, state.absorbed_kwh) == (None, None, None)


def test_values_that_say_not_implemented_are_missing_and_never_zero() -> None:
    state = wire.read_der(encoded({"ID": 701, "ACType": 0, "W_SF": 0, "TotWh_SF": 0}))
    assert (state.power_kw, state.injected_kwh, state.absorbed_kwh) == (None, None, None)
    assert not state.disconnected
    assert wire.read_soc(713, encoded(STORAGE | {"SoC": None})) is None
    assert wire.read_meter(203, encoded(METER | {"W": None})) is None
    assert wire.read_meter(213, encoded({"ID": 213})) is None


def test_registers_that_are_not_there_are_missing() -> None:
    state = wire.read_der(encoded(MEASURE)[:12])
    assert (state.power_kw, state.injected_kwh) == (None, None)


def test_the_sub_meter_keeps_all_64_bits() -> None:
    state = wire.read_der(encoded(MEASURE | {"TotWhInj": 2**40, "TotWhAbs": 7, "TotWh_SF": 3}))
    assert (state.injected_kwh, state.absorbed_kwh) == (2.0**40, 7.0)


@pytest.mark.parametrize("meter", [METER | {"W": 1500}, {"ID": 201, "W": 1500, "W_SF": 0}, {"ID": 213, "W": 1500.0}])
def test_a_meter_that_counts_import_reads_negative(meter: dict[str, Any]) -> None:
    assert wire.read_meter(meter["ID"], encoded(meter)) == -1.5


@pytest.mark.parametrize(("power_kw", "exponent", "raw"), [(3.2104, 0, 3210), (3.26, 2, 33), (-4.0, 1, -400)])
def test_a_setpoint_is_rounded_to_the_device_s_step(power_kw: float, exponent: int, raw: int) -> None:
    assert wire.setpoint_raw(power_kw, encoded(CONTROLS | {"WSet_SF": exponent})) == raw


@pytest.mark.parametrize("value", [2**31, -(2**31), -(2**31) - 1])
def test_a_number_the_register_cannot_say_is_refused(value: int) -> None:
    with pytest.raises(OutOfRange):
        wire.words(wire.SET_W, value)


def test_neighbouring_settings_travel_in_one_write() -> None:
    changes = {"WSetRvrtTms": 900, "WSet": -3000, "WSetMod": 1, "WSetRvrt": 0, "WSetEnaRvrt": 0}
    assert wire.write_blocks(changes.items()) == [(23, [1, 0xFFFF, 62536, 0, 0]), (30, [0, 0, 900])]


def test_the_alliance_s_example_device_reads_as_written_there() -> None:
    path = shared_data("devices", "sunspec", "pysunspec2", "device_1547.json")
    models = {model["ID"]: model for model in json.loads(path.read_text())["models"]}
    state = wire.read_der(encoded(models[701]))
    assert (state.power_kw, state.injected_kwh, state.absorbed_kwh) == (9.8, 150.0, 0.0)
