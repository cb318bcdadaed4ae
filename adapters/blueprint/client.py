"""One request to the vendor, with its deadline and its failures as `DeviceError`s.

Use `adapters.http` or `adapters.modbus`: they already say whether a request that failed was sent.
"""

from vpp.domain.errors import Unsupported
from vpp.domain.site import Site


class BlueprintClient:
    """Speaks to no vendor yet."""

    async def get(self, site: Site, what: str) -> dict[str, float]:
        """Read `what` of a site.

        Raises:
            Unsupported: always; replace this by the vendor's request.
        """
        raise Unsupported(f"site {site.id}: the blueprint adapter cannot read {what}")
