"""Room openadr2: the OpenADR 2.0b protocol, its messages (`codec`) and both its ends (`ven`, `vtn`, `push`)."""

from market.openadr2.ven import Openadr2Client

__all__ = ["Openadr2Client"]
