"""The bundle of scripts is built from the sources as they are, with pinned packages and their licences."""

import json
from pathlib import Path

import pytest

from hatch_build import BUNDLE, ENTRIES, SHIPPED, STAMP, build_bundle, fingerprint

ROOT = Path(__file__).parents[2]


def test_the_bundle_is_up_to_date_with_its_sources() -> None:
    assert (ROOT / BUNDLE / STAMP).read_text() == fingerprint(ROOT), "run `uv sync`, or `python hatch_build.py`"
    assert build_bundle(ROOT) is False


def test_the_bundle_has_every_entry_and_the_licences_of_what_is_in_it() -> None:
    assert all((ROOT / BUNDLE / entry).stat().st_size > 1000 for entry in ENTRIES)
    licences = (ROOT / BUNDLE / "LICENSES.txt").read_text()
    assert all(name in licences for name in SHIPPED)
    assert "Permission" in licences


def test_the_lock_pins_every_package_by_hash_and_names_no_registry() -> None:
    lock = json.loads((ROOT / "package-lock.json").read_text())
    packages = {name: entry for name, entry in lock["packages"].items() if name}
    assert packages
    assert all(entry["integrity"].startswith("sha512-") for entry in packages.values())
    assert not any("resolved" in entry for entry in packages.values())


def test_everything_shipped_is_a_dependency_and_the_other_way_round() -> None:
    package = json.loads((ROOT / "package.json").read_text())
    assert set(package["dependencies"]) == set(SHIPPED)


@pytest.mark.parametrize("change", ["vpp/portal/assets/app.js", "package-lock.json", "hatch_build.py"])
def test_a_change_of_any_source_makes_the_bundle_stale(tmp_path: Path, change: str) -> None:
    for name in ("package-lock.json", "hatch_build.py", "vpp/portal/assets/app.js", "vpp/portal/assets/app.css"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    before = fingerprint(tmp_path)
    with (tmp_path / change).open("a") as file:
        file.write("\n")
    assert fingerprint(tmp_path) != before
