"""Room openadr2: XML as text, in canonical form as it is built, so that a signature needs no second pass.

Called by the writers. Canonical (C14N 1.0) means here: no empty-element tags, declarations and attributes in
order and in double quotes, `&`, `<`, `>` and carriage returns escaped. A test holds this against libxml2.
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Protocol

from market.openadr2.names import PREFIXES
from market.openadr2.parse import parse, schema_error
from market.openadr2.values import duration_text, flag_text, instant_text
from vpp.domain.errors import InvalidRequest

_NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_TO_ESCAPE = re.compile("[&<>\r]")
_ESCAPES = {"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#xD;"}

_DECLARED = "".join(f' xmlns:{prefix}="{uri}"' for prefix, uri in PREFIXES.items())
SIGNED_ID = "oadrSignedObject"
SIGNED_OPEN = f'<oadr:oadrSignedObject{_DECLARED} oadr:Id="{SIGNED_ID}">'
SIGNED_CLOSE = "</oadr:oadrSignedObject>"
PAYLOAD_OPEN = f'<?xml version="1.0" encoding="utf-8"?>\n<oadr:oadrPayload xmlns:oadr="{PREFIXES["oadr"]}">'
PAYLOAD_CLOSE = "</oadr:oadrPayload>"


def escaped(text: str) -> str:
    """Return a text as it stands between tags.

    Raises:
        InvalidRequest: it holds a character XML cannot carry.
    """
    unfit = _NOT_XML.search(text)
    if unfit is not None:
        raise InvalidRequest("text", text[:80], f"no {unfit.group()!r}, which XML cannot carry")
    return _TO_ESCAPE.sub(lambda found: _ESCAPES[found.group()], text)


def element(name: str, *content: str) -> str:
    """Return an element around content that is already XML."""
    return f"<{name}>{''.join(content)}</{name}>"


def message(name: str, *content: str) -> str:
    """Return a message's own element, with the schema's version."""
    return f'<oadr:{name} ei:schemaVersion="2.0b">{"".join(content)}</oadr:{name}>'


def text(name: str, value: str | int) -> str:
    """Return an element around a text."""
    return f"<{name}>{escaped(str(value))}</{name}>"


def maybe(name: str, value: str | int | None) -> str:
    """Return an element around a text, or nothing where there is none."""
    return "" if value is None else text(name, value)


def each(name: str, values: Iterable[str]) -> str:
    """Return one element per text."""
    return "".join(text(name, value) for value in values)


def flag(name: str, value: bool) -> str:
    """Return an element around true or false."""
    return f"<{name}>{flag_text(value)}</{name}>"


def instant(name: str, at: datetime) -> str:
    """Return an element around an instant."""
    return f"<{name}>{instant_text(at)}</{name}>"


def start(at: datetime | None) -> str:
    """Return an xcal:dtstart, or nothing."""
    return "" if at is None else element("xcal:dtstart", instant("xcal:date-time", at))


def length(name: str, duration: timedelta | None) -> str:
    """Return an element that holds an xcal:duration, or nothing."""
    return "" if duration is None else element(name, f"<xcal:duration>{duration_text(duration)}</xcal:duration>")


def bare_length(name: str, duration: timedelta) -> str:
    """Return an element that holds the text of a duration itself."""
    return f"<{name}>{duration_text(duration)}</{name}>"


class CanSign(Protocol):
    """What makes a signature (see `signing.Signer`)."""

    def signature(self, signed_object: bytes) -> str:
        """Return the ds:Signature over an oadrSignedObject in canonical form."""
        ...


def check_valid(message: str) -> None:
    """Hold what we are about to send to the schema: a name that is none of its list, a context that is no URI.

    Raises:
        InvalidRequest: a peer would rightly refuse it.
    """
    error = schema_error(parse(enveloped(message, None)))
    if error is not None:
        raise InvalidRequest("message", error[1][:200], "what the OpenADR 2.0b schema allows")


def enveloped(message: str, signer: CanSign | None) -> bytes:
    """Return the whole document around a message, signed where there is a signer."""
    signed_object = f"{SIGNED_OPEN}{message}{SIGNED_CLOSE}"
    signature = "" if signer is None else signer.signature(signed_object.encode())
    return f"{PAYLOAD_OPEN}{signature}{signed_object}{PAYLOAD_CLOSE}".encode()
