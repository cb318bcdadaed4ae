"""Room openadr2: every message of OpenADR 2.0b, from bytes and to bytes. The door for the VTN and VEN shells.

`decode` is strict first: only where the schema refuses a document are the named deviations of `deviations`
tried, and what was tolerated is said. Whatever the bytes, it returns a message or raises `Refused`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from lxml import etree

from market.openadr2 import (
    read_events,
    read_party,
    read_reports,
    write_events,
    write_party,
    write_reports,
)
from market.openadr2.deviations import mend_bytes, mend_tree
from market.openadr2.parse import DEFAULT_LIMITS, Limits, check_bytes, message_of, parse, request_id_of, schema_error
from market.openadr2.refusal import Refused
from market.openadr2.replay import MemoryReplayGuard, ReplayGuard
from market.openadr2.signing import Signer, Verifier, fingerprint_of
from market.openadr2.templates import EventTemplate, TemplateCache, render_distribution
from market.openadr2.xml_out import check_valid, enveloped
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest
from vpp.domain.openadr2 import DEPLOYMENT_ERROR, INVALID_DATA, Openadr2Message

__all__ = [
    "Decoded",
    "EventTemplate",
    "Limits",
    "MemoryReplayGuard",
    "Refused",
    "ReplayGuard",
    "Signer",
    "TemplateCache",
    "Verifier",
    "decode",
    "encode",
    "fingerprint_of",
    "kind_of",
    "render_distribution",
]

_READERS: dict[str, Callable[[Any], Openadr2Message]] = {
    "oadrDistributeEvent": read_events.distribute_events,
    "oadrCreatedEvent": read_events.created_events,
    "oadrRequestEvent": read_events.request_events,
    "oadrResponse": read_party.acknowledge,
    "oadrCancelOpt": read_party.cancel_opt,
    "oadrCanceledOpt": read_party.canceled_opt,
    "oadrCreateOpt": read_party.create_opt,
    "oadrCreatedOpt": read_party.created_opt,
    "oadrCancelReport": read_reports.cancel_reports,
    "oadrCanceledReport": read_reports.canceled_reports,
    "oadrCreateReport": read_reports.create_reports,
    "oadrCreatedReport": read_reports.created_reports,
    "oadrRegisterReport": read_reports.register_reports,
    "oadrRegisteredReport": read_reports.registered_reports,
    "oadrUpdateReport": read_reports.update_reports,
    "oadrUpdatedReport": read_reports.updated_reports,
    "oadrCancelPartyRegistration": read_party.cancel_registration,
    "oadrCanceledPartyRegistration": read_party.canceled_registration,
    "oadrCreatePartyRegistration": read_party.create_registration,
    "oadrCreatedPartyRegistration": read_party.created_registration,
    "oadrRequestReregistration": read_party.request_reregistration,
    "oadrQueryRegistration": read_party.query_registration,
    "oadrPoll": read_party.poll,
}

_WRITERS: dict[type, tuple[str, Callable[[Any], str]]] = {
    m.DistributeEvents: ("oadrDistributeEvent", write_events.distribute_events),
    m.CreatedEvents: ("oadrCreatedEvent", write_events.created_events),
    m.RequestEvents: ("oadrRequestEvent", write_events.request_events),
    m.Acknowledge: ("oadrResponse", write_party.acknowledge),
    m.CancelOpt: ("oadrCancelOpt", write_party.cancel_opt),
    m.CanceledOpt: ("oadrCanceledOpt", write_party.canceled_opt),
    m.CreateOpt: ("oadrCreateOpt", write_party.create_opt),
    m.CreatedOpt: ("oadrCreatedOpt", write_party.created_opt),
    m.CancelReports: ("oadrCancelReport", write_reports.cancel_reports),
    m.CanceledReports: ("oadrCanceledReport", write_reports.canceled_reports),
    m.CreateReports: ("oadrCreateReport", write_reports.create_reports),
    m.CreatedReports: ("oadrCreatedReport", write_reports.created_reports),
    m.RegisterReports: ("oadrRegisterReport", write_reports.register_reports),
    m.RegisteredReports: ("oadrRegisteredReport", write_reports.registered_reports),
    m.UpdateReports: ("oadrUpdateReport", write_reports.update_reports),
    m.UpdatedReports: ("oadrUpdatedReport", write_reports.updated_reports),
    m.CancelRegistration: ("oadrCancelPartyRegistration", write_party.cancel_registration),
    m.CanceledRegistration: ("oadrCanceledPartyRegistration", write_party.canceled_registration),
    m.CreateRegistration: ("oadrCreatePartyRegistration", write_party.create_registration),
    m.CreatedRegistration: ("oadrCreatedPartyRegistration", write_party.created_registration),
    m.RequestReregistration: ("oadrRequestReregistration", write_party.request_reregistration),
    m.QueryRegistration: ("oadrQueryRegistration", write_party.query_registration),
    m.Poll: ("oadrPoll", write_party.poll),
}


_ONLY_TEXTS = (m.Poll, m.Acknowledge, m.QueryRegistration, m.RequestReregistration, m.CreatedOpt, m.CanceledOpt)
"""What is sent most often, and is valid whatever its texts say."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message that was read.

    Attributes:
        message: what it says.
        deviations: names of what had to be tolerated (`deviations.DEVIATIONS`), () for a valid document.
        signed_by: fingerprint of who signed it, None where it was not signed or no signature was asked for.
    """

    message: Openadr2Message
    deviations: tuple[str, ...] = ()
    signed_by: str | None = None


def decode(
    body: bytes, *, verify: Verifier | None = None, lenient: bool = True, limits: Limits = DEFAULT_LIMITS
) -> Decoded:
    """Read one message.

    Args:
        body: the document as it came, UTF-8.
        verify: checks its signature; None leaves signatures unread.
        lenient: whether the named deviations are tolerated.
        limits: how large it may be.

    Raises:
        Refused: with OpenADR's code, a reason, and the requestID where it could be read.
    """
    check_bytes(body, limits)
    tolerated: list[str] = []
    if lenient:
        body = mend_bytes(body, tolerated)
    root = parse(body, limits)
    try:
        signed_by = None if verify is None else verify.check(root, message_of(root))
        error = schema_error(root)
        if error is not None and lenient:
            mend_tree(root, tolerated)
            error = schema_error(root)
        message = message_of(root)
        if error is not None:
            raise Refused(*error)
        name = message.tag.rpartition("}")[2]
        return Decoded(_READERS[name](message), tuple(tolerated), signed_by)
    except Refused as refused:
        raise Refused(refused.code, refused.reason, refused.request_id or request_id_of(root)) from refused
    except InvalidRequest as error:
        raise Refused(INVALID_DATA, str(error), request_id_of(root)) from error
    except (ValueError, ArithmeticError, LookupError, TypeError, AttributeError, etree.LxmlError) as error:
        reason = f"it could not be read ({type(error).__name__})"
        raise Refused(DEPLOYMENT_ERROR, reason, request_id_of(root)) from error


def encode(message: Openadr2Message, *, signer: Signer | None = None) -> bytes:
    """Write one message, signed where there is a signer.

    Raises:
        InvalidRequest: it holds what 2.0b cannot say: a control character, a name that is none of the schema's, an
            event without any signal of the profile.
    """
    written = _WRITERS[type(message)][1](message)
    if not isinstance(message, _ONLY_TEXTS):
        check_valid(written)
    return enveloped(written, signer)


def kind_of(message: Openadr2Message) -> str:
    """Return a message's name on the wire: `oadrPoll`."""
    return name_of(type(message))


def name_of(kind: type) -> str:
    """Return the name on the wire of messages of a kind."""
    return _WRITERS[kind][0]
