"""Room openadr3: which version a VTN speaks, and where. Called by `client`.

An address that ends in a version says it itself. Else 3.1.0 is known by `GET /auth/server`, which only it
has, and 3.0.1 by `GET /programs` doing anything but 404; each is looked for beneath the address by its
own name first, then at the address itself.
"""

from dataclasses import dataclass
from urllib.parse import urlsplit

from market.openadr3.client_http import Wire
from market.openadr3.client_write import V31, V301
from vpp.domain.errors import PeerUnreachable

_KNOWN = {V31: V31, V301: V301, "3.1": V31, "3.0": V301, "3.1.1": V31, "3.0.0": V301}


@dataclass(frozen=True, slots=True)
class Place:
    """A version with the address its paths begin at, without a slash at the end."""

    version: str
    base_url: str


def stated(url: str, version: str | None) -> Place | None:
    """Return what configuration or the address itself says; None where it has to be found out."""
    base = url.rstrip("/")
    last = urlsplit(base).path.rpartition("/")[2]
    if version is not None:
        return Place(_KNOWN.get(version, version), base)
    return Place(_KNOWN[last], base) if last in _KNOWN else None


async def found_out(wire: Wire, url: str) -> Place:
    """Ask the VTN.

    Raises:
        PeerUnreachable: it does not answer, or as no OpenADR 3 VTN would.
    """
    base = url.rstrip("/")
    for place in (Place(V31, f"{base}/{V31}"), Place(V31, base)):
        answer = await wire.send("GET", f"{place.base_url}/auth/server")
        if answer.status == 200 and isinstance(answer.content, dict) and "tokenURL" in answer.content:
            return place
        if answer.status >= 500:
            raise PeerUnreachable(f"GET {place.base_url}/auth/server: {answer.status}")
    for place in (Place(V301, f"{base}/{V301}"), Place(V301, base)):
        answer = await wire.send("GET", f"{place.base_url}/programs")
        if answer.status in (200, 401, 403):
            return place
    raise PeerUnreachable(
        f"{base} answers neither as OpenADR 3.1.0 nor as 3.0.1: give its address to the end, as {base}/openadr3/3.1.0"
    )
