"""Other applications beside the pages, each below its own path. Called by `app.create_app`.

They get their requests before anything of the pages' application touches them, so that its limits and its ways of
refusing do not apply: a protocol's server answers as its protocol says, whatever happens.
"""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from vpp.portal.security import SecurityHeaders


class WithMounts(FastAPI):
    """A FastAPI application with others beside it.

    Args:
        mounts: application by path (`/openadr3/3.1.0`), without a slash at the end.
    """

    def __init__(self, *, mounts: Mapping[str, ASGIApp], **options: Any) -> None:
        super().__init__(**options)
        self._beside = {path: SecurityHeaders(app) for path, app in mounts.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request to the application its path is below, else to the pages."""
        if scope["type"] == "http":
            for path, app in self._beside.items():
                if scope["path"].startswith(f"{path}/"):
                    below = {"root_path": scope.get("root_path", "") + path, "app": app.app}
                    await app(dict(scope) | below, receive, send)
                    return
        await super().__call__(scope, receive, send)
