"""What a fuzzer holds the XML door of OpenADR 2.0b to, and the messages it begins with.

Whatever the bytes: `decode` returns a message or raises `Refused`, and what was read can be written again.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from market.openadr2.codec import MemoryReplayGuard, Refused, Verifier, decode, encode
from market.openadr2.parse import Limits
from vpp.domain import openadr2 as m
from vpp.domain.errors import InvalidRequest

LIMITS = Limits(body_bytes=64_000, elements=4_000)
AT = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)


class _Clock:
    def now(self) -> datetime:
        return AT

    async def sleep_until(self, at: datetime) -> None:
        raise AssertionError("nothing here waits")


VERIFIER = Verifier(MemoryReplayGuard(max_entries=1_000), _Clock(), required=False)


def try_bytes(data: bytes) -> None:
    """Put bytes through the door, with and without a look at the signature.

    Raises:
        AssertionError: what was read cannot be written so that it is valid.
    """
    for verify in (None, VERIFIER):
        try:
            message = decode(data, verify=verify, limits=LIMITS).message
        except Refused as refused:
            if not 400 <= refused.code < 500 or len(refused.reason) > 300:
                raise AssertionError(f"{refused.code}: {refused.reason}") from refused
            continue
        try:
            written = encode(message)
        except InvalidRequest:
            continue  # as an event of custom signals only
        decode(written, lenient=False)


def seeds(folder: Path) -> None:
    """Write one message of several types, as a corpus to begin with."""
    response = m.Response(200, "OK", "r1")
    update = m.ReportUpdate(
        report_request_id="rr1",
        specifier_id="s1",
        name="TELEMETRY_USAGE",
        created_at=AT,
        values=(m.ReportedValue(r_id="p", start_at=AT, duration=timedelta(minutes=15), value=4.5),),
    )
    demand = m.ReportDemand(
        report_request_id="rr1",
        specifier_id="s1",
        points=(("p", "Direct Read"),),
        granularity=timedelta(minutes=15),
        back=timedelta(0),
        start_at=AT,
    )
    messages: tuple[m.Openadr2Message, ...] = (
        m.Poll(ven_id="ven1"),
        m.Acknowledge(response=response),
        m.CreateRegistration(request_id="r1"),
        m.CreatedRegistration(response=response, vtn_id="VTN1", poll=timedelta(seconds=10)),
        m.UpdateReports(request_id="r1", updates=(update,)),
        m.CreateReports(request_id="r1", demands=(demand,)),
        m.CreateOpt(request_id="r1", opt_id="o1", ven_id="ven1", opt_in=True, reason="economic", created_at=AT),
    )
    for message in messages:
        (folder / f"{type(message).__name__}.xml").write_bytes(encode(message))
