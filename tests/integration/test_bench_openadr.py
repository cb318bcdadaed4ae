"""`vpp bench openadr2` measures both servers alike, and ours is the faster; its figures are for a quiet machine."""

import pytest

from tests.bench import bench_openadr2
from vpp.cli import load_commands, run
from vpp.store.embedded import ServerUrls


@pytest.mark.timeout(120)
def test_our_vtn_is_faster_than_stock_openleadr_in_polls_and_in_telling_an_event(
    database_url: str, redis_url: str
) -> None:
    measured = bench_openadr2.run(quick=True, urls=ServerUrls(database_url, redis_url))["vens"]["50"]
    for name in ("polls", "distribution", "polls_signed", "distribution_signed"):
        # beside other tests seconds say little; processor time says the same there
        assert max(measured[name]["ratio"], measured[name]["cpu_ratio"]) > 1, measured[name]
    assert measured["distribution"]["ours"]["vens"] == measured["distribution"]["stock"]["sample"] == 50
    assert measured["distribution_signed"]["stock"]["sample"] == measured["polls_signed"]["stock_vens"] == 4


def test_an_option_that_is_not_the_benchmarks_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    load_commands()
    assert run(["bench", "demo", "--vens", "5"]) != 0
    assert "--vens" in capsys.readouterr().err
