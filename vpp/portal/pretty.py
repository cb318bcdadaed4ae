"""A logged body as people read it: JSON and XML indented, everything else as it is. Called by the message pages.

Nothing is parsed that was sent to us as XML: a text is only broken into lines, so that a body that was cut, or was
never well-formed, is shown as well, and none can do harm.
"""

import json
import re

_TAG = re.compile(r"(<!\[CDATA\[.*?(?:\]\]>|$)|<[^>]*>?)", re.DOTALL)
_DEEPEST = 40
_CUT = "\n… "


def pretty(body: str) -> str:
    """Return a body with line breaks and indentation."""
    text, cut, note = body.partition(_CUT)
    start = text.lstrip("\ufeff \r\n\t")
    if start.startswith("<"):
        return _xml(start) + cut + note
    if start.startswith(("{", "[")):
        return _json(start) + cut + note
    return body


def _json(text: str) -> str:
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    except (ValueError, RecursionError):
        return text


def _xml(text: str) -> str:
    """One element a line; an element with nothing but text in it stays on one."""
    lines: list[str] = []
    depth, was_opened = 0, False
    for part in (piece.strip() for piece in _TAG.split(text)):
        if not part:
            continue
        is_tag = part.startswith("<")
        closes, opens = part.startswith("</"), is_tag and not part.startswith(("</", "<?", "<!")) and part[-2:] != "/>"
        if closes:
            depth = max(0, depth - 1)
        if lines and ((closes and was_opened) or not is_tag or part.startswith("<![CDATA[")):
            lines[-1] += part
        else:
            lines.append("  " * min(depth, _DEEPEST) + part)
        was_opened = opens or (was_opened and not is_tag) or part.startswith("<![CDATA[")
        if opens:
            depth += 1
    return "\n".join(lines)
