"""traces: takes the spans that proxies report, as Zipkin does, and shows the last traces as trees. Calls nobody.

Where a team has Zipkin, Jaeger or an OpenTelemetry collector, it names that one in place of this.
"""

from __future__ import annotations

import http.server
import json
import os
import signal
import sys
import threading
from collections import OrderedDict
from typing import Any

DEFAULT_PORT = 9411
MAX_SPAN_BYTES = 1024 * 1024
KEPT_TRACES = 200
SHOWN_TRACES = 5
Span = dict[str, Any]


class Traces:
    """The last traces: by the id of a trace its spans, as they came."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: OrderedDict[str, list[Span]] = OrderedDict()

    def add(self, spans: list[Span]) -> None:
        with self._lock:
            for span in spans:
                self._spans.setdefault(span["traceId"], []).append(span)
            while len(self._spans) > KEPT_TRACES:
                self._spans.popitem(last=False)

    def text(self) -> str:
        """The newest traces first, each as a tree."""
        with self._lock:
            known = [(trace, list(spans)) for trace, spans in self._spans.items()]
        known.sort(key=lambda one: min(map(_began, one[1])), reverse=True)
        return "\n".join(_tree(trace, spans) for trace, spans in known[:SHOWN_TRACES]) or "no traces yet\n"


def _began(span: Span) -> int:
    """Microseconds."""
    return int(span.get("timestamp", 0))


def _tree(trace: str, spans: list[Span]) -> str:
    known = {span["id"] for span in spans}
    lines = [f"trace {trace}"]

    def add(span: Span, depth: int) -> None:
        took, status = span.get("duration", 0) / 1000, span.get("tags", {}).get("http.status_code", "-")
        service = span.get("localEndpoint", {}).get("serviceName", "?")
        lines.append(
            f"{'  ' * depth}{span.get('kind', '?'):6} {service}  {span.get('name', '')}  {status}  {took:.1f} ms"
        )
        for child in sorted(spans, key=_began):
            if child.get("parentId") == span["id"]:
                add(child, depth + 1)

    for root in spans:
        if root.get("parentId") not in known:
            add(root, 1)
    return "\n".join(lines) + "\n"


TRACES = Traces()


class Handler(http.server.BaseHTTPRequestHandler):
    """POST /api/v2/spans takes spans, GET /traces shows them."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        try:
            TRACES.add(json.loads(self._body()))
            self._answer(202, "")
        except (ValueError, KeyError, TypeError):
            self.close_connection = True
            self._answer(400, "these are no spans\n")

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        known = {"/traces": TRACES.text, "/health": lambda: "ok\n"}
        self._answer(200, known[path]()) if path in known else self._answer(404, "there is /traces\n")

    def _body(self) -> bytes:
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(min(int(self.headers.get("content-length") or 0), MAX_SPAN_BYTES))
        body = b""
        while size := int(self.rfile.readline(32).split(b";")[0], 16):
            if len(body) + size > MAX_SPAN_BYTES:
                raise ValueError("too many spans at once")
            body += self.rfile.read(size)
            self.rfile.readline(32)
        self.rfile.readline(32)
        return body

    def _answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Nothing: spans would be told of spans."""


if __name__ == "__main__":
    place = os.environ.get("LATEEN_BIND_ADDRESS", "0.0.0.0"), int(os.environ.get("PORT", DEFAULT_PORT))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    http.server.ThreadingHTTPServer(place, Handler).serve_forever()
