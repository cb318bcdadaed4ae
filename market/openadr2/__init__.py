"""Room openadr2: the OpenADR 2.0b protocol as a VEN speaks it. Importing it hardens `openleadr` here."""

from market.openadr2.patches import harden
from market.openadr2.ven import Openadr2Client

harden()

__all__ = ["Openadr2Client", "harden"]
