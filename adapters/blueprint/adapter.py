"""The seam `vpp.ports.DeviceAdapter` with nothing behind it; see docs/guides/add-a-vendor.md."""

from collections.abc import Mapping
from typing import Any

from adapters.blueprint import wire
from adapters.blueprint.client import BlueprintClient
from vpp.domain.device import Capabilities, Command, ControlKind, Reading, Receipt
from vpp.domain.errors import Unsupported
from vpp.domain.site import Site
from vpp.ports import Clock


class BlueprintAdapter:
    """Refuses every call with `Unsupported` until it is written."""

    name = "blueprint"
    control = ControlKind.SETPOINT_KW

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._client = BlueprintClient()

    async def open(self) -> None:
        """Prepare connections."""

    async def close(self) -> None:
        """Close them."""

    async def describe(self, site: Site) -> Capabilities:
        """Probe; refuse what cannot be steered rather than pretend."""
        raise Unsupported(f"site {site.id}: the blueprint adapter steers nothing")

    async def read(self, site: Site) -> Reading:
        """Read battery and meter once."""
        status = await self._client.get(site, "status")
        at = self._clock.now()
        return Reading(
            device_id=site.device_id,
            measured_at=at,
            received_at=at,
            battery_kw=wire.battery_kw(status.get("battery_w")),
            grid_kw=wire.grid_kw(status.get("grid_w")),
        )

    async def save_native(self, site: Site) -> Mapping[str, Any]:
        """Read every setting that `apply` changes."""
        return await self._client.get(site, "settings")

    async def apply(self, site: Site, command: Command) -> Receipt:
        """Check the lease, write, read back; repeating a command must be harmless."""
        raise Unsupported(f"site {site.id}: the blueprint adapter steers nothing (command {command.id})")

    async def release(self, site: Site, native: Mapping[str, Any]) -> Receipt:
        """Write `native` back where it differs, and read it back."""
        raise Unsupported(f"site {site.id}: the blueprint adapter steers nothing")
