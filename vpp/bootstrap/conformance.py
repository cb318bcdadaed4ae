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
        InvalidRequest: the profile is none we know.
        NotReady: it cannot be found out, or the VTN does not answer.
    """
    vtn = replace(vtn, url=vtn.url.rstrip("/"))
    if vtn.profile:
        if vtn.profile not in PROFILES:
            raise InvalidRequest("--profile", vtn.profile, " or ".join(PROFILES))
        return vtn
    named = [profile for profile in PROFILES if profile in vtn.url]
    return replace(vtn, profile=named[-1] if named else await _answered(vtn))


async def _answered(vtn: VtnUnderTest) -> str:
    """Return the profile a VTN's answers show: 3.1.0 has `/auth/server`, 3.0.1 only `/programs`, 2.0b speaks XML."""
    try:
        context = ssl.create_default_context(cafile=str(vtn.ca) if vtn.ca else None)
        if vtn.cert is not None:
            context.load_cert_chain(str(vtn.cert), None if vtn.key is None else str(vtn.key))
        async with httpx.AsyncClient(verify=context, timeout=vtn.timeout_s, trust_env=False) as http:
            server = await http.get(f"{vtn.url}/auth/server")
            if server.status_code == 200 and "json" in server.headers.get("content-type", ""):
                return "3.1.0"
            programs = await http.get(f"{vtn.url}/programs")
            if programs.status_code in (200, 401, 403) and "json" in programs.headers.get("content-type", ""):
                return "3.0.1"
            party = await http.post(f"{vtn.url}/EiRegisterParty", content=_ASKED_XML)
            if party.status_code not in (404, 405, 501):
                return "2.0b"
    except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
        raise NotReady(f"{vtn.url} does not answer: {type(error).__name__} {error}") from error
    raise NotReady(
        f"{vtn.url} answers like none of {', '.join(PROFILES)}: give --profile, or the address of its services"
    )
