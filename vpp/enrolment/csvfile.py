"""Room enrolment: sites as a CSV file, read with every bad cell named, and written back.

Called by the command line (`vpp enrol`) and by the simulation, which writes the file it enrols.
`COLUMNS` is the documentation of the file: one line per column with what is allowed.
"""

import csv
import io
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from vpp.enrolment.cells import read_pairs, read_periods, write_pairs, write_periods
from vpp.enrolment.forms import SiteForm, allowed_by, known_names, repeated
from vpp.enrolment.problems import EnrolmentRefused, Problem, shown

MAX_SITES = 200_000


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the file: the form's field it fills, whether it must be there, and what it holds."""

    name: str
    path: tuple[str, ...]
    required: bool
    holds: str


COLUMNS: tuple[Column, ...] = (
    Column("site", ("site",), True, "the site's id, unique"),
    Column("name", ("name",), False, "the site's name for people"),
    Column("owner", ("owner",), True, "the owner's id; the same on every line of one owner"),
    Column("owner_name", ("owner_name",), False, "the owner's name for people"),
    Column("owner_email", ("owner_email",), True, "the owner's e-mail address"),
    Column("utility_account", ("utility_account",), True, "the utility's account number; one site each"),
    Column("time_zone", ("time_zone",), True, "an IANA time zone, as America/Los_Angeles"),
    Column("programs", ("programs",), False, "programmes with the owner's share, as 'elrp=0.8; coned_csrp=0.75'"),
    Column("max_charge_kw", ("battery", "max_charge_kw"), True, "the battery's charging power [kW]"),
    Column("max_discharge_kw", ("battery", "max_discharge_kw"), True, "the battery's discharging power [kW]"),
    Column("capacity_kwh", ("battery", "capacity_kwh"), True, "the battery's usable energy [kWh]"),
    Column("charge_efficiency", ("battery", "charge_efficiency"), True, "one way, a share above 0 up to 1"),
    Column("discharge_efficiency", ("battery", "discharge_efficiency"), True, "one way, a share above 0 up to 1"),
    Column("import_limit_kw", ("import_limit_kw",), True, "the grid connection's import limit [kW]"),
    Column("export_limit_kw", ("export_limit_kw",), True, "the grid connection's export limit [kW]; 0 forbids export"),
    Column("reserve_soc", ("reserve_soc",), True, "the owner's backup reserve, a share from 0 to 1"),
    Column("tariff_name", ("tariff", "name"), True, "the tariff's name"),
    Column("energy_prices", ("tariff", "energy"), True, "per kWh, as 'peak 0.45 16-21 mon-fri; rest 0.20'"),
    Column("export_price_per_kwh", ("tariff", "export_price_per_kwh"), False, "what an exported kWh earns; 0 if empty"),
    Column("demand_charges", ("tariff", "demand"), False, "per kW and billing period, as 'summer 18.50 16-21 mon-fri'"),
    Column("billing_start", ("billing_start",), False, "the billing period's first day; needed with demand charges"),
    Column("peaks_so_far_kw", ("peaks_so_far_kw",), False, "highest import so far per demand charge, as 'summer=12.5'"),
    Column("adapter", ("adapter",), True, "the adapter that reaches the device"),
    Column("address", ("address",), True, "the device's address in that adapter's form, as host:port/unit"),
)
_BY_NAME = {column.name: column for column in COLUMNS}


def read_sites_csv(
    text: str | bytes, *, adapters: Collection[str] | None = None, programs: Collection[str] | None = None
) -> list[SiteForm]:
    """Read and check a whole file; nothing is written.

    Args:
        text: the file. Bytes are read as UTF-8, with or without a byte order mark.
        adapters, programs: the names that may be used; None accepts any.

    Raises:
        EnrolmentRefused: with every bad cell by line, column, value and what is allowed.
    """
    rows = list(_rows(_decoded(text)))
    if not rows:
        raise EnrolmentRefused([Problem(1, "", "", f"a first line with the columns {', '.join(_BY_NAME)}")])
    (header_line, header), *lines = rows
    names = [name.strip() for name in header]
    problems = _header_problems(header_line, names)
    if problems:
        raise EnrolmentRefused(problems)
    if not 1 <= len(lines) <= MAX_SITES:
        raise EnrolmentRefused([Problem(header_line + 1, "", f"{len(lines)} lines", f"1 to {MAX_SITES} sites")])
    context = known_names(adapters, programs)
    forms: list[SiteForm] = []
    for line, cells in lines:
        form, found = _read_line(line, names, cells, context)
        problems += found
        forms += [form] if form is not None else []
    problems += repeated(forms, lambda at: f"line {at}")
    if problems:
        raise EnrolmentRefused(problems)
    return forms


def _decoded(text: str | bytes) -> str:
    if isinstance(text, str):
        return text.removeprefix("\ufeff")
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as broken:
        line = text.count(b"\n", 0, broken.start) + 1
        bad = text[broken.start : broken.start + 1]
        raise EnrolmentRefused([Problem(line, "", shown(bad), "a file saved as UTF-8")]) from None


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """The file's rows with the line each begins on; empty lines are left out."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as broken:
            raise EnrolmentRefused([Problem(line, "", str(broken), "a CSV line with its quotes closed")]) from None
        if any(cell.strip() for cell in cells):
            yield line, cells
        line = reader.line_num + 1


def _header_problems(line: int, names: Sequence[str]) -> list[Problem]:
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        return [Problem(line, "", shown(names[0]), "commas between the columns")]
    known = ", ".join(_BY_NAME)
    problems = [Problem(line, name, name, f"one of the columns {known}") for name in names if name not in _BY_NAME]
    problems += [Problem(line, name, name, "each column once") for name in set(names) if names.count(name) > 1]
    problems += [
        Problem(line, column.name, "", f"this column: {column.holds}")
        for column in COLUMNS
        if column.required and column.name not in names
    ]
    return problems


def _read_line(
    line: int, names: Sequence[str], cells: Sequence[str], context: dict[str, Any]
) -> tuple[SiteForm | None, list[Problem]]:
    if len(cells) != len(names):
        allowed = f"{len(names)} cells as in the first line; quote cells that hold a comma"
        return None, [Problem(line, "", f"{len(cells)} cells", allowed)]
    given = {name: cell.strip() for name, cell in zip(names, cells, strict=True)}
    fields, problems = _fields(line, given)
    unread = {problem.column for problem in problems}
    try:
        form: SiteForm | None = SiteForm.model_validate(fields, context=context).at_line(line)
    except ValidationError as refused:
        form = None
        for error in refused.errors(include_url=False):
            name = _column_of(error["loc"])
            if name not in unread and name not in {problem.column for problem in problems}:
                problems.append(Problem(line, name, shown(given.get(name, "")), allowed_by(error)))
    return (None if problems else form), problems


def _fields(line: int, given: dict[str, str]) -> tuple[dict[str, Any], list[Problem]]:
    """The form's fields from a line's cells, and the cells whose notation could not be read."""
    fields: dict[str, Any] = {"battery": {}, "tariff": {}}
    problems: list[Problem] = []
    for name, cell in given.items():
        column = _BY_NAME[name]
        if not cell:
            continue
        value: Any = cell
        try:
            value = _value(name, cell)
        except ValueError as wrong:
            # The text stays in its place, so that the form fails there and not where it looks for it.
            problems.append(Problem(line, name, shown(cell), str(wrong)))
        if len(column.path) == 2:
            fields[column.path[0]][column.path[1]] = value
        else:
            fields[column.path[0]] = value
    return fields, problems


def _value(name: str, cell: str) -> Any:
    match name:
        case "programs":
            return [{"program": program, "owner_share": share} for program, share in read_pairs(cell).items()]
        case "peaks_so_far_kw":
            return read_pairs(cell)
        case "energy_prices":
            return read_periods(cell, "price_per_kwh")
        case "demand_charges":
            return read_periods(cell, "price_per_kw")
        case _:
            return cell


def _column_of(loc: Sequence[int | str]) -> str:
    path = tuple(str(part) for part in loc)
    return next((column.name for column in COLUMNS if path[: len(column.path)] == column.path), path[0])


def write_sites_csv(forms: Iterable[SiteForm]) -> str:
    """Write forms as the file `read_sites_csv` reads; every column, in the order of `COLUMNS`."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([column.name for column in COLUMNS])
    for form in forms:
        writer.writerow([_cell(form, column) for column in COLUMNS])
    return out.getvalue()


def _cell(form: SiteForm, column: Column) -> str:
    match column.name:
        case "programs":
            return write_pairs((entry.program, f"{entry.owner_share:f}") for entry in form.programs)
        case "peaks_so_far_kw":
            return write_pairs((name, repr(peak_kw)) for name, peak_kw in form.peaks_so_far_kw.items())
        case "energy_prices":
            return write_periods(form.tariff.energy)
        case "demand_charges":
            return write_periods(form.tariff.demand)
    value: Any = form
    for name in column.path:
        value = getattr(value, name)
    if value is None:
        return ""
    return f"{value:f}" if column.name == "export_price_per_kwh" else str(value)
