"""Where peers reach us. Called by `authority`, the OpenADR 3 routes, cli, portal and bootstrap.

Settings say it, where we stand behind a name or a proxy. Where they do not, the processes that listen leave their
address in the var directory, so that the command line on the same machine tells it rightly.
"""

from contextlib import suppress
from ipaddress import ip_address
from typing import Literal

from vpp.config import Settings

Door = Literal["public_url", "openadr2_public_url"]

OPENADR3_PATH = "/openadr3/3.1.0"
OPENADR3_OLD_PATH = "/openadr3/3.0.1"
OPENADR2_PATH = "/OpenADR2/Simple/2.0b"
_OURS = "http://127.0.0.1:8000"
_OPENADR2 = "127.0.0.1:8081"


def listening(settings: Settings, door: Door, *, host: str, port: int, tls: bool = False) -> Settings:
    """Return settings that know the address a process is about to listen on, unless they name another; leave a note
    of it for the command line."""
    if getattr(settings, door) is not None:
        return settings
    with suppress(ValueError):
        address = ip_address(host)
        if address.is_unspecified:  # everywhere is nowhere one could send a peer to
            host = "127.0.0.1" if address.version == 4 else "::1"
    shown = f"[{host}]" if ":" in host else host
    url = f"{'https' if tls else 'http'}://{shown}:{port}"
    with suppress(OSError):  # a folder that cannot be written to costs the note, not the service
        settings.var_dir.mkdir(parents=True, exist_ok=True)
        (settings.var_dir / f"{door}.txt").write_text(url, encoding="utf-8")
    return settings.model_copy(update={door: url})


def noted_addresses(settings: Settings) -> Settings:
    """Return settings with the addresses that listening processes left in the var directory."""
    doors: tuple[Door, ...] = ("public_url", "openadr2_public_url")
    found: dict[str, str] = {}
    for door in doors:
        if getattr(settings, door) is None:
            with suppress(OSError):
                found[door] = (settings.var_dir / f"{door}.txt").read_text(encoding="utf-8").strip()
    return settings.model_copy(update={name: url for name, url in found.items() if url})


def public_url(settings: Settings) -> str:
    """Where our portal and OpenADR 3 VTN are reached, without a slash at the end."""
    return (settings.public_url or _OURS).rstrip("/")


def openadr3_url(settings: Settings, path: str = OPENADR3_PATH) -> str:
    """The base address of our OpenADR 3 VTN."""
    return public_url(settings) + path


def openadr2_url(settings: Settings) -> str:
    """The base address of our OpenADR 2.0b VTN; services are one word below it."""
    scheme = "http" if settings.openadr2_vtn_cert is None else "https"
    given = (settings.openadr2_public_url or f"{scheme}://{_OPENADR2}").rstrip("/")
    return given if given.endswith(OPENADR2_PATH) else given + OPENADR2_PATH
