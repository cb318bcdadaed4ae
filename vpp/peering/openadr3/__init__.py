"""What our OpenADR 3 VTN keeps. Inside the room peering; others import from `vpp.peering`."""

from vpp.peering.openadr3.changes import Changes, NobodyTold

__all__ = ["Changes", "NobodyTold"]
