"""Interval energy comes from registers where they exist, and never pretends to know what no sample covers."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vpp.telemetry.energy import energy_of_grid, energy_of_power, energy_of_registers, without_gap

STEP_S = 900.0
EDGES_S = np.array([0.0, 900.0, 1800.0, 2700.0, 3600.0])


def every(spacing_s: float, end_s: float = 3600.0) -> np.ndarray:
    return np.arange(0.0, end_s + 1, spacing_s)


def test_constant_power_gives_power_times_time() -> None:
    energy = energy_of_power(every(300), np.full(13, 4.0), EDGES_S, STEP_S)
    assert energy.energy_kwh == pytest.approx([1.0] * 4)
    assert energy.measured.all()


def test_samples_off_the_borders_are_interpolated() -> None:
    times_s = every(300, 4200) - 130.0
    energy = energy_of_power(times_s, times_s / 900.0, EDGES_S, STEP_S)
    assert energy.energy_kwh == pytest.approx([0.125, 0.375, 0.625, 0.875])


def test_a_gap_leaves_its_interval_missing_and_its_neighbours_estimated() -> None:
    times_s = np.array([0, 300, 600, 900, 1200, 3300, 3600], dtype=float)
    energy = energy_of_power(times_s, np.full(7, 4.0), EDGES_S, STEP_S)
    assert energy.energy_kwh[0] == pytest.approx(1.0)
    assert np.isnan(energy.energy_kwh[1:]).all()
    assert energy.measured.tolist() == [True, False, False, False]


def test_half_covered_is_estimated_from_the_covered_part() -> None:
    times_s = np.array([0, 100, 200, 300, 400, 500, 600, 900, 1000, 1100], dtype=float)
    energy = energy_of_power(times_s, np.full(10, 4.0), np.array([0.0, 900.0]), STEP_S)
    assert energy.energy_kwh == pytest.approx([1.0])
    assert not energy.measured[0]


def test_a_slower_cadence_is_no_gap() -> None:
    times_s = np.concatenate([every(1800, 14400), 14400 + np.arange(1, 13) * 300.0])
    assert without_gap(times_s, STEP_S).all()


def test_samples_too_far_apart_for_the_step_say_nothing() -> None:
    assert np.isnan(energy_of_power(every(3600, 7200), np.full(3, 4.0), EDGES_S, STEP_S).energy_kwh).all()


def test_no_samples_give_nothing() -> None:
    none = np.array([])
    assert np.isnan(energy_of_power(none, none, EDGES_S, STEP_S).energy_kwh).all()
    assert np.isnan(energy_of_registers(none, none, none, EDGES_S, STEP_S, 5.0).energy_kwh).all()


def test_registers_give_their_difference_whatever_the_power_samples_missed() -> None:
    times_s = every(300)
    out_kwh = 100.0 + np.array([0, 0, 0, 0.5, 1, 1, 1, 1, 1, 1, 1.2, 1.2, 1.2])
    in_kwh = 50.0 + np.linspace(0, 0.12, 13)
    energy = energy_of_registers(times_s, out_kwh, in_kwh, EDGES_S, STEP_S, 7.5)
    assert energy.energy_kwh == pytest.approx([0.5 - 0.03, 0.5 - 0.03, -0.03, 0.2 - 0.03])
    assert energy.measured.all()


def test_a_register_reset_counts_on_from_zero_as_an_estimate() -> None:
    out_kwh = np.array([900.0, 900.3, 900.6, 0.3, 0.6, 0.9, 1.2])
    energy = energy_of_registers(every(300, 1800), out_kwh, np.zeros(7), EDGES_S[:3], STEP_S, 7.5)
    assert energy.energy_kwh == pytest.approx([0.9, 0.9])
    assert energy.measured.tolist() == [False, True]


def test_an_exchanged_meter_is_not_taken_for_energy() -> None:
    out_kwh = np.array([900.0, 900.3, 900.6, 5000.0, 5000.3, 5000.6, 5000.9])
    energy = energy_of_registers(every(300, 1800), out_kwh, np.zeros(7), EDGES_S[:3], STEP_S, 7.5)
    assert np.isnan(energy.energy_kwh[0])
    assert energy.energy_kwh[1] == pytest.approx(0.9)


def test_a_register_over_an_outage_keeps_the_total_as_an_estimate() -> None:
    times_s = np.array([0, 300, 600, 900, 3600, 3900], dtype=float)
    out_kwh = np.array([0, 0.1, 0.2, 0.3, 3.3, 3.4])
    energy = energy_of_registers(times_s, out_kwh, np.zeros(6), EDGES_S, STEP_S, 7.5)
    assert energy.energy_kwh == pytest.approx([0.3, 1.0, 1.0, 1.0])
    assert energy.measured.tolist() == [True, False, False, False]


def test_registers_say_nothing_beyond_the_last_sample() -> None:
    energy = energy_of_registers(every(300, 1500), np.linspace(0, 1, 6), np.zeros(6), EDGES_S, STEP_S, 7.5)
    assert np.isnan(energy.energy_kwh).tolist() == [False, True, True, True]


def test_grid_energy_follows_the_batterys_jump_between_samples() -> None:
    times_s = every(300)
    truth_kw = np.where(times_s >= 900, 5.0, 0.0)
    samples_kw = np.where(times_s > 900, 5.0, 0.0)  # read just before the command
    out_kwh = np.concatenate([[0], np.cumsum(truth_kw[:-1] * 300 / 3600)])
    battery = energy_of_registers(times_s, out_kwh, np.zeros(13), EDGES_S, STEP_S, 7.5)
    grid = energy_of_grid(battery, times_s, samples_kw, samples_kw - 2.0, EDGES_S, STEP_S)
    assert grid.energy_kwh == pytest.approx([-0.5, 0.75, 0.75, 0.75])
    assert grid.measured.all()


@given(
    st.lists(st.floats(-7, 7), min_size=5, max_size=60),
    st.lists(st.floats(10, 900), min_size=60, max_size=60),
)
@settings(max_examples=150, deadline=None)
def test_intervals_add_up_to_the_whole(power_kw: list[float], spacing_s: list[float]) -> None:
    times_s = np.concatenate([[0.0], np.cumsum(spacing_s[: len(power_kw) - 1])])
    powers = np.array(power_kw)
    edges_s = np.linspace(0.0, times_s[-1], 6)
    in_kwh, out_kwh = (
        np.concatenate([[0.0], np.cumsum(np.diff(times_s) * np.maximum(sign * powers[:-1], 0) / 3600)])
        for sign in (-1, 1)
    )
    energy = energy_of_registers(times_s, out_kwh, in_kwh, edges_s, 1e6, 7.5)
    assert energy.energy_kwh.sum() == pytest.approx(out_kwh[-1] - in_kwh[-1], abs=1e-6)
    if without_gap(times_s, 1e6).all():
        whole_kwh = np.trapezoid(powers, times_s) / 3600
        assert energy_of_power(times_s, powers, edges_s, 1e6).energy_kwh.sum() == pytest.approx(whole_kwh, abs=1e-6)
