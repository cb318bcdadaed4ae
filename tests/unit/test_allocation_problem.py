"""A problem is refused with array, index and reason, or it is right."""

from typing import Any

import numpy as np
import pytest

from tests.builders_allocation import a_problem, random_arrays
from vpp.allocation import Options, Problem, options_from
from vpp.domain.errors import InvalidRequest

NAN_LOAD = np.array([[1.0, 1.0, 1.0, 1.0], [1.0, 1.0, np.nan, 1.0]])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"soc": np.array([0.5, 85.0])}, r"soc\[1\].*85\.0.*not percent"),
        ({"soc": np.array([0.5])}, r"soc: \(1,\).*shape \(2,\)"),
        ({"net_load_kw": NAN_LOAD}, r"net_load_kw\[1, 2\].*nan"),
        ({"net_load_kw": np.zeros(4)}, r"net_load_kw.*\(sites, steps\)"),
        ({"charge_efficiency": np.array([0.95, 95.0])}, r"charge_efficiency\[1\].*95"),
        ({"discharge_efficiency": np.array([0.0, 0.9])}, r"discharge_efficiency\[0\]"),
        ({"capacity_kwh": np.array([10.0, 0.0])}, r"capacity_kwh\[1\]"),
        ({"max_discharge_kw": np.array([-5.0, 5.0])}, r"max_discharge_kw\[0\].*-5"),
        ({"export_limit_kw": np.array([np.nan, 1.0])}, r"export_limit_kw\[0\]"),
        ({"step_h": 0.0}, r"step_h\[0\]"),
        ({"step_h": np.full(3, 1.0)}, r"step_h: \(3,\)"),
        ({"soc_floor": np.array([0.5, 0.9]), "soc_ceiling": np.array([0.6, 0.8])}, r"soc_floor\[1\].*soc_ceiling"),
        ({"export_price_per_kwh": 0.5}, r"export_price_per_kwh\[0, 0\].*import_price"),
        ({"commitment_kw": np.array([1.0, np.inf, 1.0, 1.0])}, r"commitment_kw\[1\].*inf"),
        ({"available": np.full((2, 4), 2)}, r"available.*True or False"),
        ({"capacity_window": np.zeros(4, dtype=int)}, r"capacity_window\[0\]"),
        (
            {"capacity_window": np.zeros(4, dtype=int), "capacity_price_per_kw": np.ones(1)},
            r"committed\[0\].*capacity_window",
        ),
        ({"capacity_window": np.full(4, 0.5), "capacity_price_per_kw": np.ones(1)}, r"capacity_window.*whole"),
        ({"demand_window": np.ones(4, dtype=bool)}, r"demand_window.*\(windows, steps\)"),
        ({"peak_so_far_kw": np.ones((2, 3))}, r"peak_so_far_kw"),
        ({"soc": np.array(["a", "b"])}, r"soc.*numbers"),
        ({"net_load_kw": [[1.0, 2.0], [1.0]]}, r"net_load_kw.*different lengths"),
        ({"step_h": np.full(4, 60.0)}, r"step_h\[0\].*60.*hours"),
        ({"step_h": 47.0, "net_load_kw": np.zeros((2, 5)), "commitment_kw": None}, r"step_h.*235 h.*not minutes"),
        ({"max_discharge_kw": np.array([5.0, 5000.0])}, r"max_discharge_kw\[1\].*5000.*kW, not W"),
        ({"max_charge_kw": 5000.0}, r"max_charge_kw\[0\].*5000.*kW, not W"),
        ({"soc": 85.0}, r"soc\[0\].*85.*not percent"),
        ({"import_price_per_kwh": np.array([0.3, 0.3, np.nan, 0.3])}, r"import_price_per_kwh\[0, 2\].*nan"),
        (
            {"capacity_window": np.zeros(4, dtype=int), "committed": False, "capacity_price_per_kw": [41.0]},
            r"capacity_price_per_kw\[0\].*41.*40.*capacity_limit_kw",
        ),
        ({"program_commitment_kw": np.ones(4)}, r"program_commitment_kw.*\(programmes, steps\)"),
        ({"program_commitment_kw": -np.ones((1, 4))}, r"program_commitment_kw\[0, 0\]"),
        ({"program_commitment_kw": np.ones((11, 4))}, r"program_commitment_kw: 11.*at most 10"),
        (
            {"program_commitment_kw": np.ones((2, 4)), "program_site": np.ones((3, 2), dtype=bool)},
            r"program_site: \(3, 2\)",
        ),
        (
            {"program_commitment_kw": [[0, 0, 1, 0]], "commitment_kw": [1, 1, -1, 1]},
            r"program_commitment_kw\[0, 2\].*delivery or absorption",
        ),
        ({"feeder": [0, 1], "feeder_parent": [-1]}, r"feeder\[1\]: 1.*index of a feeder_parent"),
        ({"feeder": 0}, r"feeder\[0\]: 0.*index of a feeder_parent"),
        ({"feeder": [0.5, 0]}, r"feeder.*whole"),
        ({"feeder_parent": [1, 2]}, r"feeder_parent\[1\]: 2.*index"),
        ({"feeder_parent": [-1, 2, 3, 1]}, r"feeder_parent\[1\]: 2.*tree"),
        ({"feeder_parent": [0]}, r"feeder_parent\[0\]: 0.*tree"),
        (
            {"feeder_parent": [-1], "feeder_export_limit_kw": [[1.0, np.nan, 1.0, 1.0]]},
            r"feeder_export_limit_kw\[0, 1\]",
        ),
        ({"feeder_parent": [-1], "feeder_import_limit_kw": -1.0}, r"feeder_import_limit_kw\[0, 0\]"),
        ({"wear_c_rate": [0.5]}, r"wear_c_rate.*wear_factor together"),
        ({"wear_c_rate": [0.5, 0.4], "wear_factor": [2.0, 3.0]}, r"wear_c_rate\[1\]: 0.4.*more than"),
        ({"wear_c_rate": [0.0], "wear_factor": [2.0]}, r"wear_c_rate\[0\].*above 0"),
        ({"wear_c_rate": [0.5, 1.0], "wear_factor": [3.0, 2.0]}, r"wear_factor\[1\]: 2.0.*convex"),
        ({"wear_c_rate": [0.5], "wear_factor": [0.5]}, r"wear_factor\[0\].*1 or more"),
        ({"power": 3}, r"power.*unknown array"),
        ({"soc": None}, r"soc.*no default"),
    ],
)
def test_what_is_wrong_is_refused_by_name_index_and_reason(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        a_problem(**change)


def test_arrays_are_copied_and_cannot_be_written() -> None:
    soc = np.array([0.5, 0.6])
    problem = a_problem(soc=soc)
    soc[0] = 0.1
    assert problem.soc[0] == 0.5
    with pytest.raises(ValueError, match="read-only"):
        problem.net_load_kw[0, 0] = 3.0


def test_a_commitment_alone_is_owed_in_every_step_and_nothing_is_owed_without_one() -> None:
    assert a_problem().committed.all()
    assert not a_problem(commitment_kw=None).committed.any()


def test_an_empty_answer_to_build_names_what_is_missing() -> None:
    with pytest.raises(InvalidRequest, match="no default"):
        Problem.build()


def test_what_is_the_same_for_every_site_is_kept_once() -> None:
    price = np.array([0.1, 0.2, 0.3, 0.4])
    problem = a_problem(import_price_per_kwh=price, export_price_per_kwh=0.0, available=True, soc=0.5)
    for name in ("import_price_per_kwh", "export_price_per_kwh", "available", "may_charge"):
        array = getattr(problem, name)
        assert array.shape == (2, 4)
        assert array.strides[0] == 0, name
    for name in ("soc", "terminal_value_per_kwh", "feeder"):
        assert getattr(problem, name).strides == (0,), name
    price[0] = 9.0
    np.testing.assert_array_equal(problem.import_price_per_kwh, [[0.1, 0.2, 0.3, 0.4]] * 2)
    again = Problem.build(problem.arrays())
    assert again.import_price_per_kwh.strides[0] == 0
    np.testing.assert_array_equal(again.import_price_per_kwh, problem.import_price_per_kwh)


def test_a_column_is_one_value_for_all_steps_of_a_site() -> None:
    problem = a_problem(available=np.array([[True], [False]]))
    np.testing.assert_array_equal(problem.available, [[True] * 4, [False] * 4])


def test_a_view_that_the_caller_can_still_write_through_is_copied() -> None:
    load = np.full((2, 4), 2.0)
    view = load[:]
    view.setflags(write=False)
    problem = a_problem(net_load_kw=view)
    load[0, 0] = 9.0
    assert problem.net_load_kw[0, 0] == 2.0


def test_defaults_of_the_later_arrays_change_nothing() -> None:
    problem = a_problem()
    assert problem.program_commitment_kw.shape == (0, 4)
    assert problem.program_site.shape == (0, 2)
    assert (problem.feeder == -1).all()
    assert problem.feeder_export_limit_kw.shape == (0, 4)
    assert problem.wear_c_rate.shape == (0,)


def test_some_sites_of_a_problem_are_a_problem() -> None:
    problem = Problem.build(
        {**random_arrays(3), "program_commitment_kw": np.ones((2, 8)), "terminal_value_per_kwh": 0.3}
    )
    rows = np.array([4, 1])
    for some, chosen in ((problem.only(rows), rows), (problem.only(slice(2, 4)), np.array([2, 3]))):
        assert some.sites == 2
        np.testing.assert_array_equal(some.net_load_kw, problem.net_load_kw[chosen])
        np.testing.assert_array_equal(some.program_site, problem.program_site[:, chosen])
        np.testing.assert_array_equal(some.commitment_kw, problem.commitment_kw)
        assert some.terminal_value_per_kwh.strides == (0,)
        assert some.terminal_value_per_kwh.shape == (2,)
    assert problem.only(slice(2, 4)).net_load_kw.base is not None


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ({"gap": 0.0}, "gap: 0.0"), ({"gap": 5.0}, "gap: 5.0"), ({"time_limit_s": -1.0}, "time_limit_s: -1.0.*0 s"),
        ({"workers": 0}, "workers: 0"), ({"method": "magic"}, "method: 'magic'.*auto or ortools or sequential"),
        ({"audit": "some"}, "audit: 'some'.*none or sample or full"), ({"seed": -1}, "seed: -1"),
        ({"solver": "abacus"}, "solver.*glop or highs"),
    ],
)  # fmt: skip
def test_an_option_that_makes_no_sense_is_refused_by_name(option: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidRequest, match=says):
        options_from(**option)


def test_options_not_given_are_the_defaults() -> None:
    assert options_from() == Options()
    assert options_from(gap=1e-3).gap == 1e-3
