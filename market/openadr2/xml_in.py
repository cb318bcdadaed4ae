"""Room openadr2: small steps through an lxml tree. Called by the readers."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

from market.openadr2.names import EI, EMIX, OADR, POWER, PYLD, SCALE, STRM, XCAL
from market.openadr2.values import read_duration, read_flag, read_instant
from vpp.domain.errors import InvalidRequest

Element = Any
"""An lxml element; lxml carries no types."""

MAX_TEXT_CHARS = 10_000

_NAMESPACES = {
    "oadr": OADR,
    "ei": EI,
    "pyld": PYLD,
    "xcal": XCAL,
    "strm": STRM,
    "emix": EMIX,
    "power": POWER,
    "scale": SCALE,
}
_CLARK: dict[str, str] = {}


def clark(path: str) -> str:
    """Return a path of prefixed names (`ei:eiResponse/pyld:requestID`) in lxml's own notation, remembered."""
    known = _CLARK.get(path)
    if known is None:
        steps = (step.partition(":") for step in path.split("/"))
        known = _CLARK[path] = "/".join(f"{{{_NAMESPACES[prefix]}}}{name}" for prefix, _, name in steps)
    return known


def child(parent: Element, path: str) -> Element | None:
    """Return the first element at a path."""
    return parent.find(clark(path))


def needed(parent: Element, path: str) -> Element:
    """Return the first element at a path.

    Raises:
        InvalidRequest: there is none.
    """
    found = parent.find(clark(path))
    if found is None:
        raise InvalidRequest(path, "", "to be present")
    return found


def children(parent: Element, path: str) -> Iterator[Element]:
    """Return every element at a path."""
    return iter(parent.iterfind(clark(path)))


def content(element: Element) -> str:
    """Return a leaf's text without blanks around it; the parser has left out comments.

    Raises:
        InvalidRequest: it is longer than any name, id or remark has reason to be.
    """
    found = (element.text or "").strip()
    if len(found) > MAX_TEXT_CHARS:
        name = element.tag.rpartition("}")[2]
        raise InvalidRequest(name, f"{len(found)} characters", f"at most {MAX_TEXT_CHARS} characters")
    return found


def text(parent: Element, path: str) -> str:
    """Return the text at a path, "" where there is none."""
    found = parent.find(clark(path))
    return "" if found is None else content(found)


def maybe(parent: Element, path: str) -> str | None:
    """Return the text at a path, None where there is no such element."""
    found = parent.find(clark(path))
    return None if found is None else content(found)


def each(parent: Element, path: str) -> tuple[str, ...]:
    """Return the texts of every element at a path."""
    return tuple(content(found) for found in parent.iterfind(clark(path)))


def flag(parent: Element, path: str) -> bool:
    """Return an xs:boolean; False where there is none."""
    return read_flag(text(parent, path))


def instant(parent: Element, path: str) -> datetime | None:
    """Return the instant at a path, None where there is none."""
    found = maybe(parent, path)
    return None if found is None else read_instant(found, path)


def duration(parent: Element, path: str) -> timedelta | None:
    """Return the duration at a path, None where there is none."""
    found = maybe(parent, path)
    return None if found is None else read_duration(found, path)


def whole(parent: Element, path: str, default: int = 0) -> int:
    """Return an xs:unsignedInt; `default` where there is none."""
    found = maybe(parent, path)
    return default if found is None else int(found)
