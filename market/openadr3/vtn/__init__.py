"""Our OpenADR 3 VTN: both versions of the wire over one model. Others import from `market.openadr3`."""

from market.openadr3.vtn.app import VtnParts, create_vtn
from market.openadr3.vtn.versions import VERSIONS, Version, render_object

__all__ = ["VERSIONS", "Version", "VtnParts", "create_vtn", "render_object"]
