"""Room bootstrap: the checks of anybody's VTN, for `vpp conformance openadr`."""

import ssl
from collections.abc import Callable
from dataclasses import replace

import httpx

from market.openadr2.conformance import CHECKS, opened
from market.openadr3.conformance import checks_of
from market.openadr3.conformance import opened as opened3
from vpp.domain.conformance import CheckResult, VtnUnderTest, run_checks
from vpp.domain.errors import InvalidRequest, NotReady
from vpp.ports import Clock

PROFILES = ("2.0b", "3.0.1", "3.1.0")
_ASKED_XML = b'<?xml version="1.0"?><conformance/>'


async def check_vtn(
    vtn: VtnUnderTest, clock: Clock, *, told: Callable[[CheckResult], None] = lambda _: None
) -> list[CheckResult]:
    """Make every check of a VTN's profile, and leave nothing of ours behind.

    Raises:
        NotReady: a certificate cannot be used.
    """
    if vtn.profile == "2.0b":
        async with opened(vtn, clock) as session:
            return await run_checks(CHECKS, session, timeout_s=vtn.timeout_s, within_s=vtn.within_s, told=told)
    async with opened3(vtn, clock) as session3:
        checks = checks_of(vtn.profile)
        return await run_checks(checks, session3, timeout_s=vtn.timeout_s, within_s=vtn.within_s, told=told)


def count_checks(profile: str) -> int:
    """How many checks there are of a profile."""
    return len(CHECKS) if profile == "2.0b" else len(checks_of(profile))


async def with_profile(vtn: VtnUnderTest) -> VtnUnderTest:
    """Return the VTN with its profile, told by its address or its answers where nobody named it.

    Raises:
        InvalidRequest: the profile is none we know, or the address is none.
        NotReady: it cannot be found out, or nobody can be reached at the address.
    """
    vtn = replace(vtn, url=vtn.url.rstrip("/"))
    if vtn.profile and vtn.profile not in PROFILES:
        raise InvalidRequest("--profile", vtn.profile, " or ".join(PROFILES))
    named = [profile for profile in PROFILES if profile in vtn.url]
    profile = vtn.profile or (named[-1] if named else "")
    try:
        async with httpx.AsyncClient(verify=vtn.tls_context(), timeout=vtn.timeout_s, trust_env=False) as http:
            if profile:
                await _reach(http, vtn.url)
            return replace(vtn, profile=profile or await _answered(http, vtn.url))
    except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
        raise InvalidRequest("--vtn", vtn.url, "an address as https://vtn.example/openadr3/3.1.0") from error
    except (httpx.HTTPError, OSError) as error:
        raise NotReady(_unreachable(vtn.url, error)) from error


async def _reach(http: httpx.AsyncClient, url: str) -> None:
    """Find nobody there, or another than was meant, before every check says so; a fault of its TLS is for a check."""
    try:
        await http.get(url)
    except httpx.TransportError as error:
        tls = [each for each in _causes(error) if isinstance(each, ssl.SSLError)]
        untrusted = any(isinstance(each, ssl.SSLCertVerificationError) for each in tls)
        nobody = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout) and not tls
        if untrusted or nobody or isinstance(error, httpx.UnsupportedProtocol):
            raise


async def _answered(http: httpx.AsyncClient, url: str) -> str:
    """Return the profile a VTN's answers show: 3.1.0 has `/auth/server`, 3.0.1 only `/programs`, 2.0b speaks XML."""
    server = await http.get(f"{url}/auth/server")
    if server.status_code == 200 and "json" in server.headers.get("content-type", ""):
        return "3.1.0"
    programs = await http.get(f"{url}/programs")
    if programs.status_code in (200, 401, 403) and "json" in programs.headers.get("content-type", ""):
        return "3.0.1"
    party = await http.post(f"{url}/EiRegisterParty", content=_ASKED_XML)
    if party.status_code not in (404, 405, 501):
        return "2.0b"
    raise NotReady(f"{url} answers like none of {', '.join(PROFILES)}: give --profile, or the address of its services")


def _unreachable(url: str, error: BaseException) -> str:
    for each in _causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            return f"{url}: its certificate is not trusted ({each.verify_message}); name who vouches for it with --ca"
        if isinstance(each, ConnectionRefusedError):
            return f"nothing listens at {url}"
    return f"{url} cannot be reached: {error or type(error).__name__}"


def _causes(error: BaseException | None) -> list[BaseException]:
    """An error and what led to it, also where several attempts failed side by side."""
    found: list[BaseException] = []
    waiting = [error]
    while waiting and len(found) < 20:
        each = waiting.pop()
        if each is None or each in found:
            continue
        found.append(each)
        waiting += [each.__cause__, each.__context__]
        if isinstance(each, BaseExceptionGroup):
            waiting += each.exceptions
    return found
