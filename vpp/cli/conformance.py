"""Commands that check somebody else's server against what its protocol asks for."""

import os
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from vpp.bootstrap.conformance import check_vtn, count_checks, with_profile
from vpp.cli.app import JsonTo, app, console, emit, told, within
from vpp.clock import SystemClock
from vpp.domain.conformance import CheckResult, ClientCredential, Outcome, VtnUnderTest
from vpp.domain.errors import InvalidRequest

conformance = typer.Typer(help="Check a server against its protocol.", no_args_is_help=True)
app.add_typer(conformance, name="conformance")

_STYLES = {Outcome.PASS: "green", Outcome.FAIL: "red", Outcome.SKIPPED: "yellow"}
_SECRET = "The secret, @FILE to read it from a file, or {} in the environment."  # noqa: S105  (help, not a secret)
_VARIABLES = ("VEN_CLIENT_SECRET", "OTHER_CLIENT_SECRET", "BL_CLIENT_SECRET")


@conformance.callback()
def _group() -> None:
    """Check a server against its protocol."""


@conformance.command()
def openadr(
    vtn: Annotated[str, typer.Option(help="Where the VTN's services begin.")],
    profile: Annotated[str, typer.Option(help="2.0b, 3.0.1 or 3.1.0; found out where it is not given.")] = "",
    ven_name: Annotated[str, typer.Option(help="2.0b: our name as a VEN.")] = "conformance",
    ven_id: Annotated[str | None, typer.Option(help="2.0b: our venID, where the VTN gave us one before.")] = None,
    cert: Annotated[Path | None, typer.Option(help="Our certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    ca: Annotated[Path | None, typer.Option(help="Who vouches for the VTN; the system's list if not given.")] = None,
    sign: Annotated[bool, typer.Option("--sign", help="2.0b: sign what we send.")] = False,
    client_id: Annotated[str | None, typer.Option(help="3: a VEN's client id.")] = None,
    client_secret: Annotated[str | None, typer.Option(help=_SECRET.format(_VARIABLES[0]))] = None,
    other_client_id: Annotated[str | None, typer.Option(help="3: a second VEN's, to see what it must not.")] = None,
    other_client_secret: Annotated[str | None, typer.Option(help=_SECRET.format(_VARIABLES[1]))] = None,
    bl_client_id: Annotated[str | None, typer.Option(help="3: business logic's, to make objects.")] = None,
    bl_client_secret: Annotated[str | None, typer.Option(help=_SECRET.format(_VARIABLES[2]))] = None,
    callback_url: Annotated[
        str | None, typer.Option(help="3: a public address that leads to this machine, for webhooks.")
    ] = None,
    callback_port: Annotated[int | None, typer.Option(min=1, max=65535, help="3: the port it leads to.")] = None,
    hostile: Annotated[bool, typer.Option("--hostile", help="2.0b: send a document type as well.")] = False,
    timeout_s: Annotated[
        float, typer.Option("--timeout", min=0.1, max=300, help="Seconds one exchange may take.")
    ] = 10.0,
    within_s: Annotated[
        float, typer.Option("--within", min=1, max=86_400, help="Seconds after which no further check is begun.")
    ] = 600.0,
    json_to: JsonTo = None,
) -> None:
    """Check any OpenADR VTN as a black-box client; exits 0 only if no check failed.

    What it makes it removes again. Use a VEN made for it: its registration is cancelled at the end.
    """
    asked = VtnUnderTest(
        url=vtn, profile=profile, ven_name=ven_name, ven_id=ven_id, cert=cert, key=key, ca=ca, sign=sign,
        ven=_credential("client", client_id, client_secret, _VARIABLES[0]),
        other_ven=_credential("other-client", other_client_id, other_client_secret, _VARIABLES[1]),
        bl=_credential("bl-client", bl_client_id, bl_client_secret, _VARIABLES[2]),
        callback_url=callback_url, callback_port=callback_port, hostile=hostile, timeout_s=timeout_s,
        within_s=within_s,
    )  # fmt: skip
    found, results = within(_check(asked, told if json_to else console))
    counts = Counter(each.outcome for each in results)
    emit(_summary(found, results), json_to, lambda: console.print(_counted(counts)))
    if counts[Outcome.FAIL]:
        raise typer.Exit(1)


async def _check(vtn: VtnUnderTest, out: Console) -> tuple[VtnUnderTest, list[CheckResult]]:
    """Make the checks, and show each as soon as it is made."""
    vtn = await with_profile(vtn)
    out.print(f"{count_checks(vtn.profile)} checks of OpenADR {vtn.profile} at {vtn.url}", markup=False, soft_wrap=True)
    return vtn, await check_vtn(vtn, SystemClock(), told=lambda result: out.print(_line(result)))


def _line(result: CheckResult) -> Table:
    """One check in columns of fixed width; of one that failed also where it is asked for."""
    line = Table.grid(padding=(0, 2))
    for width in (7, 27, None):
        line.add_column(width=width, overflow="fold")
    found = Text(result.sentence)
    if result.outcome is Outcome.FAIL:
        found.append(f"\nasked for by {result.requirement}", style="dim")
    line.add_row(Text(result.outcome.value, style=_STYLES[result.outcome]), Text(result.name), found)
    return line


def _counted(counts: Counter[Outcome]) -> str:
    return f"{counts[Outcome.PASS]} passed, {counts[Outcome.FAIL]} failed, {counts[Outcome.SKIPPED]} skipped"


def _summary(vtn: VtnUnderTest, results: list[CheckResult]) -> dict[str, Any]:
    counts = Counter(each.outcome.value for each in results)
    return {
        "vtn": vtn.url,
        "profile": vtn.profile,
        "passed": counts["pass"],
        "failed": counts["fail"],
        "skipped": counts["skipped"],
        "checks": [asdict(each) for each in results],
    }


def _credential(option: str, client_id: str | None, secret: str | None, variable: str) -> ClientCredential | None:
    if client_id is None:
        return None
    given = os.environ.get(variable) if secret is None else secret
    if given is not None and given.startswith("@"):
        try:
            given = Path(given[1:]).read_text(encoding="utf-8").strip()
        except OSError as error:
            raise InvalidRequest(f"--{option}-secret", given, "a file that can be read") from error
    if not given:
        raise InvalidRequest(
            f"--{option}-secret", given, f"the secret of {client_id}, or {variable} in the environment"
        )
    return ClientCredential(client_id, given)
