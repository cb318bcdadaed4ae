"""What our OpenADR 3 VTN keeps. Inside the room peering; others import from `vpp.peering`."""

from vpp.peering.openadr3.changes import Changes, NobodyTold
from vpp.peering.openadr3.read import find_object, granted_targets, select_objects
from vpp.peering.openadr3.shelf import SqlObjectShelf
from vpp.peering.openadr3.write import create_object, delete_object, replace_object

__all__ = [
    "Changes",
    "NobodyTold",
    "SqlObjectShelf",
    "create_object",
    "delete_object",
    "find_object",
    "granted_targets",
    "replace_object",
    "select_objects",
]
