"""What the four services share: a small HTTP server, a JSON client and the trace headers.

A service is one function from ``Request`` to ``Response``, given to ``serve``. Nothing here knows of a mesh: peers are
called by their plain names (``http://reviews:9080``), over plain HTTP. Everything else is the business of the proxies.

The environment a service reads:

PORT                          the port to listen on (9080)
LATEEN_BIND_ADDRESS           the address to listen on (0.0.0.0)
VERSION, POD_NAME             who answered, as shown on the page
<NAME>_SERVICE_HOST, _PORT    where the peer NAME is, if not at its name and port 9080
"""

from __future__ import annotations

import http.client
import http.server
import json
import os
import signal
import socketserver
import sys
import threading
import time
import traceback
import urllib.parse
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, NamedTuple

DEFAULT_PORT = 9080
CALL_TIMEOUT_S = 10.0
MAX_BODY_BYTES = 64 * 1024
MAX_ANSWER_BYTES = 1024 * 1024
SHUTDOWN_GRACE_S = 5.0

VERSION = os.environ.get("VERSION", "v1")

# A trace survives only if every service hands these on; end-user tells the mesh for whom a request is made.
FORWARDED_HEADERS = (
    "x-request-id",
    "traceparent",
    "tracestate",
    "baggage",
    "b3",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "user-agent",
    "end-user",
)


class Request(NamedTuple):
    """One request: header names are in lower case, repeated headers joined by a comma."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes = b""

    @property
    def parts(self) -> list[str]:
        """The path's segments: ``/reviews/0`` gives ``["reviews", "0"]``."""
        return [urllib.parse.unquote(part) for part in self.path.split("/") if part]

    def trace_headers(self) -> dict[str, str]:
        """The headers that a call made for this request has to carry on."""
        return {name: self.headers[name] for name in FORWARDED_HEADERS if name in self.headers}


class Response(NamedTuple):
    """One response: ``headers`` come on top of the type and length of the body."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Answer(NamedTuple):
    """What came of calling a peer: ``data`` if it went well, else ``error``; ``status`` is 503 if nobody answered."""

    status: int
    data: Any
    error: str
    seconds: float

    @property
    def ok(self) -> bool:
        return not self.error


Handler = Callable[[Request], Response]


def json_response(data: object, status: int = 200) -> Response:
    """``data`` as JSON, indented: people read it with curl."""
    return Response(status, (json.dumps(data, indent=2) + "\n").encode(), "application/json")


def error_response(status: int, message: str) -> Response:
    return json_response({"error": message}, status)


def pod_name(service: str) -> str:
    """The name of this instance, or service and version where nobody gave it one."""
    return os.environ.get("POD_NAME") or f"{service}-{VERSION}"


def call(service: str, path: str, headers: Mapping[str, str]) -> Answer:
    """GET ``path`` from a peer and read its JSON. Never raises for what the peer or the network does."""
    prefix = service.upper().replace("-", "_")
    host = os.environ.get(f"{prefix}_SERVICE_HOST", service)
    port = int(os.environ.get(f"{prefix}_SERVICE_PORT", DEFAULT_PORT))
    started = time.monotonic()
    status, data, error = 503, None, ""
    connection = http.client.HTTPConnection(host, port, timeout=CALL_TIMEOUT_S)
    try:
        connection.request("GET", path, headers={"accept": "application/json", **headers})
        response = connection.getresponse()
        status, body = response.status, response.read(MAX_ANSWER_BYTES)
        if status == HTTPStatus.OK:
            data = json.loads(body)
        else:
            error = f"{status} {body[:200].decode(errors='replace').strip() or response.reason}"
    except TimeoutError:
        status, error = 504, f"no answer within {CALL_TIMEOUT_S:g} s"
    except (OSError, http.client.HTTPException, ValueError) as problem:
        status, error = 503, getattr(problem, "strerror", None) or str(problem) or type(problem).__name__
    finally:
        connection.close()
    return Answer(status, data, error, time.monotonic() - started)


class InFlight:
    """Counts the requests being answered, so that a shutdown can wait for them."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._count = 0
        self.stopping = False

    def __enter__(self) -> None:
        with self._changed:
            self._count += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._count -= 1
            self._changed.notify_all()

    def drain(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; whether all are answered."""
        self.stopping = True
        with self._changed:
            return self._changed.wait_for(lambda: self._count == 0, timeout)


class HttpHandler(http.server.BaseHTTPRequestHandler):
    """One connection, kept alive."""

    server: Server

    protocol_version = "HTTP/1.1"
    # Headers and body leave in one segment: a second one can wait 40 ms, for Nagle's algorithm and a delayed ACK.
    wbufsize = 64 * 1024
    disable_nagle_algorithm = True

    def answer(self) -> None:
        with self.server.in_flight:
            started = time.monotonic()
            request, response = self._exchange()
            if request is not None:
                self._log(request, response.status, time.monotonic() - started)
            self._send(response)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = answer

    def _exchange(self) -> tuple[Request | None, Response]:
        """Read the request's body and have the request answered; no request where it cannot be read."""
        lengths = self.headers.get_all("content-length", ["0"])
        if "transfer-encoding" in self.headers or len(lengths) > 1 or not is_number(lengths[0]):
            self.close_connection = True
            return None, error_response(411, "send the body with one Content-Length")
        if int(lengths[0]) > MAX_BODY_BYTES:
            self.close_connection = True
            return None, error_response(413, f"at most {MAX_BODY_BYTES} bytes")
        body = self.rfile.read(int(lengths[0]))
        request = Request(self.command, self.path.partition("?")[0], _joined(self.headers.items()), body)
        try:
            if request.path == "/health":
                return request, Response(200, b"ok\n")
            return request, self.server.handler(request)
        except Exception:
            traceback.print_exc()
            return request, error_response(500, "internal error")

    def _send(self, response: Response) -> None:
        if self.server.in_flight.stopping:
            self.close_connection = True
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in response.headers:
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(response.body)
        self.wfile.flush()

    def _log(self, request: Request, status: int, seconds: float) -> None:
        """One line for each request but health checks, on standard output."""
        if request.path == "/health":
            return
        user = request.headers.get("end-user", "-")
        trace = request.headers.get("x-request-id", "-")
        line = f"{request.method} {request.path} {status} {seconds * 1000:.0f}ms user={user} request={trace}"
        print("".join(c if c.isprintable() else "?" for c in line), flush=True)

    def version_string(self) -> str:
        return "bookinfo"

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing: ``_log`` writes the one line."""


class Server(http.server.ThreadingHTTPServer):
    """A thread for each connection, and room for a burst of new ones."""

    request_queue_size = 128

    def __init__(self, address: str, port: int, handler: Handler) -> None:
        self.handler = handler
        self.in_flight = InFlight()
        super().__init__((address, port), HttpHandler)

    def server_bind(self) -> None:
        """Bind without looking up the machine's own name, as the class between would: that can take seconds."""
        socketserver.TCPServer.server_bind(self)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is no event."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(service: str, handler: Handler) -> None:
    """Answer requests until SIGTERM or SIGINT; then finish those that have begun and return."""
    address = os.environ.get("LATEEN_BIND_ADDRESS", "0.0.0.0")
    port = int(os.environ.get("PORT", DEFAULT_PORT))
    server = Server(address, port, handler)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    print(f"{pod_name(service)} listens on {address}:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    finally:
        server.socket.close()
        server.in_flight.drain(SHUTDOWN_GRACE_S)


def is_number(text: str) -> bool:
    """Whether ``text`` is digits and nothing else."""
    return text.isascii() and text.isdigit()


def _joined(items: list[tuple[str, str]]) -> dict[str, str]:
    """Headers by lower-case name, each on one line, repeated ones joined."""
    joined: dict[str, str] = {}
    for name, value in items:
        name, value = name.lower(), " ".join(value.split())
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
