# SPDX-FileCopyrightText: 2026 ForkTex
# SPDX-License-Identifier: AGPL-3.0-or-later OR LicenseRef-ForkTex-Commercial
"""The application that the demo deploys: a notice board over HTTP, on the standard library alone.

It is told by its environment: ``PORT``, ``INSTANCE`` (who it is, for whoever started it), ``DATA``
(the folder of its notices), ``TITLE``, and ``WARM_UP_SECONDS``, the time that a grown-up
application needs to load its things before it listens.
"""

import json
import os
import signal
import sys
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs

from board import Board

STATIC = Path(__file__).with_name("static")
TYPES = {".html": "text/html; charset=utf-8", ".css": "text/css; charset=utf-8"}
LONGEST_FORM = 10_000


class Server(ThreadingHTTPServer):
    """The server with what its requests share."""

    daemon_threads = True

    def __init__(self, port: int, instance: str, board: Board) -> None:
        super().__init__(("127.0.0.1", port), Request)
        self.instance = instance
        self.board = board


class Request(BaseHTTPRequestHandler):
    """One request."""

    server: Server

    def do_GET(self) -> None:
        """Show the board, a static file, or how we are."""
        static = STATIC / Path(self.path).name
        if self.path == "/":
            self.answer(HTTPStatus.OK, TYPES[".html"], self.server.board.page().encode())
        elif self.path == "/healthz":
            state = {"status": "ok", "instance": self.server.instance, "pid": os.getpid()}
            self.answer(HTTPStatus.OK, "application/json", json.dumps(state).encode())
        elif self.path == f"/static/{static.name}" and static.is_file():
            self.answer(HTTPStatus.OK, TYPES[static.suffix], static.read_bytes())
        else:
            self.answer(HTTPStatus.NOT_FOUND, "text/plain", b"no such page\n")

    def do_POST(self) -> None:
        """Put a notice on the board."""
        length = int(self.headers.get("Content-Length") or 0)
        form = parse_qs(self.rfile.read(min(length, LONGEST_FORM)).decode(errors="replace"))
        if self.path != "/notices" or not form.get("text"):
            self.answer(HTTPStatus.BAD_REQUEST, "text/plain", b"a notice needs a text\n")
            return
        self.server.board.add(form["text"][0])
        self.send_response(HTTPStatus.SEE_OTHER)
        self.send_header("Location", "/")
        self.end_headers()

    def answer(self, status: HTTPStatus, kind: str, body: bytes) -> None:
        """Send one whole response."""
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Warm up, listen, serve until told to stop."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    board = Board(Path(os.environ["DATA"]) / "notices.json", os.environ.get("TITLE", "Notices"))
    time.sleep(float(os.environ.get("WARM_UP_SECONDS", "0")))
    with Server(int(os.environ["PORT"]), os.environ["INSTANCE"], board) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
