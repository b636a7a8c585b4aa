"""Behaves like the sidecar towards its launcher, as badly as its first argument says.

``good`` serves /ready, ``sulk`` answers 503 there, ``refuse`` ends with 1 and a reason, ``crash``
is ready and then ends with 3, ``noise`` logs strange lines first, ``deaf`` does not end with its
input.
"""

import json
import os
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, HTTPServer

how = sys.argv[1]


class Door(BaseHTTPRequestHandler):
    """``GET /ready`` and ``GET /environment``."""

    def do_GET(self) -> None:
        """Answer."""
        body = json.dumps({**os.environ, "argv": sys.argv}).encode()
        self.send_response(503 if how == "sulk" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def say(**record: object) -> None:
    """Log a record."""
    sys.stderr.write(json.dumps(record) + "\n")
    sys.stderr.flush()


if how == "refuse":
    say(level="error", logger="x", event="data_folder.in_use", folder="shared")
    sys.exit(1)
if how == "noise":
    sys.stderr.write("x" * 300_000 + "\n")
    sys.stderr.buffer.write(b"not \xff utf-8\n")
    say(level="info", logger="x", event="http.request", path="/")
    say(level="warning", logger="x", event="odd", trace="Traceback: here")
    sys.stdout.write("[]\nnoise\n")

server = HTTPServer(("127.0.0.1", 0), Door)
threading.Thread(target=server.serve_forever, daemon=True).start()
sys.stdout.write(json.dumps({"atelier": "listening", "port": server.server_port}) + "\n")
sys.stdout.flush()
if how == "crash":
    time.sleep(0.5)
    os._exit(3)
sys.stdin.buffer.read()
if how == "deaf":
    time.sleep(3600)
