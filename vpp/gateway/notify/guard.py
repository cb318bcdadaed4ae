"""Where we may call back at all: a guard against addresses inside our own network. Used by `callbacks.py`.

A subscriber names any URL it likes, and we then call it from inside the operator's network. So the host is
resolved here, every address it has must be a public one (or on the operator's list), and the connection
goes to an address that was checked, whatever the name resolves to a moment later.
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

import httpx

from vpp.domain.errors import InvalidRequest

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Host and port to addresses as text; raises OSError where there are none."""

FIELD = "callbackUrl"
LONGEST_URL = 8000
MOST_ADDRESSES = 16
PLAIN_PORTS = (80, 443)
FREE_PORTS = range(1024, 65536)

_V4 = {
    "0.0.0.0/8": "this network",
    "10.0.0.0/8": "private",
    "100.64.0.0/10": "shared by a carrier's customers",
    "127.0.0.0/8": "loopback",
    "168.63.129.16/32": "a cloud's own service",
    "169.254.0.0/16": "link-local, where clouds keep their metadata",
    "172.16.0.0/12": "private",
    "192.0.0.0/24": "reserved",
    "192.0.2.0/24": "for documentation",
    "192.88.99.0/24": "reserved",
    "192.168.0.0/16": "private",
    "198.18.0.0/15": "for measurements",
    "198.51.100.0/24": "for documentation",
    "203.0.113.0/24": "for documentation",
    "224.0.0.0/4": "multicast",
    "240.0.0.0/4": "reserved or broadcast",
}
_V6 = {
    "::1/128": "loopback",
    "2001::/23": "reserved, or a tunnel",
    "2001:db8::/32": "for documentation",
    "2002::/16": "a tunnel",
    "3fff::/20": "for documentation",
    "fc00::/7": "private",
    "fe80::/10": "link-local",
    "ff00::/8": "multicast",
}
REFUSED: tuple[tuple[Network, str], ...] = tuple((ip_network(text), why) for text, why in (_V4 | _V6).items())
"""IANA's special-purpose registries, and one public address a cloud keeps for itself."""
_PRIVATE: tuple[Network, ...] = tuple(
    ip_network(text)
    for text in ("10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "::1/128", "fc00::/7")
)
GLOBAL_V6 = IPv6Network("2000::/3")
NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class Destination:
    """A checked callback: the host as it was written, and the addresses it may be reached at."""

    url: httpx.URL
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What the operator allows beyond public addresses.

    Attributes:
        private_networks: networks inside which subscribers may be called.
        http_on_loopback: plain http, and only to this machine: for tests and trials.
    """

    private_networks: tuple[Network, ...] = ()
    http_on_loopback: bool = False

    def refusal(self, address: Address) -> str | None:
        """Why this address must not be called, or None."""
        real = _embedded(address)
        if any(real in network for network in self.private_networks):
            return None
        if self.http_on_loopback and real.is_loopback:
            return None
        for network, why in REFUSED:
            if real in network:
                return why
        if isinstance(real, IPv6Address) and real not in GLOBAL_V6:
            return "not a public address"
        return None


class CallbackGuard:
    """Turns a URL into a destination that may be connected to, or says why not."""

    def __init__(self, rules: AddressRules, *, resolve: Resolve | None = None) -> None:
        self._rules = rules
        self._resolve = resolve or system_resolve

    async def destination(self, url: str) -> Destination:
        """Return where to connect; the caller sets the deadline.

        Raises:
            InvalidRequest: the URL is not one, not https, has a port below 1024 other than 443, its host is
                unknown, or one of the host's addresses is not public.
        """
        parsed = self._parse(url)
        port = parsed.port or (443 if parsed.scheme == "https" else 80)
        host = parsed.raw_host.decode("ascii")
        try:
            found = [str(ip_address(host))]
        except ValueError:
            found = await self._addresses(host, port, url)
        for text in found:
            why = self._rules.refusal(_address(text))
            if why is not None:
                raise InvalidRequest(FIELD, url, f"a host with public addresses only; one is {why}")
            if parsed.scheme == "http" and not _address(text).is_loopback:
                raise InvalidRequest(FIELD, url, "an https address")
        return Destination(parsed, tuple(found))

    def _parse(self, url: str) -> httpx.URL:
        if len(url) > LONGEST_URL or not url.isprintable() or " " in url or "\\" in url:
            raise InvalidRequest(FIELD, url[:200], f"an https address of at most {LONGEST_URL} characters")
        try:
            parsed = httpx.URL(url)
        except (httpx.InvalidURL, ValueError) as error:
            raise InvalidRequest(FIELD, url, "an https address") from error
        allowed = ("https", "http") if self._rules.http_on_loopback else ("https",)
        if parsed.scheme not in allowed or not parsed.host or "%" in parsed.host:
            raise InvalidRequest(FIELD, url, "an https address")
        if parsed.userinfo or parsed.fragment:
            raise InvalidRequest(FIELD, url, "an address without user name and fragment")
        if parsed.port is not None and parsed.port not in PLAIN_PORTS and parsed.port not in FREE_PORTS:
            raise InvalidRequest(FIELD, url, "port 443, or 1024 to 65535")
        return parsed

    async def _addresses(self, host: str, port: int, url: str) -> list[str]:
        try:
            found = list(dict.fromkeys(await self._resolve(host, port)))
        except (OSError, UnicodeError) as error:
            raise InvalidRequest(FIELD, url, "a host that can be found") from error
        if not found or len(found) > MOST_ADDRESSES:
            raise InvalidRequest(FIELD, url, f"a host with 1 to {MOST_ADDRESSES} addresses")
        return found


async def pushable(url: str, *, resolve: Resolve | None = None) -> None:
    """Let a VEN of 2.0b be pushed to wherever it may live, private networks and this machine included, but nowhere
    that is no VEN's: link-local addresses, where clouds keep their metadata, multicast, "any".

    Raises:
        InvalidRequest: a host that cannot be found, or one of whose addresses is none of a VEN's.
    """
    rules, parsed = AddressRules(private_networks=_PRIVATE), httpx.URL(url)
    host = parsed.raw_host.decode("ascii")
    try:
        found: Sequence[str] = [str(ip_address(host.strip("[]")))]
    except ValueError:
        try:
            found = await (resolve or system_resolve)(host, parsed.port or 443)
        except (OSError, UnicodeError) as error:
            raise InvalidRequest("transport_address", url, "a host that can be found") from error
    for text in found:
        why = rules.refusal(_address(text))
        if why is not None:
            raise InvalidRequest("transport_address", url, f"a host where a VEN can be; one of its addresses is {why}")


async def system_resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def _address(text: str) -> Address:
    """An address as the resolver writes it; a scope (`fe80::1%eth0`) says nothing about where it leads."""
    return ip_address(text.partition("%")[0])


def _embedded(address: Address) -> Address:
    """The IPv4 address inside an IPv6 one that only carries it, else the address itself."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address in NAT64:
            return IPv4Address(int(address) & 0xFFFFFFFF)
    return address
