"""Room peering: who our peers are, what we tell those below us, and what was said. Import from here only."""

from vpp.peering.downstream import CHANNEL, Published, cancel, link_openadr3, modify, publish, unsaid_of
from vpp.peering.downstream_read import (
    Downstream,
    count_downstream,
    list_downstream,
    list_grid_events,
    list_versions,
    load_downstream,
    load_grid_event,
)
from vpp.peering.grid_event_json import event_from_json, event_to_json

__all__ = [
    "CHANNEL",
    "Downstream",
    "Published",
    "cancel",
    "count_downstream",
    "event_from_json",
    "event_to_json",
    "link_openadr3",
    "list_downstream",
    "list_grid_events",
    "list_versions",
    "load_downstream",
    "load_grid_event",
    "modify",
    "publish",
    "unsaid_of",
]
