"""What the checks of `vpp conformance openadr` say asks for them is there, in the published schema and documents."""

import re
from typing import Any

import pytest
import yaml

from market.openadr2.conformance import CHECKS
from market.openadr2.parse import NAMESPACES_OF
from market.openadr3.conformance import checks_of
from tests.shared_data import shared_spec

_SCHEMA = re.compile(r"components\.schemas\.(\w+)(?:\.(\w+))?")
_PATH = re.compile(r"paths\.(/[\w{}/]*)(?:\.(\w+)(?:\.(\w+)(?:\.(\w+))?)?)?")
_ELEMENT = re.compile(r"\b(?:oadr[A-Z]\w+|\w+(?=/)|(?<=/)\w+)\b")


@pytest.mark.parametrize("profile", ["3.1.0", "3.0.1"])
def test_every_path_and_schema_cited_of_openadr_3_is_in_its_document(profile: str) -> None:
    document: dict[str, Any] = yaml.safe_load((shared_spec("openadr3") / profile / "openadr3.yaml").read_text())
    cited = 0
    for check in checks_of(profile):
        for name, field in _SCHEMA.findall(check.requirement):
            schema = document["components"]["schemas"][name]
            assert not field or field in schema["properties"], check.requirement
            cited += 1
        for path, method, part, key in _PATH.findall(check.requirement):
            found = document["paths"][path]
            if method:
                found = found[method]
            if part:
                found = found[part]
            if key:
                assert key in str(found), check.requirement
            cited += 1
    assert cited > 20


def test_every_element_cited_of_2_0b_is_in_the_schema() -> None:
    cited = [
        name
        for check in CHECKS
        for name in _ELEMENT.findall(check.requirement)
        if name not in ("oadrPayload", "application", "xml")
    ]
    assert len(cited) > 20
    assert [name for name in cited if name not in NAMESPACES_OF and name != "Signature"] == []


def test_names_of_checks_are_unique_and_each_says_what_it_is_about() -> None:
    for checks in (CHECKS, checks_of("3.1.0"), checks_of("3.0.1")):
        names = [check.name for check in checks]
        assert len(set(names)) == len(names)
        assert all(
            (check.service and check.requirement and check.run.__doc__) or "list-" in check.name for check in checks
        )
