"""A statement as CSV: one table, four kinds of row, enough to compute the money again.

Part of the settlement room. Rows of kind `interval` sum to the event's metered energy, rows of kind
`pay` to its gross cents, rows of kind `event` to the one of kind `total`.
"""

import csv
import io
from collections.abc import Iterator
from typing import Any
from zoneinfo import ZoneInfo

from vpp.settlement.statements import Statement, StatementLine

COLUMNS = (
    "row",
    "month",
    "site_id",
    "program",
    "version",
    "event_id",
    "start_at",
    "end_at",
    "measurement",
    "metered_kwh",
    "credited_kwh",
    "estimated",
    "baseline_method",
    "baseline_days",
    "adjustment",
    "resource_baseline_kwh",
    "resource_metered_kwh",
    "resource_delivered_kwh",
    "performance_factor",
    "pay_kind",
    "quantity",
    "unit",
    "price",
    "resource_cents",
    "site_kwh",
    "all_sites_kwh",
    "site_cents",
    "event_kwh",
    "event_cents",
    "gross_cents",
    "owner_share",
    "owner_cents",
    "ledger_cents",
    "currency",
    "note",
)


def statement_csv(statement: Statement) -> str:
    """Return the statement as CSV text, times by the site's local clock with its offset.

    An empty cell is a value that does not apply or is not known.
    """
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\r\n")
    writer.writeheader()
    for line in statement.lines:
        for row in _rows(line, ZoneInfo(statement.time_zone)):
            writer.writerow({"month": f"{statement.month:%Y-%m}", "site_id": statement.site_id} | row)
    writer.writerow(
        {
            "row": "total",
            "month": f"{statement.month:%Y-%m}",
            "site_id": statement.site_id,
            "gross_cents": statement.gross_cents,
            "owner_cents": statement.owner_cents,
            "ledger_cents": statement.ledger_cents,
            "currency": statement.currency,
        }
    )
    return out.getvalue()


def _rows(line: StatementLine, zone: ZoneInfo) -> Iterator[dict[str, Any]]:
    event = {"program": line.program, "version": line.version, "event_id": line.commitment_id}
    for stretch in line.metered:
        yield event | {
            "row": "interval",
            "start_at": stretch.start_at.astimezone(zone).isoformat(),
            "end_at": stretch.end_at.astimezone(zone).isoformat(),
            "metered_kwh": stretch.metered_kwh,
            "estimated": "yes" if stretch.estimated else "no",
        }
    for part in line.parts:
        yield event | {
            "row": "pay",
            "pay_kind": part.kind,
            "quantity": part.quantity,
            "unit": part.unit,
            "price": part.price,
            "resource_cents": part.resource_cents,
            "site_kwh": part.site_kwh,
            "all_sites_kwh": part.all_sites_kwh,
            "site_cents": part.site_cents,
            "event_kwh": part.event_kwh,
            "event_cents": part.event_cents,
            "note": part.clause,
        }
    yield event | {
        "row": "event",
        "start_at": line.start_at.astimezone(zone).isoformat(),
        "end_at": line.end_at.astimezone(zone).isoformat(),
        "measurement": line.measurement,
        "metered_kwh": line.metered_kwh,
        "credited_kwh": line.credited_kwh,
        "baseline_method": line.baseline_method,
        "baseline_days": " ".join(day.isoformat() for day in line.baseline_days),
        "adjustment": line.adjustment,
        "resource_baseline_kwh": line.resource_baseline_kwh,
        "resource_metered_kwh": line.resource_metered_kwh,
        "resource_delivered_kwh": line.resource_delivered_kwh,
        "performance_factor": line.performance_factor,
        "gross_cents": line.gross_cents,
        "owner_share": line.owner_share,
        "owner_cents": line.owner_cents,
        "note": "; ".join(line.findings),
    }
