"""OpenADR 2.0b messages for tests: keys, a clock that stands, and hypothesis strategies for every message type.

What the strategies make is what 2.0b can carry without loss: whole seconds, texts without blanks around them,
units beside the scale they are written in, targets in the schema's order.
"""

from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import strategies as st

from market.openadr2.names import _TYPE_OF, BASELINE
from vpp.domain import openadr2 as m
from vpp.domain.grid_event import EventStatus, GridEvent, Series, SeriesInterval, SeriesType, Target, TargetKind
from vpp.domain.time import Interval

START_AT = datetime(2026, 8, 19, 23, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)


class StandingClock:
    """A clock that is moved by hand."""

    def __init__(self, at: datetime = START_AT) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at

    async def sleep_until(self, at: datetime) -> None:
        self.at = max(self.at, at)


@cache
def key_pair(kind: str = "ec", owner: str = "us") -> tuple[bytes, bytes]:
    """A certificate and its key in PEM, made once per process; `kind` is ec, rsa or rsa1024."""
    key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey
    if kind == "ec":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(65537, 1024 if kind == "rsa1024" else 2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, owner)])
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    built = built.serial_number(7).not_valid_before(START_AT - HOUR).not_valid_after(START_AT + 9999 * HOUR)
    cert = built.sign(key, hashes.SHA256())
    return cert.public_bytes(serialization.Encoding.PEM), key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def series(*values: float, name: str = "SIMPLE/level", type_: SeriesType = SeriesType.SIMPLE, **more: object) -> Series:
    """A series of hourly values from START_AT on."""
    intervals = tuple(
        SeriesInterval(start_at=START_AT + n * HOUR, duration=HOUR, values=(value,), uid=str(n))
        for n, value in enumerate(values)
    )
    return Series(series_id="s1", type=type_, name=name, intervals=intervals, **more)  # type: ignore[arg-type]


def grid_event(*signals: Series, **changes: object) -> GridEvent:
    """An event over its first series."""
    signals = signals or (series(2.0),)
    about: dict[str, object] = {
        "event_id": "E1",
        "modification_number": 0,
        "program": "http://utility.example/elrp",
        "start_at": START_AT,
        "duration": len(signals[0].intervals) * HOUR,
        "series": signals,
        "created_at": START_AT - HOUR,
    }
    return GridEvent(**(about | changes))  # type: ignore[arg-type]


def distribution(*events: GridEvent, status: EventStatus = EventStatus.FAR) -> m.DistributeEvents:
    """A distribution of events in one status."""
    told = tuple(m.DistributedEvent(event=event, status=status) for event in events)
    return m.DistributeEvents(request_id="d1", vtn_id="VTN1", events=told)


_CHARACTERS = st.characters(codec="utf-8", exclude_characters="\x00\ufffe\uffff", exclude_categories=["Cc", "Cs"])
texts = st.text(_CHARACTERS, max_size=20).map(str.strip)
ids = st.text(_CHARACTERS, min_size=1, max_size=20).map(str.strip).filter(bool)
instants = st.datetimes(datetime(1990, 1, 1), datetime(2090, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
whole_s = st.integers(1, 10**7).map(lambda n: timedelta(seconds=n))
lengths = st.one_of(st.just(timedelta(0)), whole_s)
numbers = st.floats(-1e9, 1e9, allow_nan=False).map(lambda value: value + 0.0)
kilo_numbers = st.integers(-(10**9), 10**9).map(lambda n: n / 8.0)
counts = st.integers(0, 2**32 - 1)
responses = st.builds(m.Response, st.integers(100, 599), texts, texts)
_ORDER = ["endDeviceAsset", "meterAsset", "pnode", "transportInterface"]
_KINDS = [(TargetKind.OTHER, label) for label in _ORDER] + [
    (TargetKind.GROUP, ""),
    (TargetKind.GROUP, "groupName"),
    (TargetKind.RESOURCE, ""),
    (TargetKind.VEN, ""),
    (TargetKind.PARTY, ""),
]
_AREA = Target(TargetKind.OTHER, "1.5 2.0 3.0 4.5", "serviceArea")


def _target(kind_label: tuple[TargetKind, str], value: str) -> Target:
    kind, label = kind_label
    value = value.replace("|", "-")
    return Target(kind, f"{value}|{value}" if label == "transportInterface" else value, label)


def _rank(target: Target) -> int:
    return _KINDS.index((target.kind, target.label))


targets = st.lists(st.builds(_target, st.sampled_from(_KINDS), ids), max_size=4).map(
    lambda found: tuple(sorted(found, key=_rank))
)

_UNITS = [None, "KW", "KWH", "KVA", "KVAR", "VOLTS", "AMPS", "HZ", "CELSIUS", "THERMS", "COUNT", "x-own"]


@st.composite
def _series(draw: st.DrawFn, event_start_at: datetime) -> Series:
    signal, type_ = draw(st.sampled_from([*_TYPE_OF.items(), (("x-own signal", "level"), SeriesType.OTHER)]))
    priced = type_ in (SeriesType.PRICE, SeriesType.BID_PRICE, SeriesType.DEMAND_CHARGE)
    unit = draw(st.sampled_from([None, "KWH", "KW", "THERMS"] if priced else _UNITS))
    if type_ is SeriesType.CONTROL_LEVEL_OFFSET_PERCENT:
        unit = "PERCENT"
    at, intervals = event_start_at, []
    for n in range(draw(st.integers(1, 4))):
        at += draw(st.sampled_from([timedelta(0), HOUR]))
        length = draw(st.one_of(st.none(), whole_s))
        values = tuple(draw(st.lists(kilo_numbers, min_size=1, max_size=2)))
        intervals.append(SeriesInterval(start_at=at, duration=length, values=values, uid=str(n)))
        at += length or timedelta(0)
    return Series(
        series_id=draw(ids),
        type=type_,
        name="/".join(signal),
        intervals=tuple(intervals),
        unit=unit,
        currency=draw(st.sampled_from(["USD", "EUR"])) if priced else None,
        targets=draw(targets),
        current=draw(st.none() | kilo_numbers),
    )


_BASELINE_OF = {
    "id": "b1",
    "name": "a baseline",
    "start": "2026-08-19T23:00:00Z",
    "duration": "PT1H",
    "resources": ["r1", "r2"],
    "item": "powerReal",
    "unit": "W",
    "intervals": [{"start": None, "duration": "PT1H", "uid": "0", "values": [5000.0]}],
}


@st.composite
def grid_events(draw: st.DrawFn) -> GridEvent:
    start_at = draw(instants)
    return GridEvent(
        event_id=draw(ids),
        modification_number=draw(counts),
        program=draw(st.sampled_from(["http://utility.example/elrp", "elrp", "urn:a:b"])),
        start_at=start_at,
        duration=draw(st.none() | whole_s),
        series=tuple(draw(st.lists(_series(start_at), min_size=1, max_size=3))),
        created_at=draw(instants),
        modified_at=draw(st.none() | instants),
        modification_reason=draw(texts),
        is_test=draw(st.booleans()),
        priority=draw(st.none() | counts),
        comment=draw(texts),
        start_tolerance=draw(lengths),
        notification=draw(st.none() | lengths),
        ramp_up=draw(st.none() | lengths),
        recovery=draw(st.none() | lengths),
        targets=draw(targets),
        answer_wanted=draw(st.booleans()),
        extras=draw(st.sampled_from([{}, {BASELINE: _BASELINE_OF}])),
    )


@st.composite
def distributed_events(draw: st.DrawFn) -> m.DistributedEvent:
    status = draw(st.sampled_from(EventStatus))
    event = draw(grid_events())
    if status is EventStatus.CANCELLED:
        event = GridEvent(**{name: getattr(event, name) for name in event.__slots__} | {"cancelled": True})
    return m.DistributedEvent(event=event, status=status)


_SCALED = [("powerReal", "kW", "k"), ("powerReal", "W", "none"), ("energyReal", "MWh", "M"), ("voltage", "V", "none")]
_SCALED += [("temperature", "celsius", "none"), ("currencyPerKWh", "USD", "none"), ("Therm", "thm", "none")]


@st.composite
def point_offers(draw: st.DrawFn) -> m.PointOffer:
    item, unit, scale = draw(st.sampled_from([(None, None, "none"), *_SCALED]))
    power = item == "powerReal"
    rates = draw(st.none() | st.tuples(lengths, lengths))
    return m.PointOffer(
        r_id=draw(ids),
        report_type=draw(st.sampled_from(["usage", "demand", "x-resourceStatus", "x-own"])),
        reading_type=draw(st.sampled_from(["Direct Read", "Mean", "x-notApplicable"])),
        unit=unit,
        scale=scale,
        item=item,
        min_sampling=rates[0] if rates else None,
        max_sampling=rates[1] if rates else None,
        on_change=draw(st.booleans()) if rates else False,
        market_context=draw(st.none() | st.just("http://utility.example/elrp")),
        resources=tuple(draw(st.lists(ids, max_size=2))),
        subjects=draw(targets),
        sources=draw(targets.map(lambda found: tuple(one for one in found if one.kind is not TargetKind.RESOURCE))),
        frequency_hz=draw(st.sampled_from([50.0, 60.0])) if power else None,
        voltage_v=draw(st.sampled_from([230.0, 277.5])) if power else None,
        is_ac=draw(st.booleans()) if power else None,
    )


report_names = st.sampled_from(["METADATA_TELEMETRY_USAGE", "METADATA_HISTORY_USAGE", "TELEMETRY_STATUS", "x-own", ""])
report_offers = st.builds(
    m.ReportOffer,
    specifier_id=ids,
    name=report_names,
    points=st.lists(point_offers(), max_size=3).map(tuple),
    created_at=instants,
    duration=st.none() | lengths,
    request_id=texts,
    report_id=texts,
)


@st.composite
def report_demands(draw: st.DrawFn) -> m.ReportDemand:
    start_at = draw(st.none() | instants)
    return m.ReportDemand(
        report_request_id=draw(ids),
        specifier_id=draw(ids),
        points=tuple(draw(st.lists(st.tuples(ids, st.just("Direct Read")), min_size=1, max_size=3))),
        granularity=draw(lengths),
        back=draw(lengths),
        start_at=start_at,
        duration=None if start_at is None else draw(lengths),
    )


_LEVELS = ["capacity", "capacity.min", "capacity.max", "capacity.normal", "setpoint"]


@st.composite
def statuses(draw: st.DrawFn) -> m.ResourceStatus:
    named = draw(st.sampled_from([(), (0,), (0, 4), (1, 2, 0, 3)]))
    order = ["capacity.min", "capacity.max", "capacity", "capacity.normal", "setpoint"]
    chosen = [name for name in order if name in {_LEVELS[n] for n in named}]
    levels = tuple((name, draw(numbers)) for name in chosen)
    return m.ResourceStatus(online=draw(st.booleans()), overridden=draw(st.booleans()), levels=levels)


reported_values = st.builds(
    m.ReportedValue,
    r_id=ids,
    start_at=instants,
    duration=st.none() | lengths,
    value=st.one_of(numbers, statuses()),
    confidence=st.none() | st.integers(0, 100),
    accuracy=st.none() | numbers,
    quality=st.none() | st.sampled_from(["Quality Good - Non Specific", "No Quality - No Value", "x-own"]),
)
report_updates = st.builds(
    m.ReportUpdate,
    report_request_id=ids,
    specifier_id=ids,
    name=report_names,
    created_at=instants,
    values=st.lists(reported_values, max_size=4).map(tuple),
    report_id=texts,
    start_at=st.none() | instants,
    duration=st.none() | lengths,
)
event_opts = st.builds(m.EventOpt, event_id=ids, modification_number=counts, request_id=texts, opt_in=st.booleans())
windows = st.builds(lambda at, length: Interval(at, at + length), instants, whole_s)
cancels = st.builds(
    m.CancelReports,
    request_id=texts,
    report_request_ids=st.lists(ids, min_size=1, max_size=3).map(tuple),
    to_follow=st.booleans(),
    ven_id=st.none() | ids,
)
_maybe_id = st.none() | ids
_facts = st.lists(st.tuples(st.sampled_from(["EiEvent", "OadrPoll"]), texts, texts), max_size=3).map(tuple)


@st.composite
def created_opts(draw: st.DrawFn) -> m.CreateOpt:
    event_id = draw(_maybe_id)
    return m.CreateOpt(
        request_id=draw(texts),
        opt_id=draw(ids),
        ven_id=draw(ids),
        opt_in=draw(st.booleans()),
        reason=draw(st.sampled_from(["economic", "emergency", "x-schedule", "x-own reason"])),
        created_at=draw(instants),
        market_context=draw(st.none() | st.just("http://utility.example/elrp")),
        windows=tuple(draw(st.lists(windows, max_size=3))),
        event_id=event_id,
        modification_number=None if event_id is None else draw(counts),
        targets=draw(targets),
        device_class=draw(targets),
    )


def _lists(one: st.SearchStrategy) -> st.SearchStrategy:  # type: ignore[type-arg]
    return st.lists(one, max_size=3).map(tuple)


MESSAGES = {
    m.QueryRegistration: st.builds(m.QueryRegistration, request_id=texts),
    m.CreateRegistration: st.builds(
        m.CreateRegistration,
        request_id=texts,
        profile=st.sampled_from(["2.0a", "2.0b"]),
        transport=st.sampled_from(["simpleHttp", "xmpp"]),
        transport_address=st.none() | st.just("http://ven.example:8081/"),
        report_only=st.booleans(),
        xml_signature=st.booleans(),
        ven_name=texts,
        http_pull=st.booleans(),
        ven_id=_maybe_id,
        registration_id=_maybe_id,
    ),
    m.CreatedRegistration: st.builds(
        m.CreatedRegistration,
        response=responses,
        vtn_id=ids,
        profiles=st.sampled_from([("2.0b",), ("2.0a", "2.0b")]),
        transports=st.sampled_from([("simpleHttp",), ("simpleHttp", "xmpp")]),
        ven_id=_maybe_id,
        registration_id=_maybe_id,
        poll=st.none() | lengths,
        service_info=_facts,
        extensions=_facts,
    ),
    m.RequestReregistration: st.builds(m.RequestReregistration, ven_id=ids),
    m.CancelRegistration: st.builds(m.CancelRegistration, request_id=texts, registration_id=ids, ven_id=_maybe_id),
    m.CanceledRegistration: st.builds(
        m.CanceledRegistration, response=responses, registration_id=texts, ven_id=_maybe_id
    ),
    m.RequestEvents: st.builds(m.RequestEvents, request_id=texts, ven_id=ids, reply_limit=st.none() | counts),
    m.DistributeEvents: st.builds(
        m.DistributeEvents,
        request_id=texts,
        vtn_id=ids,
        events=_lists(distributed_events()),
        response=st.none() | responses,
    ),
    m.CreatedEvents: st.builds(m.CreatedEvents, response=responses, ven_id=ids, opts=_lists(event_opts)),
    m.RegisterReports: st.builds(
        m.RegisterReports,
        request_id=texts,
        offers=_lists(report_offers),
        ven_id=_maybe_id,
        report_request_id=_maybe_id,
    ),
    m.RegisteredReports: st.builds(
        m.RegisteredReports, response=responses, demands=_lists(report_demands()), ven_id=_maybe_id
    ),
    m.CreateReports: st.builds(
        m.CreateReports,
        request_id=texts,
        demands=st.lists(report_demands(), min_size=1, max_size=3).map(tuple),
        ven_id=_maybe_id,
    ),
    m.CreatedReports: st.builds(m.CreatedReports, response=responses, pending=_lists(ids), ven_id=_maybe_id),
    m.UpdateReports: st.builds(m.UpdateReports, request_id=texts, updates=_lists(report_updates), ven_id=_maybe_id),
    m.UpdatedReports: st.builds(m.UpdatedReports, response=responses, cancel=st.none() | cancels, ven_id=_maybe_id),
    m.CancelReports: cancels,
    m.CanceledReports: st.builds(m.CanceledReports, response=responses, pending=_lists(ids), ven_id=_maybe_id),
    m.CreateOpt: created_opts(),
    m.CreatedOpt: st.builds(m.CreatedOpt, response=responses, opt_id=ids),
    m.CancelOpt: st.builds(m.CancelOpt, request_id=texts, opt_id=ids, ven_id=ids),
    m.CanceledOpt: st.builds(m.CanceledOpt, response=responses, opt_id=texts),
    m.Poll: st.builds(m.Poll, ven_id=ids),
    m.Acknowledge: st.builds(m.Acknowledge, response=responses, ven_id=_maybe_id),
}
"""A strategy for each type of message."""

messages = st.one_of(*MESSAGES.values())
