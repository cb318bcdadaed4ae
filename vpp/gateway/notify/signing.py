"""Signs what we tell subscribers, as the Standard Webhooks specification has it. Called by `webhooks.py`.

- `webhook-id`: of the notification, the same at every attempt: who has taken it already drops it.
- `webhook-timestamp`: of the attempt, whole seconds since 1970.
- `webhook-signature`: `v1,` and the base64 HMAC-SHA256 of `<id>.<timestamp>.<body>`.

OpenADR 3 names no secret for this; the one thing both ends know is the `bearerToken` the subscriber gave with
its callback, and its UTF-8 bytes are the key. Without a token there is no signature.
"""

import base64
import hashlib
import hmac
from datetime import datetime


def headers_of(message_id: str, body: bytes, *, at: datetime, bearer_token: str | None) -> dict[str, str]:
    """Return the headers of one attempt to tell `body`."""
    timestamp = str(int(at.timestamp()))
    headers = {"content-type": "application/json", "webhook-id": message_id, "webhook-timestamp": timestamp}
    if bearer_token:
        signed = b".".join((message_id.encode(), timestamp.encode(), body))
        digest = hmac.new(bearer_token.encode(), signed, hashlib.sha256).digest()
        headers["webhook-signature"] = f"v1,{base64.b64encode(digest).decode()}"
        headers["authorization"] = f"Bearer {bearer_token}"
    return headers
