"""What a notification says, in the receiver's version of OpenADR 3. Called by `webhooks.py` and `publisher.py`."""

import json
from collections.abc import Callable, Mapping

from vpp.domain.openadr3 import OLDER_VERSION, Operation, StoredObject
from vpp.gateway.notify.outbox import Waiting

Render = Callable[[StoredObject, frozenset[str] | None, str], str]
"""An object, the targets shown of it (None: all), and the version: the object as JSON."""

OLDER_WORDS: Mapping[Operation, str] = {
    Operation.READ: "GET",
    Operation.CREATE: "POST",
    Operation.UPDATE: "PUT",
    Operation.DELETE: "DELETE",
}


def as_stored(found: StoredObject, shown: frozenset[str] | None, version: str) -> str:
    """An object in 3.1.0, whatever the version: where no renderer of older versions is wired."""
    return found.wire_text(shown)


def body_of(waiting: Waiting, version: str, render: Render) -> bytes:
    """Return the JSON of a notification."""
    word = OLDER_WORDS[waiting.operation] if version == OLDER_VERSION else waiting.operation.value
    said = json.dumps({"objectType": waiting.object.kind.value, "operation": word})
    return f'{said[:-1]}, "object": {render(waiting.object, waiting.shown, version)}}}'.encode()
