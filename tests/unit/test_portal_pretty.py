"""Logged bodies are shown indented, whole or cut, and never fail to be shown."""

import pytest

from vpp.portal.pretty import pretty

CASES = {
    '{"b": [1, {"c": "\\u00e4"}]}': '{\n  "b": [\n    1,\n    {\n      "c": "ä"\n    }\n  ]\n}',
    '{"cut": [1,\n… cut: 9 bytes in all': '{"cut": [1,\n… cut: 9 bytes in all',
    "[" * 5000: "[" * 5000,
    "grant_type=a&b=c": "grant_type=a&b=c",
    "": "",
    "<a><b>1</b><c/></a>": "<a>\n  <b>1</b>\n  <c/>\n</a>",
    "\ufeff<?xml version='1.0'?>\n<a>\n<b  x='1'>t</b></a>": "<?xml version='1.0'?>\n<a>\n  <b  x='1'>t</b>\n</a>",
    "<a><![CDATA[<x>]]></a>": "<a><![CDATA[<x>]]></a>",
    "<a><b>1</b><c\n… cut: 99 bytes in all": "<a>\n  <b>1</b>\n  <c\n… cut: 99 bytes in all",
    "</a></b>": "</a>\n</b>",
    "<a></a><b>1</b>": "<a></a>\n<b>1</b>",
}


@pytest.mark.parametrize("body", CASES)
def test_a_body_is_indented(body: str) -> None:
    assert pretty(body) == CASES[body]
