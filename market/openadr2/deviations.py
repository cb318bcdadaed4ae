"""Room openadr2: what peers send that the schema does not allow, and that we understand all the same.

Called by `codec.decode`, and only where the schema has refused the document. Every deviation has a name, which
goes to the message log; what is mended must then pass the schema. None guesses at a value: what a peer left out
stays unknown, and what could mean two things stays refused.
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lxml import etree

from market.openadr2.names import EI, OADR, POWER, PREFIXES, PYLD, SCALE, SCHEMA_VERSION, XCAL
from market.openadr2.parse import NAMESPACES_OF, declared_encoding
from market.openadr2.targets import target_rank

_LEADING_BLANK = re.compile(rb"\A(?:\xef\xbb\xbf)?\s+(?=<)")
_DECLARED_ENCODING = re.compile(
    rb"\A((?:\xef\xbb\xbf)?<\?xml[^>]{0,200}?)\s{1,200}encoding\s*=\s*[\"'][A-Za-z0-9._-]{1,40}[\"']"
)
_WITH_OFFSET = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?[+-]\d\d:\d\d")
_FRACTION = re.compile(r"(P(?:\d+D)?T(?:\d+H)?(?:\d+M)?)(\d+)\.(\d+)S")
_SPACES = frozenset(PREFIXES.values())
_WEEKS = re.compile(r"P(\d{1,4})W")
_DURATIONS = tuple(
    etree.QName(space, name).text
    for space, name in (
        (XCAL, "duration"),
        (XCAL, "startafter"),
        (OADR, "oadrMinPeriod"),
        (OADR, "oadrMaxPeriod"),
    )
)
_INSTANTS = tuple(
    etree.QName(space, name).text
    for space, name in (
        (XCAL, "date-time"),
        (EI, "createdDateTime"),
        (EI, "modificationDateTime"),
        (EI, "statusDateTime"),
    )
)
_UNCOLLAPSED = (
    *_DURATIONS,
    *(
        etree.QName(space, name).text
        for space, name in ((SCALE, "siScaleCode"), (EI, "responseCode"), (OADR, "oadrResponseRequired"))
    ),
)
_FLAGS = tuple(
    etree.QName(space, name).text
    for space, name in (
        (OADR, "oadrReportOnly"),
        (OADR, "oadrXmlSignature"),
        (OADR, "oadrHttpPullModel"),
        (OADR, "oadrOnChange"),
        (OADR, "oadrOnline"),
        (OADR, "oadrManualOverride"),
        (PYLD, "reportToFollow"),
        (POWER, "ac"),
    )
)


@dataclass(frozen=True, slots=True)
class Deviation:
    """One thing a peer does against the schema.

    Attributes:
        name: as the message log and `Decoded.deviations` say it.
        what: what it looks like.
        sent_by: who is known to send it.
        becomes: what we take it for.
        mend: changes the tree, and says whether there was anything to change.
    """

    name: str
    what: str
    sent_by: str
    becomes: str
    mend: Callable[[Any], bool]


def mend_bytes(body: bytes, tolerated: list[str]) -> bytes:
    """Return the bytes without what no parser would take, and add the names of what was tolerated.

    `blank-before-declaration`: white space before `<?xml` (templates of several vendors) is left out.
    `declared-utf-16`: the declaration says UTF-16, as .NET writes it into a string, but the bytes are UTF-8:
    they are read as what they are.
    """
    if _LEADING_BLANK.match(body):
        tolerated.append("blank-before-declaration")
        body = _LEADING_BLANK.sub(b"", body)
    if declared_encoding(body) == "utf-16":
        tolerated.append("declared-utf-16")
        body = _DECLARED_ENCODING.sub(rb"\1", body)
    return body


def mend_tree(root: Any, tolerated: list[str]) -> None:
    """Change a tree into what its sender meant, and add the names of what was tolerated."""
    for deviation in DEVIATIONS:
        if deviation.mend(root):
            tolerated.append(deviation.name)


def _each(root: Any, *tags: str) -> Iterator[Any]:
    yield from list(root.iter(*tags))


def _attributes(root: Any) -> bool:
    found = False
    for element in _each(root, f"{{{OADR}}}*"):
        for bare, qualified in (("schemaVersion", SCHEMA_VERSION), ("Id", f"{{{OADR}}}Id")):
            if bare in element.attrib and qualified not in element.attrib:
                element.set(qualified, element.attrib.pop(bare))
                found = True
    return found


def _type_names(root: Any) -> bool:
    """generateDS writes the type's name where the element's belongs, and leaves out scale and attributes."""
    found = False
    for element in _each(root, f"{{{EI}}}oadrReportPayloadType", f"{{{OADR}}}oadrReportPayloadType"):
        element.tag = f"{{{OADR}}}oadrReportPayload"
        found = True
    for element in _each(root, f"{{{OADR}}}PowerRealType"):
        element.tag = f"{{{POWER}}}powerReal"
        scale = element.find(f"{{{SCALE}}}siScaleCode")
        if scale is None:
            scale = etree.SubElement(element, f"{{{SCALE}}}siScaleCode")
            scale.text = "none"
        if element.find(f"{{{POWER}}}powerAttributes") is None:
            attributes = etree.SubElement(element, f"{{{POWER}}}powerAttributes")
            for name, unknown in (("hertz", "0"), ("voltage", "0"), ("ac", "true")):
                etree.SubElement(attributes, f"{{{POWER}}}{name}").text = unknown
        found = True
    return found


def _namespaces(root: Any) -> bool:
    """Move an element into the one namespace of the profile that has its name, or its parent's if that has."""
    found = False
    for element in _each(root, "*"):
        space, _, name = element.tag.rpartition("}")
        spaces = NAMESPACES_OF.get(name, frozenset())
        if not spaces or space[1:] in spaces or space[1:] not in _SPACES:
            continue
        above = element.getparent()
        fitting = spaces & {above.tag.rpartition("}")[0][1:]} if above is not None and len(spaces) > 1 else spaces
        if len(fitting) == 1:
            element.tag = f"{{{next(iter(fitting))}}}{name}"
            found = True
    return found


def _request_ids(root: Any) -> bool:
    """An answer to events, of which each has its own requestID, leaves out the one of the whole."""
    found = False
    for element in root.iterfind(f".//{{{PYLD}}}eiCreatedEvent/{{{EI}}}eiResponse"):
        if element.find(f"{{{PYLD}}}requestID") is None:
            etree.SubElement(element, f"{{{PYLD}}}requestID")
            found = True
    return found


def _report_request_ids(root: Any) -> bool:
    """A report that is only offered answers no request: the profile has it say 0."""
    found = False
    for report in _each(root, f"{{{OADR}}}oadrReport"):
        above, specifier = report.getparent(), report.find(f"{{{EI}}}reportSpecifierID")
        # only in that dialect: anybody else who leaves it out is told so
        if above is None or "schemaVersion" not in above.attrib or specifier is None:
            continue
        if above.tag == f"{{{OADR}}}oadrRegisterReport" and report.find(f"{{{EI}}}reportRequestID") is None:
            added = etree.Element(f"{{{EI}}}reportRequestID")
            added.text = "0"
            specifier.addprevious(added)
            found = True
    return found


def _undecided(root: Any) -> bool:
    """A VEN that has not decided says optType none: it has answered nothing yet."""
    found = False
    for response in _each(root, f"{{{EI}}}eventResponse"):
        if (response.findtext(f"{{{EI}}}optType") or "").strip() == "none":
            response.getparent().remove(response)
            found = True
    return found


def _no_length(root: Any) -> bool:
    """isodate writes a length that is not known as P%P; without it, the length is unknown."""
    found = False
    for element in _each(root, f"{{{XCAL}}}duration"):
        above = element.getparent()
        if (element.text or "").strip() == "P%P" and above is not None and above.tag == element.tag:
            above.getparent().remove(above)
            found = True
    return found


def _several_targets(root: Any) -> bool:
    """An opt for several addressees has one eiTarget each; the schema wants them in one, by kind."""
    found = False
    for opt in _each(root, f"{{{OADR}}}oadrCreateOpt"):
        first, *others = opt.findall(f"{{{EI}}}eiTarget") or [None]
        for other in others:
            first.extend(list(other))
            opt.remove(other)
            found = True
        if others:
            first[:] = sorted(first, key=lambda part: target_rank(part.tag))
    return found


def _blanks(root: Any) -> bool:
    """The schema has these as strings of a pattern, in which a line break counts."""
    found = False
    for element in _each(root, *_UNCOLLAPSED):
        if not len(element) and element.text and element.text != element.text.strip():
            element.text = element.text.strip()
            found = True
    return found


def _texts(root: Any, tags: tuple[str, ...], change: Callable[[str], str | None]) -> bool:
    found = False
    for element in _each(root, *tags):
        changed = None if len(element) else change((element.text or "").strip())
        if changed is not None:
            element.text = changed
            found = True
    return found


def _whole_seconds(text: str) -> str | None:
    match = _FRACTION.fullmatch(text)
    return None if match is None else f"{match[1]}{int(match[2][:9]) + (1 if match[3].strip('0') else 0)}S"


def _days(text: str) -> str | None:
    match = _WEEKS.fullmatch(text)
    return None if match is None else f"P{7 * int(match[1])}D"


def _in_utc(text: str) -> str | None:
    if not _WITH_OFFSET.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text).astimezone(UTC).isoformat().replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return None


def _lower(text: str) -> str | None:
    return text.lower() if text in ("True", "False", "TRUE", "FALSE") else None


DEVIATIONS = (
    Deviation(
        "offer-without-request-id",
        "an offered oadrReport without reportRequestID",
        "pyoadr-ven 0.6 in oadrRegisterReport",
        "reportRequestID 0",
        _report_request_ids,
    ),
    Deviation(
        "attribute-without-namespace",
        'schemaVersion="2.0b" or Id="…" without a prefix',
        "pyoadr-ven 0.6 in every message, signers that set a plain Id",
        "the attribute of the same name that the schema has",
        _attributes,
    ),
    Deviation(
        "type-name-as-element",
        "oadr:PowerRealType without scale and attributes in a report offer, ei:oadrReportPayloadType in a report",
        "pyoadr-ven 0.6",
        "power:powerReal in the unit it names, without a prefix; frequency and voltage 0, which is unknown",
        _type_names,
    ),
    Deviation(
        "element-in-wrong-namespace",
        "ei:oadrReportPayload, oadr:payloadFloat, oadr:duration",
        "pyoadr-ven 0.6 in oadrUpdateReport",
        "the element of that name, where the schema has exactly one that fits",
        _namespaces,
    ),
    Deviation(
        "response-without-request-id",
        "the eiResponse of an oadrCreatedEvent without requestID",
        "pyoadr-ven 0.6",
        "an empty requestID",
        _request_ids,
    ),
    Deviation(
        "opt-none",
        "optType none in an eventResponse",
        "pyoadr-ven 0.6 until its operator or its time-out has decided",
        "no answer to that event",
        _undecided,
    ),
    Deviation(
        "several-targets-in-opt",
        "an oadrCreateOpt with an eiTarget for each addressee",
        "openleadr 0.5",
        "one eiTarget with all of them",
        _several_targets,
    ),
    Deviation(
        "length-unknown",
        "a duration of P%P",
        "pyoadr-ven 0.6 for values without an end",
        "no duration",
        _no_length,
    ),
    Deviation(
        "blanks-around-value",
        "a duration, scale, response code or responseRequired with line breaks around it",
        "pretty-printers that wrap text",
        "the value without them",
        _blanks,
    ),
    Deviation(
        "duration-with-fraction",
        "PT59.9S",
        "pyoadr-ven 0.6, clients that use isodate",
        "whole seconds, rounded up",
        lambda root: _texts(root, _DURATIONS, _whole_seconds),
    ),
    Deviation(
        "duration-in-weeks",
        "P2W, where the schema by a slip of its pattern has 2W",
        "clients that follow RFC 5545",
        "days",
        lambda root: _texts(root, _DURATIONS, _days),
    ),
    Deviation(
        "instant-with-offset",
        "2026-08-19T16:00:00-07:00",
        "clients that use isoformat() or java.time",
        "the same instant in UTC",
        lambda root: _texts(root, _INSTANTS, _in_utc),
    ),
    Deviation(
        "flag-in-capitals",
        "True or FALSE",
        "clients that print a boolean",
        "true or false",
        lambda root: _texts(root, _FLAGS, _lower),
    ),
)
"""In the order they are applied."""

NAMES = (*(deviation.name for deviation in DEVIATIONS), "blank-before-declaration", "declared-utf-16")
"""Every name that may stand in `Decoded.deviations`."""
