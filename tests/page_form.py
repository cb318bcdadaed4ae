"""What a browser without scripts would send of a page's form, in the order of the page."""

from collections.abc import Sequence
from html.parser import HTMLParser
from urllib.parse import urlencode

Fields = list[tuple[str, str]]


class _Form(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.fields: Fields = []
        self._inside = False
        self._select = ""
        self._first: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        if tag == "form":
            self._inside = "data-compose" in named
        elif tag == "input" and self._inside and named.get("name"):
            if named.get("type") not in ("checkbox", "radio") or "checked" in named:
                self.fields.append((named["name"], named.get("value", "")))
        elif tag == "select" and self._inside:
            self._select, self._first = named["name"], None
        elif tag == "option" and self._select and (self._first is None or "selected" in named):
            if self._first is not None:
                self.fields.pop()
            self._first = named["value"]
            self.fields.append((self._select, named["value"]))

    def handle_endtag(self, tag: str) -> None:
        if tag == "select":
            self._select = ""
        elif tag == "form":
            self._inside = False


def fields_of(page: str) -> Fields:
    """The fields of the form in which an event is composed, as they stand on a page."""
    form = _Form()
    form.feed(page)
    return form.fields


def with_changes(fields: Fields, changes: dict[tuple[str, int], str]) -> Fields:
    """The fields with others in place of those of a name and its how-manieth from 0."""
    seen: dict[str, int] = {}
    changed = []
    for name, value in fields:
        number = seen[name] = seen.get(name, -1) + 1
        changed.append((name, changes.get((name, number), value)))
    return changed


def sent(fields: Sequence[tuple[str, str]]) -> dict[str, object]:
    """The arguments of a POST of these fields."""
    return {
        "content": urlencode(fields).encode(),
        "headers": {"content-type": "application/x-www-form-urlencoded"},
    }
