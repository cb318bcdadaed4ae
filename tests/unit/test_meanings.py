"""What each payload type means for the fleet.

Goal: every type of OpenADR 3.1's enumeration, and every one only 2.0b has, is read literally and held to its range;
the same event means the same by either protocol.
Method: the enumeration itself (`event-interval-payloads.schema.yaml`) says which types there are and which values
are in range; events go out through each protocol's writer and come back through its reader.
"""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
import yaml

from market.openadr2.codec import decode, encode
from market.openadr3.events import from_openadr3, to_openadr3
from tests.shared_data import shared_spec
from vpp.domain.fleet_signal import (
    Alert,
    Bid,
    Capacity,
    CapacityLimit,
    CapacityTerms,
    ChargeKind,
    ChargeState,
    Curve,
    DemandPrice,
    DeviceCommand,
    DeviceSetting,
    Direction,
    Effect,
    Emissions,
    FleetSignal,
    Instruction,
    Level,
    LevelOffset,
    LoadShape,
    Multiplier,
    NotUsable,
    PercentOffset,
    PowerOwed,
    Price,
    PriceKind,
    ShareOfCapacity,
    Unknown,
    charge_within,
)
from vpp.domain.fleet_signal_words import words
from vpp.domain.grid_event import EventStatus, GridEvent, Point, Series, SeriesInterval, SeriesType, Value
from vpp.domain.openadr2 import DistributedEvent, DistributeEvents
from vpp.gateway.meanings import RULES, meanings

S = SeriesType
START_AT = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
IN, OUT = Direction.IMPORT, Direction.EXPORT

Case = tuple[tuple[Value, ...], str | None, str | None, type[FleetSignal], dict[str, Any], str]


def _alert(said: str = "stay inside") -> Case:
    return (said,), None, None, Alert, {"text": said}, said


def _terms(direction: Direction, what: Capacity, currency: str | None, said: str) -> Case:
    expected = {"direction": direction, "what": what, "amount": Decimal("12.5"), "currency": currency}
    return (12.5,), "KW", currency, CapacityTerms, expected, said


def _price(kind: PriceKind, said: str, unit: str | None = "KWH") -> Case:
    currency = None if unit is None else "USD"
    expected = {"kind": kind, "amount": Decimal("0.31"), "unit": unit, "currency": currency}
    return (0.31,), unit, currency, Price, expected, said


CASES: dict[SeriesType, Case] = {
    S.SIMPLE: ((2,), None, None, Level, {"level": 2}, "level 2"),
    S.DISPATCH_SETPOINT: ((300.0,), "KW", None, PowerOwed, {"power_kw": 300.0}, "deliver 300 kW"),
    S.DISPATCH_SETPOINT_RELATIVE: ((-500.0,), "KW", None, PowerOwed, {"power_kw": 500.0}, "deliver 500 kW"),
    S.DISPATCH_MULTIPLIER: ((0.8,), None, None, Multiplier, {"factor": 0.8}, "0.8 times the usual consumption"),
    S.DISPATCH_LEVEL: ((3,), None, None, Level, {"level": 3}, "level 3"),
    S.DISPATCH_INSTRUCTION: (("AUX_1", "B"), None, None, Instruction, {"texts": ("AUX_1", "B")}, "AUX_1, B"),
    S.CONTROL_SETPOINT: ((21.5,), "CELSIUS", None, DeviceSetting, {"value": 21.5}, "set to 21.5 CELSIUS"),
    S.CONTROL_LEVEL_OFFSET: ((3,), None, None, LevelOffset, {"steps": 3}, "3 steps less load than normal"),
    S.CONTROL_LEVEL_OFFSET_PERCENT: (
        (-0.5,), "PERCENT", None, PercentOffset, {"share": -0.5}, "level of operation -50 % from normal",
    ),
    S.CONTROL_CAPACITY: (
        (0.25,), None, None, ShareOfCapacity, {"share": 0.25}, "use 25 % of the load control capacity",
    ),
    S.CHARGE_STATE_SETPOINT: (
        (0.8,), "PERCENT", None, ChargeState, {"kind": ChargeKind.SETPOINT, "share": 0.8}, "hold a charge of 80 %",
    ),
    S.CHARGE_STATE_DELTA: (
        (-4.0,), "KWH", None, ChargeState, {"kind": ChargeKind.DELTA, "energy_kwh": -4.0},
        "change the charge by -4 kWh",
    ),
    S.CHARGE_STATE_MULTIPLIER: (
        (0.5,), None, None, ChargeState, {"kind": ChargeKind.MULTIPLIER, "share": 0.5}, "0.5 times of the charge",
    ),
    S.PRICE: _price(PriceKind.IMPORT, "energy costs 0.31 USD per kWh"),
    S.PRICE_ALTERNATE: _price(PriceKind.ALTERNATE, "the second form of energy costs 0.31 USD per therm", "THERMS"),
    S.EXPORT_PRICE: _price(PriceKind.EXPORT, "exported energy is paid 0.31 USD per kWh"),
    S.PRICE_RELATIVE: _price(PriceKind.RELATIVE, "the price changes by 0.31 USD per kWh"),
    S.PRICE_MULTIPLIER: _price(PriceKind.MULTIPLIER, "0.31 times the usual price", None),
    S.DEMAND_CHARGE: (
        (18.5,), "KW", "USD", DemandPrice, {"amount_per_kw": Decimal("18.5")}, "peak demand costs 18.5 USD per kW",
    ),
    S.GHG: ((412.0,), "GHG", None, Emissions, {"grams_per_kwh": 412.0}, "412 g of greenhouse gas per kWh"),
    S.CURVE: (
        (Point(0.95, 0.3), Point(1.05, -0.3)), None, None, Curve,
        {"points": (Point(0.95, 0.3), Point(1.05, -0.3))}, "curve through (0.95, 0.3), (1.05, -0.3)",
    ),
    S.OLS: ((0.0, 0.4, 1.0), None, None, LoadShape, {"shares": (0.0, 0.4, 1.0)}, "load shape 0, 0.4, 1"),
    S.IMPORT_CAPACITY_SUBSCRIPTION: _terms(IN, Capacity.SUBSCRIPTION, None, "import: subscription of 12.5 kW"),
    S.IMPORT_CAPACITY_RESERVATION: _terms(IN, Capacity.RESERVATION, None, "import: reservation of 12.5 kW"),
    S.IMPORT_CAPACITY_RESERVATION_FEE: _terms(
        IN, Capacity.RESERVATION_FEE, "USD", "import: reservation fee 12.5 USD per kW"
    ),
    S.IMPORT_CAPACITY_AVAILABLE: _terms(IN, Capacity.AVAILABLE, None, "import: available of 12.5 kW"),
    S.IMPORT_CAPACITY_AVAILABLE_PRICE: _terms(
        IN, Capacity.AVAILABLE_PRICE, "USD", "import: price of available capacity 12.5 USD per kW"
    ),
    S.EXPORT_CAPACITY_SUBSCRIPTION: _terms(OUT, Capacity.SUBSCRIPTION, None, "export: subscription of 12.5 kW"),
    S.EXPORT_CAPACITY_RESERVATION: _terms(OUT, Capacity.RESERVATION, None, "export: reservation of 12.5 kW"),
    S.EXPORT_CAPACITY_RESERVATION_FEE: _terms(
        OUT, Capacity.RESERVATION_FEE, "USD", "export: reservation fee 12.5 USD per kW"
    ),
    S.EXPORT_CAPACITY_AVAILABLE: _terms(OUT, Capacity.AVAILABLE, None, "export: available of 12.5 kW"),
    S.EXPORT_CAPACITY_AVAILABLE_PRICE: _terms(
        OUT, Capacity.AVAILABLE_PRICE, "USD", "export: price of available capacity 12.5 USD per kW"
    ),
    S.IMPORT_CAPACITY_LIMIT: (
        (60.0,), "KW", None, CapacityLimit, {"direction": IN, "limit_kw": 60.0}, "import at most 60 kW",
    ),
    S.EXPORT_CAPACITY_LIMIT: (
        (0.0,), "KW", None, CapacityLimit, {"direction": OUT, "limit_kw": 0.0}, "export at most 0 kW",
    ),
    **{type_: _alert() for type_ in S if type_.value.startswith("ALERT_")},
    S.CTA2045_REBOOT: ((1,), None, None, DeviceCommand, {"code": 1}, "hard reboot"),
    S.CTA2045_SET_OVERRIDE_STATUS: ((0,), None, None, DeviceCommand, {"code": 0}, "no override"),
    S.BID_PRICE: ((0.1,), "KWH", "USD", Bid, {"amount": Decimal("0.1")}, "bid of 0.1 USD per kWh"),
    S.BID_LOAD: ((40.0,), "KW", None, Bid, {"amount": Decimal("40.0")}, "bid of 40.0 kW"),
    S.BID_ENERGY: ((80.0,), "KWH", None, Bid, {"amount": Decimal("80.0")}, "bid of 80.0 kWh"),
    S.OTHER: (("a", 7), "FURLONGS", None, Unknown, {"values": ("a", 7)}, "a, 7 FURLONGS"),
}  # fmt: skip


def an_event(
    type_: SeriesType, *values: Value, unit: str | None = None, currency: str | None = None, name: str = ""
) -> GridEvent:
    part = SeriesInterval(start_at=START_AT, duration=HOUR, values=values, uid="0")
    own_name = name or ("x-own-type" if type_ is S.OTHER else type_.value)
    series = Series(series_id="0", type=type_, name=own_name, intervals=(part,), unit=unit, currency=currency)
    return GridEvent(
        event_id="e1", modification_number=0, program="p", start_at=START_AT, duration=HOUR, series=(series,),
        created_at=START_AT,
    )  # fmt: skip


def only(event: GridEvent) -> FleetSignal:
    (signal,) = meanings(event)
    return signal


def defect(type_: SeriesType, *values: Value, unit: str | None = None) -> str:
    signal = only(an_event(type_, *values, unit=unit))
    assert isinstance(signal, NotUsable), signal
    assert words(signal) == signal.reason
    return signal.reason


def enumeration() -> dict[str, dict[str, Any]]:
    path = shared_spec("openadr3", "3.1.0", "enumerations", "event-interval-payloads.schema.yaml")
    definitions: dict[str, dict[str, Any]] = yaml.safe_load(path.read_text(encoding="utf-8"))["definitions"]
    return definitions


def test_every_type_has_a_meaning() -> None:
    assert set(RULES) == set(CASES) == set(SeriesType)


def test_every_type_of_the_enumeration_is_one_of_ours() -> None:
    assert set(enumeration()) == {type_.value for type_ in SeriesType} & set(enumeration())
    assert len(enumeration()) == 38


@pytest.mark.parametrize("type_", SeriesType)
def test_a_value_means_what_its_type_says(type_: SeriesType) -> None:
    values, unit, currency, kind, expected, said = CASES[type_]
    signal = only(an_event(type_, *values, unit=unit, currency=currency))
    assert type(signal) is kind, signal
    assert {name: getattr(signal, name) for name in expected} == expected
    assert (signal.type, signal.start_at, signal.end_at) == (type_, START_AT, START_AT + HOUR)
    assert words(signal) == said


SCALARS = [S(name) for name in S if S(name) not in (S.OTHER, S.OLS, S.CURVE, S.DISPATCH_INSTRUCTION)]


@pytest.mark.parametrize("type_", [type_ for type_ in SCALARS if type_ is not S.CONTROL_SETPOINT])
def test_a_value_beyond_the_enumerations_range_is_flagged_with_what_would_be_right(type_: SeriesType) -> None:
    """The ranges are those of the schema; 2.0b's, which is wider, counts for a change of consumption."""
    schema = enumeration().get(type_.value, {}).get("items", {})
    values, unit, *_ = CASES[type_]
    wrong: list[tuple[Value, ...]] = [(), (*values, *values)]
    if type_ is not S.DISPATCH_SETPOINT and type_ is not S.DISPATCH_SETPOINT_RELATIVE and "minimum" in schema:
        wrong += [(schema["minimum"] - 0.01,), (schema["minimum"] - 1,)]
    if "maximum" in schema:
        wrong += [(schema["maximum"] + 0.01,), (schema["maximum"] + 1,)]
    if schema.get("type") == "integer":
        wrong += [(0.5,)]
    wrong += (
        [(7,)] if schema.get("type") == "string" else [("many",), (True,), (float("nan"),), (10**400,), (Point(1, 2),)]
    )
    for each in wrong:
        reason = defect(type_, *each, unit=unit)
        assert reason.startswith(type_.value)
        assert "it should be" in reason


@pytest.mark.parametrize("type_", SCALARS)
def test_the_bounds_of_a_range_are_within_it(type_: SeriesType) -> None:
    schema = enumeration().get(type_.value, {}).get("items", {})
    unit = CASES[type_][1]
    for bound in (schema.get("minimum"), schema.get("maximum")):
        if bound is not None:
            assert not isinstance(only(an_event(type_, bound, unit=unit)), NotUsable)


@pytest.mark.parametrize("type_", [type_ for type_ in SeriesType if RULES[type_].units != ("*",)])
def test_a_wrong_unit_is_flagged_and_never_converted(type_: SeriesType) -> None:
    values = CASES[type_][0]
    wrong_units = {"KVA", "AMPS", "KWH", "KW", "PERCENT", ""} - set(RULES[type_].units)
    for unit in wrong_units:
        assert f"in {unit or 'no unit'}; it should be in" in defect(type_, *values, unit=unit or None)


def test_percent_is_a_share_of_one_and_80_is_refused_not_divided() -> None:
    stated = only(an_event(S.CHARGE_STATE_SETPOINT, 0.8, unit="PERCENT"))
    assert isinstance(stated, ChargeState)
    assert stated.share == 0.8
    for type_ in (S.CHARGE_STATE_SETPOINT, S.CONTROL_LEVEL_OFFSET_PERCENT, S.CONTROL_CAPACITY, S.OLS):
        assert f"{type_.value} 80 PERCENT; it should be" in defect(type_, 80, unit="PERCENT")
    one = only(an_event(S.CHARGE_STATE_SETPOINT, 1, unit="PERCENT"))
    assert isinstance(one, ChargeState)
    assert one.share == 1.0  # full, not one hundredth


def test_control_level_offset_is_whole_steps_and_no_power() -> None:
    for steps, said in (
        (10, "10 steps less load than normal"),
        (1, "1 step less load than normal"),
        (0, "normal operation"),
        (-10, "10 steps more load than normal"),
    ):
        signal = only(an_event(S.CONTROL_LEVEL_OFFSET, steps))
        assert signal == LevelOffset(
            type=S.CONTROL_LEVEL_OFFSET,
            name="CONTROL_LEVEL_OFFSET",
            start_at=START_AT,
            end_at=START_AT + HOUR,
            steps=steps,
        )
        assert words(signal) == said
    assert not [field.name for field in fields(LevelOffset) if field.name.endswith("_kw")]
    assert RULES[S.CONTROL_LEVEL_OFFSET].effect is Effect.SHOWN  # no programme of ours says how many kW a step is
    assert "from -10 to 10" in defect(S.CONTROL_LEVEL_OFFSET, 11)
    assert "from -10 to 10" in defect(S.CONTROL_LEVEL_OFFSET, 2.5)
    assert "no unit" in defect(S.CONTROL_LEVEL_OFFSET, 2, unit="PERCENT")


def test_control_level_offset_percent_is_a_share_of_the_level_of_operation_and_no_power() -> None:
    for share in (-1, -0.5, 0, 0.5, 1):
        signal = only(an_event(S.CONTROL_LEVEL_OFFSET_PERCENT, share, unit="PERCENT"))
        assert isinstance(signal, PercentOffset)
        assert signal.share == share
    assert words(only(an_event(S.CONTROL_LEVEL_OFFSET_PERCENT, 0.5, unit="PERCENT"))) == (
        "level of operation +50 % from normal"
    )
    assert not [field.name for field in fields(PercentOffset) if field.name.endswith("_kw")]
    assert RULES[S.CONTROL_LEVEL_OFFSET_PERCENT].effect is Effect.SHOWN


def test_a_wanted_charge_is_never_below_the_owners_reserve_and_never_above_full() -> None:
    def wanted(value: float, unit: str) -> float | None:
        signal = only(an_event(S.CHARGE_STATE_SETPOINT, value, unit=unit))
        assert isinstance(signal, ChargeState)
        return charge_within(signal.share, signal.energy_kwh, capacity_kwh=10.0, reserve_soc=0.2)

    assert (wanted(0.8, "PERCENT"), wanted(0.1, "PERCENT")) == (0.8, 0.2)
    assert (wanted(5.0, "KWH"), wanted(1.0, "KWH"), wanted(40.0, "KWH")) == (0.5, 0.2, 1.0)


def test_an_unknown_type_is_kept_with_its_name_and_values_and_nothing_is_read_into_it() -> None:
    body = {
        "id": "e1", "programID": "p", "createdDateTime": "2026-08-19T00:00:00Z",
        "intervalPeriod": {"start": "2026-08-19T23:00:00Z", "duration": "PT1H"},
        "payloadDescriptors": [{"payloadType": "POWER_SETPOINT_KW", "units": "KW"}],
        "intervals": [{"id": 0, "payloads": [{"type": "POWER_SETPOINT_KW", "values": [500, "x", True]}]}],
    }  # fmt: skip
    event, _ = from_openadr3(body, modification_number=0)
    signal = only(event)
    assert isinstance(signal, Unknown)
    assert (signal.name, signal.values, signal.unit) == ("POWER_SETPOINT_KW", (500, "x", True), "KW")


def test_an_event_without_end_means_a_signal_without_end_and_so_does_one_beyond_the_calendar() -> None:
    event = an_event(S.ALERT_FIRE, "smoke")
    (series,) = event.series
    for duration in (None, timedelta(days=3_000_000)):
        part = replace(series.intervals[0], duration=duration)
        (signal,) = meanings(replace(event, series=(replace(series, intervals=(part,)),)))
        assert signal.end_at is None


SAYABLE_IN_2 = [
    S.SIMPLE, S.PRICE, S.PRICE_RELATIVE, S.PRICE_MULTIPLIER, S.DEMAND_CHARGE, S.DISPATCH_SETPOINT,
    S.DISPATCH_SETPOINT_RELATIVE, S.DISPATCH_MULTIPLIER, S.DISPATCH_LEVEL, S.CONTROL_CAPACITY, S.CONTROL_LEVEL_OFFSET,
    S.CONTROL_LEVEL_OFFSET_PERCENT, S.CONTROL_SETPOINT, S.CHARGE_STATE_SETPOINT, S.CHARGE_STATE_DELTA,
    S.CHARGE_STATE_MULTIPLIER, S.BID_PRICE, S.BID_LOAD, S.BID_ENERGY,
]  # fmt: skip


@pytest.mark.parametrize("type_", SAYABLE_IN_2)
def test_the_same_event_means_the_same_by_2_0b_and_by_3_1(type_: SeriesType) -> None:
    values, unit, currency, kind, *_ = CASES[type_]
    if type_ is S.CONTROL_CAPACITY:
        unit = "PERCENT"
    event = an_event(type_, *values, unit=unit, currency=currency)
    told = DistributeEvents(
        request_id="r", vtn_id="VTN1", events=(DistributedEvent(event=event, status=EventStatus.FAR),)
    )
    message = decode(encode(told)).message
    assert isinstance(message, DistributeEvents)
    by_2 = only(message.events[0].event)
    by_3 = only(from_openadr3(to_openadr3(event, program_id="p")[0], modification_number=0)[0])
    assert type(by_2) is type(by_3) is kind
    assert words(by_2) == words(by_3) == words(only(event))
    own = {"name"}  # each protocol's own word for the type
    for field in fields(kind):
        if field.name not in own:
            assert getattr(by_2, field.name) == getattr(by_3, field.name), field.name
