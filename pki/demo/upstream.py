"""Stand-ins for the five applications: each answers with its name and the client that the proxy passed on.

Runs without the package: python upstream.py grafana=3000 prometheus=9090
"""

from __future__ import annotations

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Application(ThreadingHTTPServer):
    """One application on the loopback address."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        super().__init__(("127.0.0.1", port), AnswerHandler)


class AnswerHandler(BaseHTTPRequestHandler):
    """The answer: name of the application and subject of the client."""

    protocol_version = "HTTP/1.1"
    server: Application

    def do_GET(self) -> None:
        """Answer with the name of the application and the subject of the client, as JSON."""
        body = json.dumps({"service": self.server.name, "client": self.headers.get("X-Client-Subject") or ""}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


def main(arguments: list[str]) -> None:
    """Serve each NAME=PORT until the process is killed."""
    applications = [Application(name, int(port)) for name, _, port in (text.partition("=") for text in arguments)]
    for application in applications:
        threading.Thread(target=application.serve_forever, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1:])
