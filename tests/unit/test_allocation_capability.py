"""What the fleet can hold where sites share more than what is owed."""

import numpy as np
import pytest

from vpp.allocation import Problem
from vpp.allocation.capability import most_held

ASKED_KW = np.array([10.0])


def an_offer(**more: object) -> Problem:
    """Two full batteries of 5 kW, a capacity window of two hours in which they are asked for 10 kW."""
    return Problem.build(
        step_h=1.0, net_load_kw=np.zeros((2, 2)), max_charge_kw=np.full(2, 5.0), max_discharge_kw=np.full(2, 5.0),
        capacity_kwh=np.full(2, 20.0), soc=np.ones(2), may_charge=False, capacity_window=np.zeros(2),
        capacity_price_per_kw=np.array([20.0]), capacity_limit_kw=ASKED_KW, shortfall_price_per_kwh=1e3, **more,
    )  # fmt: skip


def test_the_closed_form_answers_where_nothing_is_shared() -> None:
    held = most_held(an_offer(), ASKED_KW)
    assert held.method == "closed_form"
    assert held.kw == pytest.approx([10.0])


def test_a_feeder_limits_what_can_be_held() -> None:
    offer = an_offer(feeder=np.zeros(2), feeder_parent=np.array([-1]), feeder_export_limit_kw=np.full((1, 2), 7.0))
    assert most_held(offer, ASKED_KW).kw == pytest.approx([7.0])


def test_what_a_programme_is_owed_cannot_be_held_for_another() -> None:
    offer = an_offer(program_commitment_kw=np.full((1, 2), 4.0), program_shortfall_price_per_kwh=1e4)
    assert most_held(offer, ASKED_KW).kw == pytest.approx([6.0])
