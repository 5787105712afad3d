"""Servers that take what proxies and the mixer tell: spans, log entries and metrics. They answer that all is well."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.server
import json
import socketserver
import threading
from collections.abc import Iterator
from typing import Any, NamedTuple

import grpc
import msgspec


class Told(NamedTuple):
    """One request of a proxy: the path or the method, headers by lower-case name, and the body."""

    path: str
    headers: dict[str, str]
    body: bytes


class HttpCollector:
    """Keeps the requests that came, in order."""

    def __init__(self) -> None:
        self.told: list[Told] = []
        told = self.told

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = _chunked(self.rfile) if self.headers.get("transfer-encoding") == "chunked" else b""
                body = body or self.rfile.read(int(self.headers.get("content-length") or 0))
                told.append(Told(self.path, {name.lower(): value for name, value in self.headers.items()}, body))
                self.send_response(202)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port: int = self._server.server_address[1]

    def spans(self) -> list[dict[str, Any]]:
        """The spans of Zipkin that came."""
        return [span for told in self.told for span in json.loads(told.body)]

    def __enter__(self) -> HttpCollector:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class ForwardCollector:
    """Takes entries over fluentd's Forward protocol: (tag, entry), in order."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, dict[str, Any]]] = []
        collector = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                held = b""
                while data := self.request.recv(65536):
                    held += data
                    with contextlib.suppress(msgspec.DecodeError):
                        tag, packed, options = msgspec.msgpack.decode(held)
                        held = b""
                        collector._take(tag, packed, options["size"])
                        self.request.sendall(msgspec.msgpack.encode({"ack": options["chunk"]}))

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.port: int = self._server.server_address[1]

    def _take(self, tag: str, packed: bytes, count: int) -> None:
        many = b"\xdd" + count.to_bytes(4, "big") + packed
        found = msgspec.msgpack.decode(many, ext_hook=lambda code, data: int.from_bytes(data[:4], "big"))
        self.entries += [(tag, entry) for _, entry in found]

    def __enter__(self) -> ForwardCollector:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _chunked(stream: Any) -> bytes:
    body = b""
    while size := int(stream.readline().split(b";")[0], 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return body


class GrpcCollector:
    """Keeps the messages that came, whatever the method; a stream's headers come with each of its messages.

    Methods in ``unary`` answer each call; all others are streams of messages without an answer.
    """

    def __init__(self, *unary: str) -> None:
        self.told: list[Told] = []
        told = self.told

        def taken(messages: Iterator[bytes], context: grpc.ServicerContext, method: str) -> None:
            headers = {name: str(value) for name, value in context.invocation_metadata()}
            told.extend(Told(method, headers, message) for message in messages)

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                method = details.method

                def one(message: bytes, context: grpc.ServicerContext) -> bytes:
                    taken(iter([message]), context, method)
                    return b""

                def stream(messages: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
                    taken(messages, context, method)
                    return b""

                if method in unary:
                    return grpc.unary_unary_rpc_method_handler(one)
                return grpc.stream_unary_rpc_method_handler(stream)

        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self._server.add_generic_rpc_handlers((Handler(),))
        self.port: int = self._server.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> GrpcCollector:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
