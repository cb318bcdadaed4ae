"""Where an OpenADR 3 VTN calls back, for clients that bring no receiver, or one that answers no echo challenge."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from lines import say


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        echo = parse_qs(urlsplit(self.path).query).get("echo", [""])[0]
        say("challenged", echo=bool(echo))
        self._answer(echo.encode())

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        sent = body.get("object", {})
        say(
            "notified",
            type=body.get("objectType"),
            operation=body.get("operation"),
            id=sent.get("id"),
            authorization=self.headers.get("authorization"),
        )
        self._answer(b"")

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nothing."""


def listen() -> str:
    """Serve in the background and return the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/notify"
