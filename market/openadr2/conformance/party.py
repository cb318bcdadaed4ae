"""Checks of EiRegisterParty and OadrPoll. Listed in `checks`."""

from market.openadr2.conformance.session import STRANGER, Answer, Session2, new_id
from vpp.domain import openadr2 as m
from vpp.domain.conformance import Failed, Skipped

UNKNOWN_VEN = (m.INVALID_ID, m.NOT_REGISTERED)


async def query(session: Session2) -> str:
    """It says what it speaks to whoever asks, and gives no ids for that."""
    request_id = new_id()
    said = (await session.say(m.QueryRegistration(request_id=request_id))).is_a(m.CreatedRegistration)
    if not said.vtn_id:
        raise Failed("oadrCreatedPartyRegistration has no vtnID")
    if "2.0b" not in said.profiles:
        raise Failed(f"profile 2.0b is not among {', '.join(said.profiles) or 'none'}")
    if said.registration_id:
        raise Failed("a query was answered with a registrationID, though nothing was registered")
    return f"vtnID {said.vtn_id}, profiles {', '.join(said.profiles)}, transports {', '.join(said.transports)}"


async def create(session: Session2) -> str:
    """It registers us and gives us both ids."""
    session.registered = "it was not answered"
    answer = await session.say(_registration(session))
    session.registered = answer.brief
    said = answer.is_a(m.CreatedRegistration)
    if not said.ven_id or not said.registration_id:
        raise Failed("a registration succeeded without a venID and a registrationID")
    session.ven_id, session.registration_id = said.ven_id, said.registration_id
    if session.vtn.ven_id is not None and said.ven_id != session.vtn.ven_id:
        raise Failed(f"we asked as {session.vtn.ven_id} and were registered as {said.ven_id}")
    poll = "no poll interval" if said.poll is None else f"to poll every {said.poll.total_seconds():g} s"
    return f"venID {said.ven_id}, {poll}"


async def again(session: Session2) -> str:
    """Registering again with the ids keeps them."""
    ven_id, registration_id = session.me, session.registration_id
    message = _registration(session, ven_id=ven_id, registration_id=registration_id)
    said = (await session.say(message)).is_a(m.CreatedRegistration)
    if said.registration_id:
        session.registration_id = said.registration_id
    if (said.ven_id, said.registration_id) != (ven_id, registration_id):
        raise Failed(f"the ids changed from {ven_id}, {registration_id} to {said.ven_id}, {said.registration_id}")
    return "both ids were kept"


async def cancel_unknown(session: Session2) -> str:
    """A registration it never gave cannot be cancelled."""
    message = m.CancelRegistration(request_id=new_id(), registration_id=STRANGER, ven_id=STRANGER)
    answer = await session.say(message)
    return refused(answer, (*UNKNOWN_VEN, m.NOT_ALLOWED))


async def poll_stranger(session: Session2) -> str:
    """Whoever is not registered is told to register, or refused."""
    answer = await session.say(m.Poll(ven_id=STRANGER))
    if isinstance(answer.message, m.RequestReregistration):
        return "a made-up venID is asked to register"
    return refused(answer, UNKNOWN_VEN)


async def poll(session: Session2) -> str:
    """A poll is answered with a message of the VTN, or a plain success."""
    answer = await session.say(m.Poll(ven_id=session.me))
    if isinstance(answer.message, m.RequestReregistration):
        raise Failed("it asks us to register again, right after we registered")
    if not answer.accepted:
        raise Failed(f"oadrPoll was answered with {answer.brief}")
    return answer.brief


async def cancel(session: Session2) -> str:
    """Our registration ends when we say so."""
    ven_id, registration_id = session.me, session.registration_id or ""
    message = m.CancelRegistration(request_id=new_id(), registration_id=registration_id, ven_id=ven_id)
    said = (await session.say(message)).is_a(m.CanceledRegistration)
    session.registration_id = None
    if said.registration_id != registration_id:
        raise Failed(f"registrationID {registration_id} was answered with {said.registration_id}")
    return "cancelled, with the same registrationID"


async def poll_cancelled(session: Session2) -> str:
    """After that a poll is one of a stranger."""
    ven_id = session.me
    if session.registration_id is not None:
        raise Skipped("the registration could not be cancelled")
    answer = await session.say(m.Poll(ven_id=ven_id))
    session.ven_id, session.registered = None, "it was cancelled"
    if isinstance(answer.message, m.RequestReregistration):
        return "it asks us to register"
    return refused(answer, UNKNOWN_VEN)


def refused(answer: Answer, codes: tuple[int, ...]) -> str:
    """Return a sentence for an answer that has to refuse with one of some codes.

    Raises:
        Failed: it does not, or not in OpenADR's words.
    """
    response = answer.response
    if answer.status in (401, 403) and answer.message is None:
        return f"refused with HTTP {answer.status}"
    if response is None:
        raise Failed(f"{answer.asked} was answered with {answer.brief}, not with a response code")
    if 200 <= response.code < 300:
        raise Failed(f"{answer.asked} was taken: {answer.brief}")
    if response.code not in codes:
        wanted = " or ".join(str(code) for code in codes)
        raise Failed(f"{answer.asked} was refused with {response.code} {response.description}, not with {wanted}")
    return f"refused with {response.code} {response.description}".rstrip()


def _registration(
    session: Session2, *, ven_id: str | None = None, registration_id: str | None = None
) -> m.CreateRegistration:
    return m.CreateRegistration(
        request_id=new_id(),
        ven_name=session.vtn.ven_name,
        ven_id=ven_id or session.vtn.ven_id,
        registration_id=registration_id,
        xml_signature=session.vtn.sign,
    )
