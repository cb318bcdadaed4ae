"""Stock openleadr's OpenADRServer in a process of its own, hosted as its documentation has it.

`python -m tests.bench.openadr.stock PORT VENS [FOLDER]`; commands on stdin add events. What is not stock, and only
in signed runs (with a FOLDER of certificates): it verifies signatures only on its own TLS connections, so a request
is taken for one that came over TLS, with the certificate the header of a TLS proxy names. Both servers are then
measured without TLS itself, which is the same OpenSSL for both.
"""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from openleadr import OpenADRServer, utils

from tests.bench.openadr.messages import FINGERPRINT_HEADER, fingerprints, ven_id

INTERVALS = 96


def _behind_proxy(server: OpenADRServer) -> None:
    utils.get_cert_fingerprint_from_request = lambda request: request.headers.get(FINGERPRINT_HEADER)

    def through_proxy(handler: Any) -> Any:
        async def handle(request: Any) -> Any:
            return await handler(request.clone(scheme="https"))

        return handle

    for route in server.app.router.routes():
        route._handler = through_proxy(route.handler)


async def on_answer(ven_id: str, event_id: str, opt_type: str) -> None:
    """What openleadr's documentation has one do with an answer, short of doing anything."""


def _add(server: OpenADRServer, event_ids: list[str], first: int, start_at: datetime) -> None:
    for number, event_id in enumerate(event_ids, first):
        server.add_event(
            ven_id=ven_id(number),
            signal_name="LOAD_DISPATCH",
            signal_type="setpoint",
            intervals=[
                {
                    "dtstart": start_at + timedelta(minutes=15) * each,
                    "duration": timedelta(minutes=15),
                    "signal_payload": 100.0 + each,
                }
                for each in range(INTERVALS)
            ],
            event_id=event_id,
            callback=on_answer,
        )


async def _serve(port: int, vens: int, folder: Path | None) -> None:
    marks = [None] * vens if folder is None else fingerprints(folder)
    known = {
        ven_id(number): {
            "ven_id": ven_id(number),
            "ven_name": ven_id(number),
            "fingerprint": marks[number],
            "registration_id": f"reg{number}",
        }
        for number in range(vens)
    }

    async def ven_lookup(ven_id: str) -> Any:
        return known.get(ven_id)

    signing = {} if folder is None else {"cert": str(folder / "vtn.pem"), "key": str(folder / "key.pem")}
    server = OpenADRServer(
        vtn_id="Vtn1", http_port=port, ven_lookup=ven_lookup, show_server_cert_domain=False, **signing
    )
    if folder is not None:
        _behind_proxy(server)
    await server.run()
    print('{"up": true}', flush=True)  # noqa: T201 - said to who started it
    reader = asyncio.StreamReader(limit=2**26)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while command := await reader.readline():
        asked = json.loads(command)
        _add(server, asked["event_ids"], asked["first"], datetime.now(UTC) + timedelta(days=1))
        print('{"added": true}', flush=True)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]) if len(sys.argv) > 3 else None))
