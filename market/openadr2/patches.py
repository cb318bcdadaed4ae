"""Room openadr2: read a peer's XML without letting it harm us, and mend `openleadr` in this process.

Called by `messages` for everything that arrives, and by whoever runs an `openleadr` server.

The library's parser (0.5.36, with lxml up to 6.1.3) dies with SIGSEGV on a document of 90 bytes that
declares an entity, before any authentication; hence: no document type at all, no entities, no network,
UTF-8 only (another encoding could hide the declaration), and a bound on the size.
"""

from typing import Any

import openleadr.client
import openleadr.messaging
import openleadr.service.vtn_service
from openleadr.messaging import etree  # lxml, as the library brings it

from vpp.domain.errors import InvalidRequest

MAX_BODY_BYTES = 1_000_000

Element = Any
"""An lxml element; lxml carries no types."""


def safe_parser() -> Any:
    """Return a parser that checks against the OpenADR 2.0b schema and resolves nothing."""
    return etree.XMLParser(
        schema=openleadr.messaging.XML_SCHEMA,
        encoding="utf-8",
        resolve_entities=False,
        no_network=True,
        load_dtd=False,
        huge_tree=False,
    )


def refuse_harmful(body: bytes) -> None:
    """Look at the bytes before any parser does.

    Raises:
        InvalidRequest: too large, not UTF-8, or with a document type declaration.
    """
    if len(body) > MAX_BODY_BYTES:
        raise InvalidRequest("body", f"{len(body)} bytes", f"at most {MAX_BODY_BYTES} bytes")
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequest("body", "not UTF-8", "an XML document in UTF-8") from error
    if "\0" in text or "<!doctype" in text.lower() or "<!entity" in text.lower():
        raise InvalidRequest("body", "a document type declaration", "an XML document without one")


def parse_document(body: bytes) -> Element:
    """Return the root of a schema-valid OpenADR 2.0b document.

    Raises:
        InvalidRequest: harmful, malformed, or not valid against the schema.
    """
    refuse_harmful(body)
    try:
        return etree.fromstring(body, safe_parser())
    except etree.XMLSyntaxError as error:
        raise InvalidRequest("body", str(error)[:300], "a document valid against the OpenADR 2.0b schema") from error


def _validate_xml_schema(content: str | bytes) -> Element:
    """Stand in for the library's function of this name; its callers expect `XMLSyntaxError`."""
    body = content.encode("utf-8") if isinstance(content, str) else content
    try:
        return parse_document(body)
    except InvalidRequest as refused:
        raise etree.XMLSyntaxError(str(refused), 0, 0, 0) from refused


def harden() -> None:
    """Make every `openleadr` server and client of this process use the safe parser. Repeating it is harmless."""
    openleadr.messaging.XML_PARSER = safe_parser()
    for module in (openleadr.messaging, openleadr.client, openleadr.service.vtn_service):
        module.validate_xml_schema = _validate_xml_schema
