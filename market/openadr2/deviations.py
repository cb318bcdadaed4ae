"""Room openadr2: what peers send that the schema does not allow, and that we understand all the same.

Called by `codec.decode`, and only where the schema has refused the document. Each deviation has a name, which
goes to the message log; none guesses at a value.
"""

import re
from typing import Any

from market.openadr2.names import EI, SCHEMA_VERSION

_LEADING_BLANK = re.compile(rb"\A(?:\xef\xbb\xbf)?\s+(?=<)")


def mend_bytes(body: bytes, tolerated: list[str]) -> bytes:
    """Return the bytes without what no parser would take, and add the names of what was tolerated."""
    if _LEADING_BLANK.match(body):
        tolerated.append("blank-before-declaration")
        body = _LEADING_BLANK.sub(b"", body)
    return body


def mend_tree(root: Any, tolerated: list[str]) -> None:
    """Change a tree into what its sender meant, and add the names of what was tolerated."""
    for element in root.iter(f"{{{EI}}}*", "{*}*"):
        version = element.attrib.pop("schemaVersion", None)
        if version is not None:
            element.set(SCHEMA_VERSION, version)
            tolerated.append("schema-version-without-namespace")
            break
