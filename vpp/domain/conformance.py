"""Checks of somebody else's server: what each asks for, how it went, and running them one after the other.

The checks themselves are in `market/openadr2/conformance` and `market/openadr3/conformance`; bootstrap runs them.
A check returns a sentence about what it found, or raises `Failed` or `Skipped` with one.
"""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Generic, TypeVar

from vpp.domain.errors import NotReady, VppError

SessionType = TypeVar("SessionType")
CHECK_WITHIN_EXCHANGES = 12
"""The longest check makes about as many exchanges."""
WITHIN_S = 600.0


class Outcome(StrEnum):
    PASS = "pass"  # noqa: S105  (an outcome, not a password)
    FAIL = "fail"
    SKIPPED = "skipped"


class Failed(VppError):
    """The server does not do what is asked for."""


class Skipped(VppError):
    """The check cannot be made here, and why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckResult:
    """How one check went.

    Attributes:
        requirement: where it is asked for: service and element of the schema, or path of the OpenAPI document.
        sentence: what was found.
    """

    name: str
    service: str
    requirement: str
    outcome: Outcome
    sentence: str


@dataclass(frozen=True, slots=True)
class Check(Generic[SessionType]):
    """One thing that is asked for. `run` says in a sentence what it found."""

    name: str
    service: str
    requirement: str
    run: Callable[[SessionType], Awaitable[str]]


@dataclass(frozen=True, slots=True)
class ClientCredential:
    """Who we are to a token endpoint."""

    client_id: str
    client_secret: str


@dataclass(frozen=True, slots=True, kw_only=True)
class VtnUnderTest:
    """A VTN and what we are given to speak with it.

    Attributes:
        url: where the services begin, as `…/OpenADR2/Simple/2.0b` or `…/openadr3/3.1.0`.
        profile: 2.0b, 3.0.1 or 3.1.0.
        ven_name, ven_id: who we are as a 2.0b VEN.
        ven, other_ven, bl: who we are to an OpenADR 3 VTN, in each role we have credentials for.
        callback_url: a public address that leads to `callback_port` on this machine.
        hostile: whether messages meant to do harm are sent as well.
        sign: whether 2.0b messages are signed.
        timeout_s: for one exchange.
        within_s: for all checks.
    """

    url: str
    profile: str
    ven_name: str = "conformance"
    ven_id: str | None = None
    cert: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    ven: ClientCredential | None = None
    other_ven: ClientCredential | None = None
    bl: ClientCredential | None = None
    callback_url: str | None = None
    callback_port: int | None = None
    hostile: bool = False
    sign: bool = False
    timeout_s: float = 10.0
    within_s: float = WITHIN_S

    def tls_context(self) -> ssl.SSLContext:
        """Return how we speak TLS with it: with our certificate, believing its authority or the system's.

        Raises:
            NotReady: a file cannot be used.
        """
        try:
            context = ssl.create_default_context(cafile=str(self.ca) if self.ca else None)
            if self.cert is not None:
                context.load_cert_chain(str(self.cert), None if self.key is None else str(self.key))
        except OSError as error:
            raise NotReady(f"certificate {self.cert}, key {self.key}, authority {self.ca}: {error}") from error
        return context


async def run_checks(
    checks: Sequence[Check[SessionType]],
    session: SessionType,
    *,
    timeout_s: float,
    within_s: float = WITHIN_S,
    told: Callable[[CheckResult], None] = lambda _: None,
) -> list[CheckResult]:
    """Run checks in order and return how each went. None of them can stop the others.

    Args:
        timeout_s: for one exchange; a check may take `CHECK_WITHIN_EXCHANGES` times as long.
        within_s: no check is begun after this; those that are left are skipped.
        told: is handed each result at once.
    """
    results: list[CheckResult] = []
    elapsed_s = asyncio.get_running_loop().time
    end_s = elapsed_s() + within_s
    for check in checks:
        if elapsed_s() < end_s:
            outcome, sentence = await _run(check, session, timeout_s * CHECK_WITHIN_EXCHANGES)
        else:
            outcome, sentence = Outcome.SKIPPED, f"the checks before it took longer than {within_s:g} s"
        result = CheckResult(
            name=check.name,
            service=check.service,
            requirement=check.requirement,
            outcome=outcome,
            sentence=" ".join(sentence.split())[:500],
        )
        results.append(result)
        told(result)
    return results


async def _run(check: Check[SessionType], session: SessionType, within_s: float) -> tuple[Outcome, str]:
    try:
        async with asyncio.timeout(within_s):
            return Outcome.PASS, await check.run(session)
    except Skipped as why:
        return Outcome.SKIPPED, str(why)
    except Failed as why:
        return Outcome.FAIL, str(why)
    except TimeoutError:
        return Outcome.FAIL, f"it was not finished within {within_s:g} s"
    except VppError as error:
        return Outcome.FAIL, str(error)
    except Exception as error:  # noqa: BLE001  (whatever a server sends, the next check is made)
        return Outcome.FAIL, f"the answer could not be judged: {type(error).__name__} {error}"
