"""Our OpenADR 3 VTN: both versions of the wire over one model. `app` makes it.

Whoever only tells subscribers in the words of a version loads no web framework: `app` is imported by its own name.
"""

from market.openadr3.vtn.versions import VERSIONS, Version, render_object

__all__ = ["VERSIONS", "Version", "render_object"]
