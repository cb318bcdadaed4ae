"""Room portal: pages, `/api/v1` and health over HTTP. Bootstrap and the simulation import from here only."""

from vpp.portal.app import create_app
from vpp.portal.auth import Subject, create_account, create_token

__all__ = ["Subject", "create_account", "create_app", "create_token"]
