"""Checks of transport, security and of all messages as a whole. Listed in `checks`."""

from collections.abc import Callable

from lxml import etree

from market.openadr2.codec import encode, kind_of
from market.openadr2.conformance.session import STRANGER, Answer, Session2, new_id
from market.openadr2.names import SCHEMA_VERSION
from market.openadr2.parse import message_of, parse
from vpp.domain import openadr2 as m
from vpp.domain.conformance import Failed, Skipped
from vpp.domain.errors import InvalidRequest

_DTD = b'<?xml version="1.0"?><!DOCTYPE oadrPayload [<!ENTITY a "aaaaaaaaaa">]><oadrPayload>&a;</oadrPayload>'
_XML_TYPES = ("application/xml", "text/xml")


async def tls(session: Session2) -> str:
    """It speaks TLS 1.2 or newer."""
    await session.say(m.QueryRegistration(request_id=new_id()))
    if session.tls_version is None:
        raise Skipped("the address is http: nothing is encrypted, and no certificate can be shown")
    if session.tls_version not in ("TLSv1.2", "TLSv1.3"):
        raise Failed(f"it speaks {session.tls_version}")
    return f"it speaks {session.tls_version}"


async def signature(session: Session2) -> str:
    """It says whether it wants signed messages, and does not take one that was changed under way."""
    if session.signer is None:
        answer = await session.say(m.QueryRegistration(request_id=new_id()))
        if answer.response is not None and answer.response.code == m.NOT_REGISTERED:
            raise Skipped("it wants signed messages: give --cert, --key and --sign")
        raise Skipped("unsigned messages are answered; with --cert, --key and --sign signed ones are tried")
    body = encode(m.QueryRegistration(request_id="conformance-signed"), signer=session.signer)
    whole = await session.post("EiRegisterParty", body, asked="a signed message", request_id="conformance-signed")
    whole.is_a(m.CreatedRegistration)
    changed = body.replace(b"conformance-signed", b"conformance-forged")
    answer = await session.post("EiRegisterParty", changed, asked="a message that was changed after it was signed")
    return _not_taken(answer)


async def invalid(session: Session2) -> str:
    """A message the schema does not allow is refused, in words or by HTTP."""
    body = encode(m.Poll(ven_id=STRANGER)).replace(b"venID", b"venIdentity")
    answer = await session.post("OadrPoll", body, asked="a message the schema does not allow", keep=False)
    return _not_taken(answer)


async def no_xml(session: Session2) -> str:
    """What is no XML is refused, in words or by HTTP."""
    answer = await session.post("OadrPoll", b"this is no XML", asked="a body that is no XML", keep=False)
    return _not_taken(answer)


async def wrong_service(session: Session2) -> str:
    """A message nobody has a service for is not taken for another."""
    answer = await session.post("NoSuchService", encode(m.Poll(ven_id=STRANGER)), asked="no such service", keep=False)
    if answer.status not in (400, 404, 405, 501):
        raise Failed(f"a service that does not exist answered with {answer.brief}")
    return f"refused with HTTP {answer.status}"


async def dtd(session: Session2) -> str:
    """A document type is refused, and the VTN is well afterwards."""
    if not session.vtn.hostile:
        raise Skipped("sent only with --hostile: it can end a VTN that reads it")
    answer = await session.post("OadrPoll", _DTD, asked="a document type", keep=False)
    found = _not_taken(answer)
    (await session.say(m.QueryRegistration(request_id=new_id()))).is_a(m.CreatedRegistration)
    return f"{found}, and it answers afterwards"


async def content_type(session: Session2) -> str:
    """Messages come as XML."""
    return _of_all(session, lambda answer: None if _is_xml(answer) else f"Content-Type {answer.content_type or 'none'}")


async def valid(session: Session2) -> str:
    """Every message passes the schema."""
    return _of_all(session, lambda answer: answer.invalid)


async def request_ids(session: Session2) -> str:
    """Every response names the request it answers."""

    def wrong(answer: Answer) -> str | None:
        response = answer.response
        if response is None or not answer.request_id or response.request_id == answer.request_id:
            return None
        return f"requestID {answer.request_id} was answered with {response.request_id or 'none'}"

    return _of_all(session, wrong)


async def schema_version(session: Session2) -> str:
    """Every message says that it is of schema 2.0b."""
    return _of_all(session, _wrong_version)


def _wrong_version(answer: Answer) -> str | None:
    try:
        said = message_of(parse(answer.body)).get(SCHEMA_VERSION)
    except (InvalidRequest, etree.LxmlError):
        return None  # `valid` says so
    return None if said == "2.0b" else f"schemaVersion {said or 'is missing'}"


def _is_xml(answer: Answer) -> bool:
    return answer.content_type.partition(";")[0].strip().lower() in _XML_TYPES


def _of_all(session: Session2, wrong: Callable[[Answer], str | None]) -> str:
    """Judge every answer that carries a message, or ought to."""
    judged = [answer for answer in session.answers if answer.status == 200 or answer.message is not None]
    if not judged:
        raise Skipped("no message was answered")
    found: dict[str, str] = {}
    for answer in judged:
        if (why := wrong(answer)) is not None:
            found.setdefault(kind_of(answer.message) if answer.message else f"the answer to {answer.asked}", why)
    if found:
        raise Failed("; ".join(f"{kind}: {why}" for kind, why in found.items()))
    return f"all {len(judged)} messages"


def _not_taken(answer: Answer) -> str:
    response = answer.response
    if answer.status >= 500:
        raise Failed(f"{answer.asked} was answered with {answer.brief}: the server failed over it")
    if response is not None and not 200 <= response.code < 300:
        return f"refused with {response.code} {response.description}".rstrip()
    if 400 <= answer.status < 500:
        return f"refused with HTTP {answer.status}"
    raise Failed(f"{answer.asked} was taken: {answer.brief}")
