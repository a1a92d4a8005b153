"""A server on the loopback address that holds its answers back until it is told to give them."""

import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class HeldServer(ThreadingHTTPServer):
    """Answers requests only once it is released; says when the first one has come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _HeldHandler)
        self.asked = threading.Event()
        self.released = threading.Event()

    @property
    def address(self) -> str:
        host, port = self.server_address[:2]
        return f"http://{host!s}:{port}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is what these tests are about."""


class _HeldHandler(BaseHTTPRequestHandler):
    server: HeldServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.server.asked.set()
        self.server.released.wait(60)
        body = f"<title>Held</title><p>The page of {self.path} came at last.</p>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass
