"""Room openadr3: what our VEN sends, as JSON of one version, without explicit nulls. Called by `client`."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

from vpp.domain.ven3 import Callback, ReportedInterval, ReportOut, ReportValue, VenWanted

V31, V301 = "3.1.0", "3.0.1"


def instant_text(at: datetime) -> str:
    """Return RFC 3339 with Z."""
    return at.isoformat().replace("+00:00", "Z")


def duration_text(length: timedelta) -> str:
    """Return ISO 8601 in seconds: a day need not have 24 hours, a second is a second."""
    return f"PT{length.total_seconds():.6f}".rstrip("0").rstrip(".") + "S"


def report_body(report: ReportOut, version: str) -> dict[str, Any]:
    """Return a report. 3.0.1 wants the programme's id, which 3.1 has dropped."""
    parts = [part for resource in report.resources for part in resource.intervals]
    body: dict[str, Any] = {
        "eventID": report.event_id,
        "clientName": report.client_name,
        "reportName": report.name,
        "payloadDescriptors": _descriptors(value for part in parts for value in part.values),
        "resources": [
            {
                "resourceName": resource.name,
                "intervals": [_interval_body(number, part) for number, part in enumerate(resource.intervals)],
            }
            for resource in report.resources
        ],
    }
    return body | ({"programID": report.program_id} if version == V301 else {"objectType": "REPORT"})


def _interval_body(number: int, part: ReportedInterval) -> dict[str, Any]:
    period = {"start": instant_text(part.interval.start_at), "duration": duration_text(part.interval.duration)}
    payloads = [{"type": value.payload_type, "values": [value.value]} for value in part.values]
    return {"id": number, "intervalPeriod": period, "payloads": payloads}


def _descriptors(values: Iterable[ReportValue]) -> list[dict[str, Any]]:
    """What the values of each type are in, as its first says."""
    found: dict[str, dict[str, Any]] = {}
    for value in values:
        said = {"units": value.units, "readingType": value.reading_type}
        found.setdefault(
            value.payload_type,
            {"objectType": "REPORT_PAYLOAD_DESCRIPTOR", "payloadType": value.payload_type}
            | {key: text for key, text in said.items() if text},
        )
    return list(found.values())


def ven_body(wanted: VenWanted, version: str) -> dict[str, Any]:
    """Return our VEN object as we want it; its targets are the VTN's to give."""
    body: dict[str, Any] = {"venName": wanted.name}
    if wanted.attributes:
        body["attributes"] = [{"type": kind, "values": list(v)} for kind, v in sorted(wanted.attributes.items())]
    return body if version == V301 else {"objectType": "VEN_VEN_REQUEST"} | body


def resource_body(name: str, ven_id: str, version: str) -> dict[str, Any]:
    """Return a resource of ours."""
    if version == V301:
        return {"resourceName": name}
    return {"objectType": "VEN_RESOURCE_REQUEST", "resourceName": name, "venID": ven_id}


def subscription_body(callback: Callback, program_id: str | None) -> dict[str, Any]:
    """Return a subscription to every change of events and programmes; 3.0.1 wants one for each programme."""
    operation = {
        "objects": ["PROGRAM", "EVENT"],
        "operations": ["CREATE", "UPDATE", "DELETE"],
        "callbackUrl": callback.url,
        "bearerToken": callback.bearer_token,
    }
    body: dict[str, Any] = {"clientName": callback.client_name, "objectOperations": [operation]}
    return body | ({"programID": program_id} if program_id is not None else {})


def merged(found: Mapping[str, Any], wanted: Mapping[str, Any], version: str) -> dict[str, Any] | None:
    """Return the object to PUT so that it says what we want, None where it does already.

    A PUT replaces the whole object, so what others wrote goes along; targets in 3.0.1 only, for in 3.1
    a VEN may not write them.
    """
    if all(found.get(key) == value for key, value in wanted.items() if key != "objectType"):
        return None
    keep = ("targets", "attributes") if version == V301 else ("attributes",)
    return {key: found[key] for key in keep if found.get(key) is not None} | dict(wanted)
