"""Checks of EiEvent, EiReport and EiOpt. Listed in `checks`."""

from datetime import timedelta

from market.openadr2.conformance.party import UNKNOWN_VEN, refused
from market.openadr2.conformance.session import STRANGER, Session2, new_id
from vpp.domain import openadr2 as m
from vpp.domain.conformance import Failed, Skipped
from vpp.domain.time import Interval

SPECIFIER, R_ID = "conformance-usage", "conformance-power"
_FAR = timedelta(days=3650)
_HOUR = timedelta(hours=1)


async def request_stranger(session: Session2) -> str:
    """Events are nobody's who is not registered."""
    answer = await session.say(m.RequestEvents(request_id=new_id(), ven_id=STRANGER))
    return refused(answer, UNKNOWN_VEN)


async def request(session: Session2) -> str:
    """It lists our events."""
    said = (await session.say(m.RequestEvents(request_id=new_id(), ven_id=session.me))).is_a(m.DistributeEvents)
    if not said.vtn_id:
        raise Failed("oadrDistributeEvent has no vtnID")
    if said.response is None:
        raise Failed("an oadrDistributeEvent that answers oadrRequestEvent has no eiResponse")
    return f"{len(said.events)} events are offered to us"


async def reply_limit(session: Session2) -> str:
    """It lists no more events than we take."""
    offered = _offered(session)
    answer = await session.say(m.RequestEvents(request_id=new_id(), ven_id=session.me, reply_limit=1))
    said = answer.is_a(m.DistributeEvents)
    if len(said.events) > 1:
        raise Failed(f"replyLimit 1 was answered with {len(said.events)} events")
    if offered < 2:
        raise Skipped(f"{offered} events are offered to us; this needs two")
    return f"one of {offered} events"


async def modification_numbers(session: Session2) -> str:
    """Of one event each version has one number, which only grows."""
    last: dict[str, tuple[int, object]] = {}
    for message in session.told:
        for told in message.events:
            event = told.event
            number, content = last.get(event.event_id, (event.modification_number, event.start_at))
            if event.modification_number < number:
                raise Failed(f"event {event.event_id} went from modification {number} to {event.modification_number}")
            if event.modification_number == number and event.start_at != content:
                raise Failed(f"event {event.event_id} has two starts with modification {number}")
            last[event.event_id] = (event.modification_number, event.start_at)
            if told.defect is not None:
                raise Failed(f"event {event.event_id} cannot be: {told.defect.code} {told.defect.description}")
    if not last:
        raise Skipped("no event is offered to us")
    return f"{len(last)} events, each told with numbers that only grow"


async def created_unknown(session: Session2) -> str:
    """An answer to an event that is not ours is refused."""
    opt = m.EventOpt(event_id=STRANGER, modification_number=0, request_id=new_id(), opt_in=False)
    response = m.Response(request_id=opt.request_id)
    answer = await session.say(m.CreatedEvents(response=response, ven_id=session.me, opts=(opt,)))
    return refused(answer, (m.INVALID_ID, m.OUT_OF_SEQUENCE, m.INVALID_DATA))


async def register_report(session: Session2) -> str:
    """It takes what reports we can send, and asks only for these."""
    point = m.PointOffer(
        r_id=R_ID, report_type="usage", reading_type="Direct Read", unit="W", scale="k",
        min_sampling=timedelta(minutes=1), max_sampling=timedelta(minutes=15),
    )  # fmt: skip
    offer = m.ReportOffer(
        specifier_id=SPECIFIER, name="METADATA_TELEMETRY_USAGE", points=(point,), created_at=session.clock.now(),
        duration=_HOUR,
    )  # fmt: skip
    message = m.RegisterReports(request_id=new_id(), offers=(offer,), ven_id=session.me)
    said = (await session.say(message)).is_a(m.RegisteredReports)
    asked = [demand.specifier_id for demand in said.demands if demand.specifier_id not in (SPECIFIER, "METADATA")]
    if asked:
        raise Failed(f"it asks for reports we did not offer: {', '.join(asked)}")
    return f"taken; {len(said.demands)} reports are asked for at once"


async def update_unknown(session: Session2) -> str:
    """Values of a report it never asked for are refused, or cancelled."""
    now = session.clock.now()
    value = m.ReportedValue(r_id=R_ID, start_at=now - _HOUR, duration=_HOUR, value=1.0)
    update = m.ReportUpdate(
        report_request_id=STRANGER, specifier_id=SPECIFIER, name="TELEMETRY_USAGE", created_at=now, values=(value,)
    )
    answer = await session.say(m.UpdateReports(request_id=new_id(), updates=(update,), ven_id=session.me))
    said = answer.message
    if isinstance(said, m.UpdatedReports) and said.cancel and STRANGER in said.cancel.report_request_ids:
        return "answered with the cancellation of that report"
    return refused(answer, (m.INVALID_ID, m.REPORT_NOT_SUPPORTED, m.INVALID_DATA))


async def create_opt(session: Session2) -> str:
    """It takes when we are not available (a window ten years from now)."""
    start_at = session.clock.now().replace(microsecond=0) + _FAR
    message = m.CreateOpt(
        request_id=new_id(), opt_id=new_id(), ven_id=session.me, opt_in=False, reason="notParticipating",
        created_at=session.clock.now(), windows=(Interval(start_at, start_at + _HOUR),),
    )  # fmt: skip
    said = (await session.say(message)).is_a(m.CreatedOpt)
    session.opt_id = message.opt_id
    if said.opt_id != message.opt_id:
        raise Failed(f"optID {message.opt_id} was answered with {said.opt_id}")
    return "taken, with the same optID"


async def cancel_opt(session: Session2) -> str:
    """It lets us take that back."""
    ven_id = session.me
    if session.opt_id is None:
        raise Skipped("there is no opt of ours to cancel")
    message = m.CancelOpt(request_id=new_id(), opt_id=session.opt_id, ven_id=ven_id)
    said = (await session.say(message)).is_a(m.CanceledOpt)
    session.opt_id = None
    if said.opt_id != message.opt_id:
        raise Failed(f"optID {message.opt_id} was answered with {said.opt_id}")
    return "taken back, with the same optID"


async def cancel_unknown_opt(session: Session2) -> str:
    """An opt it does not know cannot be taken back."""
    answer = await session.say(m.CancelOpt(request_id=new_id(), opt_id=STRANGER, ven_id=session.me))
    return refused(answer, (m.INVALID_ID, m.INVALID_DATA))


def _offered(session: Session2) -> int:
    return max((len(each.events) for each in session.told), default=0)
