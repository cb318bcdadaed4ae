"""Room openadr2: from a peer's bytes to a tree that cannot harm us. Called by `codec.decode`.

Before any parser sees the bytes: their number, UTF-8, no document type and no entity declaration, and how many
tags they hold. The parser resolves nothing and loads nothing; the schema is applied to the finished tree,
because a parser that validates as it reads dies with SIGSEGV on an entity (lxml up to 6.1.3). Names declared and
attributes are counted before a signature is looked at: libxml2's canonical form takes the square of their number for
each element, 2 minutes for 84 kB.
"""

import os
import re
from dataclasses import dataclass
from importlib.util import find_spec
from threading import Lock
from typing import Any

from lxml import etree

from market.openadr2.names import MESSAGE_NAMES, OADR, OADR_2A, PYLD
from market.openadr2.refusal import Refused
from vpp.domain.errors import NotReady
from vpp.domain.openadr2 import COMPLIANCE_ERROR, DEPLOYMENT_ERROR, INVALID_DATA, NOT_RECOGNIZED

MAX_BODY_BYTES = 1_000_000

_XSD = "{http://www.w3.org/2001/XMLSchema}"


def _schema_dir() -> str:
    """Return the folder of the published schema; the library that brings it is found, not imported."""
    found = find_spec("openleadr")
    if found is None or not found.submodule_search_locations:
        raise NotReady("the OpenADR 2.0b schema: install openleadr, whose folder `schema` holds it")
    return os.path.join(found.submodule_search_locations[0], "schema")


_SCHEMA_DIR = _schema_dir()
_SCHEMA = etree.XMLSchema(etree.parse(os.path.join(_SCHEMA_DIR, "oadr_20b.xsd")))
_ONE_AT_A_TIME = Lock()
_ISO = etree.parse(os.path.join(_SCHEMA_DIR, "oadr_ISO_ISO3AlphaCurrencyCode_20100407.xsd"))
CURRENCIES = frozenset(found.get("value") for found in _ISO.iterfind(f".//{_XSD}enumeration"))
"""Currency codes the schema knows."""


def _namespaces_of() -> dict[str, frozenset[str]]:
    found: dict[str, set[str]] = {}
    for name in ("20b", "ei_20b", "pyld_20b", "xcal_20b", "strm_20b", "emix_20b", "power_20b", "siscale_20b"):
        tree = etree.parse(os.path.join(_SCHEMA_DIR, f"oadr_{name}.xsd")).getroot()
        for element in tree.iterfind(f".//{_XSD}element[@name]"):
            found.setdefault(element.get("name"), set()).add(tree.get("targetNamespace"))
    return {name: frozenset(spaces) for name, spaces in found.items()}


NAMESPACES_OF = _namespaces_of()
"""Namespaces in which the schema has an element of a name."""

_DECLARATION = re.compile(rb"<!\s*(?:doctype|entity|element|attlist|notation)", re.IGNORECASE)
_ENCODING = re.compile(rb"\A(?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?encoding\s*=\s*[\"']([A-Za-z0-9._-]{1,40})[\"']")
_REQUEST_ID = re.compile(rb"<(?:[\w.-]{1,40}:)?requestID(?:\s[^<>]{0,200})?>([^<&]{0,200})</")
_VALUE_ERRORS = ("SCHEMAV_CVC_DATATYPE", "SCHEMAV_CVC_ENUMERATION", "SCHEMAV_CVC_PATTERN", "SCHEMAV_CVC_M")
_FURTHER_VALUE_ERRORS = ("SCHEMAV_CVC_LENGTH", "SCHEMAV_CVC_ELT_5_2_2")


@dataclass(frozen=True, slots=True)
class Limits:
    """How much of a message we look at."""

    body_bytes: int = MAX_BODY_BYTES
    elements: int = 100_000
    depth: int = 40
    attributes: int = 32
    namespaces: int = 64


DEFAULT_LIMITS = Limits()
_FINDERS: dict[str, Any] = {}


def _parser() -> Any:
    return etree.XMLParser(
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        dtd_validation=False,
        attribute_defaults=False,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
    )


def check_bytes(body: bytes, limits: Limits = DEFAULT_LIMITS) -> None:
    """Look at the bytes before any parser does.

    Raises:
        Refused: too large (469), not UTF-8 (453), with a document type (459), of too many tags (469).
    """
    if len(body) > limits.body_bytes:
        raise Refused(DEPLOYMENT_ERROR, f"a message of {len(body)} bytes; we take at most {limits.body_bytes}")
    try:
        body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise Refused(NOT_RECOGNIZED, f"not UTF-8 at byte {error.start}") from error
    if b"\0" in body:
        raise Refused(NOT_RECOGNIZED, "not UTF-8: it holds a zero byte")
    if _DECLARATION.search(body):
        raise Refused(COMPLIANCE_ERROR, "a document type declaration, which no OpenADR message has")
    if body.count(b"<") > 2 * limits.elements:
        raise Refused(DEPLOYMENT_ERROR, f"more than {limits.elements} elements", request_id_in(body))


def declared_encoding(body: bytes) -> str:
    """Return the encoding the XML declaration names, in lower case; "" where it names none."""
    match = _ENCODING.match(body)
    return match[1].decode("ascii").lower() if match else ""


def parse(body: bytes, limits: Limits = DEFAULT_LIMITS) -> Any:
    """Return the root of a well-formed document whose bytes have been checked.

    Raises:
        Refused: not well-formed or declared in another encoding (453), or with too many elements within each other,
            attributes of one element or namespaces in scope (469).
    """
    if declared_encoding(body) not in ("", "utf-8", "utf8", "us-ascii"):
        reason = f"declared as {declared_encoding(body)}; we read UTF-8"
        raise Refused(NOT_RECOGNIZED, reason, request_id_in(body))
    try:
        root = etree.fromstring(body, _parser())
    except (etree.LxmlError, ValueError) as error:
        raise Refused(NOT_RECOGNIZED, f"not XML: {error}", request_id_in(body)) from error
    if root is None:
        raise Refused(NOT_RECOGNIZED, "not XML: it is empty")
    if root.getroottree().docinfo.internalDTD is not None:
        raise Refused(COMPLIANCE_ERROR, "a document type declaration, which no OpenADR message has")
    too_much = _too_much(root, body, limits)
    if too_much is not None:
        raise Refused(DEPLOYMENT_ERROR, f"more than {too_much}", request_id_of(root))
    return root


def _too_much(root: Any, body: bytes, limits: Limits) -> str | None:
    if _has(root, "/*" * (limits.depth + 1)):
        return f"{limits.depth} elements within each other"
    if body.count(b"=") > limits.attributes and _has(root, f"//*[@*[{limits.attributes + 1}]]"):
        return f"{limits.attributes} attributes of one element"
    if body.count(b"xmlns") > limits.namespaces and _most_in_scope(root) > limits.namespaces:
        return f"{limits.namespaces} namespaces in scope"
    return None


def _has(root: Any, path: str) -> bool:
    finder = _FINDERS.get(path)
    if finder is None:
        finder = _FINDERS[path] = etree.XPath(f"boolean({path})")
    return bool(finder(root))


def _most_in_scope(root: Any) -> int:
    now = most = 0
    for event, _ in etree.iterwalk(root, events=("start-ns", "end-ns")):
        now += 1 if event == "start-ns" else -1
        most = max(most, now)
    return most


def schema_error(root: Any) -> tuple[int, str] | None:
    """Return why a tree is not valid against the OpenADR 2.0b schema: a code and a sentence; None where it is.

    454 where a value is none of those allowed, 459 where elements are missing or do not belong there.
    """
    with _ONE_AT_A_TIME:  # the log of errors is the schema's, not the call's
        if _SCHEMA.validate(root.getroottree()):
            return None
        error = _SCHEMA.error_log[0]
    by_value = error.type_name.startswith((*_VALUE_ERRORS, *_FURTHER_VALUE_ERRORS))
    return INVALID_DATA if by_value else COMPLIANCE_ERROR, f"line {error.line}: {error.message}"


def message_of(root: Any) -> Any:
    """Return the message's own element: in an oadrSignedObject, or bare, as the schema also allows.

    Raises:
        Refused: the document is none of this profile's messages (453).
    """
    found = root
    if root.tag == f"{{{OADR}}}oadrPayload":
        found = root.find(f"{{{OADR}}}oadrSignedObject")
    if found is not None and found.tag == f"{{{OADR}}}oadrSignedObject":
        found = found[0] if len(found) else None
    space, _, name = ("" if found is None else str(found.tag)).rpartition("}")
    if space == f"{{{OADR}" and name in MESSAGE_NAMES:
        return found
    if OADR_2A in space:
        raise Refused(NOT_RECOGNIZED, "a message of profile 2.0a; we speak 2.0b", request_id_of(root))
    raise Refused(NOT_RECOGNIZED, f"{name or 'nothing'} is no message of OpenADR 2.0b", request_id_of(root))


def request_id_of(root: Any) -> str:
    """Return the first requestID of a document that is not empty, "" where there is none."""
    for found in root.iter(f"{{{PYLD}}}requestID"):
        if found.text and found.text.strip():
            return str(found.text.strip()[:200])
    return ""


def request_id_in(body: bytes) -> str:
    """Return the requestID of a document too broken to parse, "" where none is to be seen."""
    match = _REQUEST_ID.search(body[:100_000])
    return match[1].decode("utf-8", "replace").strip() if match else ""
