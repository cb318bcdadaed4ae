"""Room peering: who our peers are, what we tell those below us, and what was said. Import from here only."""

from vpp.peering.credentials import certificate_fingerprint, checked_fingerprint
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
from vpp.peering.peer_rules import NewPeer
from vpp.peering.peers import (
    PEER_CHANNEL,
    add_peer,
    find_peer,
    get_peer,
    list_peers,
    revoke_peer,
    rotate_secret,
    update_peer,
)

__all__ = [
    "CHANNEL",
    "PEER_CHANNEL",
    "Downstream",
    "NewPeer",
    "Published",
    "add_peer",
    "cancel",
    "certificate_fingerprint",
    "checked_fingerprint",
    "count_downstream",
    "event_from_json",
    "event_to_json",
    "find_peer",
    "get_peer",
    "link_openadr3",
    "list_downstream",
    "list_grid_events",
    "list_peers",
    "list_versions",
    "load_downstream",
    "load_grid_event",
    "modify",
    "publish",
    "revoke_peer",
    "rotate_secret",
    "unsaid_of",
    "update_peer",
]
