"""A file of sites is read whole, and every bad cell is named by line, column, value and what is allowed."""

import csv
import io
import re
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders_enrolment import site_form
from vpp.bootstrap import programs
from vpp.enrolment import COLUMNS, EnrolmentRefused, Problem, SiteForm, read_sites_csv, write_sites_csv
from vpp.enrolment.tariffs import tariff_from_json, tariff_to_json


def file_with(**cells: str) -> str:
    """A file of one good site with some cells replaced."""
    header, line, *_ = csv.reader(io.StringIO(write_sites_csv([site_form(1)])))
    out = io.StringIO(newline="")
    row = dict(zip(header, line, strict=True)) | cells
    csv.writer(out, lineterminator="\n").writerows([header, list(row.values())])
    return out.getvalue()


def problems_of(text: str | bytes, **known: Any) -> list[Problem]:
    with pytest.raises(EnrolmentRefused) as refused:
        read_sites_csv(text, **known)
    return refused.value.problems


def test_a_written_file_reads_back_the_same() -> None:
    forms = [site_form(1), site_form(2, programs=[], name='Bäckerei, "Süd"')]
    assert read_sites_csv(write_sites_csv(forms).encode()) == [f.at_line(n) for n, f in enumerate(forms, 2)]


@pytest.mark.parametrize(
    ("column", "value", "hint"),
    [
        ("site", "a b", "letters, digits"),
        ("owner_email", "nobody", "e-mail address"),
        ("time_zone", "PST", "IANA time zone"),
        ("time_zone", "America/Los_Angels", "IANA time zone"),
        ("programs", "elrp", "'name=value'"),
        ("programs", "elrp=80", "80 percent is written 0.8"),
        ("max_charge_kw", "five", "power in kW"),
        ("max_charge_kw", "5,0", "decimal point"),
        ("max_discharge_kw", "-5", "from 0"),
        ("capacity_kwh", "0", "above 0"),
        ("capacity_kwh", "nan", "above 0"),
        ("import_limit_kw", "inf", "power in kW"),
        ("charge_efficiency", "95", "95 percent is written 0.95"),
        ("reserve_soc", "20", "20 percent is written 0.2"),
        ("reserve_soc", "-0.1", "share from 0 to 1"),
        ("energy_prices", "peak 0.45 16-21", "none holds mon 0-1"),
        ("energy_prices", "peak 0.45 22-6; rest 0.2", "two periods 22-24 and 0-6"),
        ("energy_prices", "rest 45", "whole currency units"),
        ("energy_prices", "peak", "name price"),
        ("demand_charges", "summer 18 16-21 fri-mon", "order of the week"),
        ("export_price_per_kwh", "free", "whole currency units"),
        ("billing_start", "August", "first day of the billing period"),
        ("billing_start", "", "because the tariff has demand charges"),
        ("peaks_so_far_kw", "winter=3", "summer=<kW>"),
        ("peaks_so_far_kw", "", "summer=<kW>"),
        ("adapter", "acme", "sunspec, tesla"),
        ("adapter", "", "adapter"),
    ],
)
def test_a_bad_cell_is_named_with_what_is_allowed(column: str, value: str, hint: str) -> None:
    (problem,) = problems_of(file_with(**{column: value}), adapters={"sunspec", "tesla"})
    assert (problem.line, problem.column, problem.value) == (2, column, value)
    assert hint in problem.allowed


def test_every_bad_cell_of_every_line_is_reported() -> None:
    bad = file_with(reserve_soc="20", capacity_kwh="x", energy_prices="peak").splitlines()
    text = "\n".join([bad[0], bad[1], "", bad[1].replace("site-001", "site 2")])
    found = {(p.line, p.column) for p in problems_of(text)}
    per_line = {"reserve_soc", "capacity_kwh", "energy_prices"}
    assert found == {(2, c) for c in per_line} | {(4, c) for c in per_line | {"site"}}


def test_unknown_and_missing_columns_are_reported() -> None:
    text = file_with().replace("capacity_kwh", "capacity_mwh", 1)
    assert {(p.line, p.column) for p in problems_of(text)} == {(1, "capacity_kwh"), (1, "capacity_mwh")}


def test_a_site_or_account_twice_in_a_file_is_reported_where_it_recurs() -> None:
    text = write_sites_csv([site_form(1), site_form(1)])
    found = [(p.line, p.column) for p in problems_of(text)]
    assert found == [(3, "site"), (3, "utility_account")]
    assert "line 2" in problems_of(text)[0].allowed


def test_an_owner_described_in_two_ways_is_reported() -> None:
    text = write_sites_csv([site_form(1), site_form(2, owner="owner-001")])
    assert [(p.line, p.column) for p in problems_of(text)] == [(3, "owner_email")]


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        (file_with(name="caf").encode().replace(b"caf", b"caf\xe9"), 2, "UTF-8"),
        (b"", 1, "first line with the columns"),
        (file_with().splitlines()[0], 2, "sites"),
        ("site;owner\na;b", 1, "commas"),
        (file_with() + "a,b\n", 3, "24 cells"),
        (file_with() + '"open', 3, "quotes closed"),
    ],
)
def test_a_file_that_is_no_such_file_is_refused_with_the_line(text: str | bytes, line: int, hint: str) -> None:
    (problem,) = problems_of(text)
    assert problem.line == line
    assert hint in problem.allowed


def test_a_line_is_counted_where_it_begins_even_after_a_cell_with_line_breaks() -> None:
    first = write_sites_csv([site_form(1, name="two\nlines")])
    text = first + file_with(site="b", utility_account="B", reserve_soc="2").splitlines()[1]
    assert [(p.line, p.column) for p in problems_of(text)] == [(4, "reserve_soc")]


ids = st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9._-]{0,20}\Z")
kw = st.floats(0, 1e6, allow_nan=False)
share = st.floats(0.01, 1)
price = st.decimals(-1, 10, places=6)
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zs", "Zl", "Zp"]), max_size=30)


@st.composite
def forms(draw: st.DrawFn) -> SiteForm:
    demand = draw(st.lists(st.sampled_from(["summer", "winter", "any"]), unique=True))
    hours = draw(st.tuples(st.integers(0, 11), st.integers(12, 24)))
    days = draw(st.sets(st.integers(1, 7), min_size=1))
    return site_form(
        site=draw(ids),
        name=draw(names),
        owner=draw(ids),
        reserve_soc=draw(share),
        import_limit_kw=draw(kw),
        programs=[
            {"program": p, "owner_share": draw(st.decimals(0, 1, places=5))} for p in draw(st.sets(ids, max_size=3))
        ],
        tariff={
            "name": "T",
            "energy": [
                {"name": "a", "price_per_kwh": draw(price), "start_h": hours[0], "end_h": hours[1], "weekdays": days},
                {"name": "rest", "price_per_kwh": draw(price)},
            ],
            "export_price_per_kwh": draw(price),
            "demand": [{"name": d, "price_per_kw": draw(st.decimals(0, 1000, places=4))} for d in demand],
        },
        peaks_so_far_kw={d: draw(kw) for d in demand},
    )


@given(forms())
@settings(max_examples=60, deadline=None)
def test_any_form_survives_the_file_and_the_store(form: SiteForm) -> None:
    (read,) = read_sites_csv(write_sites_csv([form]).encode())
    assert read.model_dump() == form.model_dump()
    tariff = form.tariff.tariff()
    assert tariff_from_json(tariff_to_json(tariff)) == tariff
    assert isinstance(tariff.export_price_per_kwh, Decimal)


@given(st.binary(max_size=300) | st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_junk_is_refused_and_nothing_else_is_raised(junk: bytes | str) -> None:
    with pytest.raises(EnrolmentRefused):
        read_sites_csv(junk)


def test_the_documentation_names_every_column_and_its_example_can_be_enrolled() -> None:
    page = (Path(__file__).parents[2] / "docs" / "reference" / "sites-csv.md").read_text()
    for column in COLUMNS:
        assert f"| `{column.name}` | {'yes' if column.required else 'no'} | {column.holds} |" in page
    assert len(read_sites_csv(page.split("```")[1].strip())) == 1


def test_the_programmes_named_as_examples_exist() -> None:
    (holds,) = (column.holds for column in COLUMNS if column.name == "programs")
    named = {name for name, _ in re.findall(r"(\w+)=([\d.]+)", holds)}
    assert len(named) == 2
    assert named <= programs().keys()
