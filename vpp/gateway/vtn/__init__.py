"""Our OpenADR 2.0b VTN, free of its wire: who is registered, what each VEN is told, and what it says.

`VtnDesk` answers messages, `PushLoop` sends them to VENs that do not poll. All state is in PostgreSQL; memory
holds only what makes a poll with nothing to tell cheap.
"""

from vpp.gateway.vtn.desk import VtnDesk
from vpp.gateway.vtn.pushing import PushLoop

__all__ = ["PushLoop", "VtnDesk"]
