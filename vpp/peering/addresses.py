"""Where peers reach us. Called by `authority`, the OpenADR 3 routes, cli and portal."""

from vpp.config import Settings

OPENADR3_PATH = "/openadr3/3.1.0"
OPENADR3_OLD_PATH = "/openadr3/3.0.1"
OPENADR2_PATH = "/OpenADR2/Simple/2.0b"
_OURS = "http://127.0.0.1:8000"
_OPENADR2 = "http://127.0.0.1:8081"


def public_url(settings: Settings) -> str:
    """Where our portal and OpenADR 3 VTN are reached, without a slash at the end."""
    return (settings.public_url or _OURS).rstrip("/")


def openadr3_url(settings: Settings, path: str = OPENADR3_PATH) -> str:
    """The base address of our OpenADR 3 VTN."""
    return public_url(settings) + path


def openadr2_url(settings: Settings) -> str:
    """The base address of our OpenADR 2.0b VTN; services are one word below it."""
    given = (settings.openadr2_public_url or _OPENADR2).rstrip("/")
    return given if given.endswith(OPENADR2_PATH) else given + OPENADR2_PATH
