"""The life of our VEN at a utility made of openleadr's server, whose events are passed on to those below us."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from tests.blackbox.peer import Peer, running_peer
from tests.blackbox.service import Service, until

ABOVE = "http://utility.example/above"


@dataclass(slots=True)
class UtilityLife:
    """What came of it; `below` is the utility's event as those below us were told it, last cancelled."""

    utility: Peer
    below: list[dict[str, Any]]


def openleadr_server(service: Service) -> UtilityLife:
    """Live it: `vpp gateway` registers, reports, and answers what the utility tells, changes and cancels."""
    with running_peer("openleadr", "openleadr_server", service.folder / "utility.log") as utility:
        port = utility.hear("listening")["port"]
        service.vpp("terms", "elrp", "--nominated-kw", "1000")
        service.add_peer(
            "utility", "openadr2", "vtn", "--url", f"http://127.0.0.1:{port}/OpenADR2/Simple/2.0b", "--forward",
            "--program", f"{ABOVE}=elrp", "--ven-name", "fleet", "--poll-s", "1",
        )  # fmt: skip
        utility.hear("registered")
        season_at = datetime(datetime.now(UTC).year + 1, 6, 15, 23, 30, tzinfo=UTC)  # 16:30 in California
        below = []

        def heard(number: int) -> None:
            utility.hear("opt", id="E1", number=number)
            below.append(_below(service, number))

        utility.ask("tell", ident="E1", values=[0.0, 0.0], start_at=season_at.isoformat())
        heard(0)
        utility.ask("change", ident="E1", values=[100.0, 50.0])
        heard(1)
        utility.ask("change", ident="E1", values=[0.0, 0.0])
        heard(2)
        utility.ask("cancel", ident="E1")
        heard(3)
        utility.hear("report", name="TELEMETRY_STATUS")
        return UtilityLife(utility, below)


def _below(service: Service, number: int) -> dict[str, Any]:
    def find() -> Any:
        items = service.api("GET", "/api/v1/grid-events?limit=100")["items"]
        ours = [each for each in items if each["origin"].endswith("/E1")]
        return next((each for each in ours if each["modification_number"] == number), None)

    return until(find)
