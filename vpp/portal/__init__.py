"""Room portal: pages, `/api/v1` and health over HTTP. Bootstrap and the simulation import from here only.

`create_app` is loaded when it is first used: who only lets a person in needs no pages.
"""

from typing import TYPE_CHECKING, Any

from vpp.portal.credentials import Subject, create_account, create_token

if TYPE_CHECKING:
    from vpp.portal.app import create_app

__all__ = ["Subject", "create_account", "create_app", "create_token"]


def __getattr__(name: str) -> Any:
    if name != "create_app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from vpp.portal.app import create_app

    return create_app
