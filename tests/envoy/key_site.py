"""A site of an issuer of tokens on a loopback address, which answers well or in every way that it should not."""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import ssl
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

Request = http.server.BaseHTTPRequestHandler
Act = Callable[[Request, threading.Event], None]


def answer(body: str | bytes, status: int = 200, headers: Mapping[str, str] | None = None) -> Act:
    """One whole answer."""
    data = body.encode() if isinstance(body, str) else body

    def act(request: Request, _: threading.Event) -> None:
        request.send_response(status)
        for name, value in {"content-length": str(len(data)), **(headers or {})}.items():
            request.send_header(name, value)
        request.end_headers()
        request.wfile.write(data)

    return act


def redirect(target: str, status: int = 302) -> Act:
    return answer("", status, {"location": target})


def packed(body: str) -> Act:
    return answer(gzip.compress(body.encode()), headers={"content-encoding": "gzip"})


def silent(_: Request, end: threading.Event) -> None:
    """Never a byte."""
    end.wait(60)


def dripping(request: Request, end: threading.Event) -> None:
    """A byte now and then."""
    request.send_response(200)
    request.end_headers()
    while not end.wait(0.05):
        request.wfile.write(b" ")


def endless(request: Request, end: threading.Event) -> None:
    """As fast as it is read."""
    request.send_response(200)
    request.end_headers()
    while not end.is_set():
        request.wfile.write(b" " * 65536)


def cut(request: Request, _: threading.Event) -> None:
    """Less than was announced."""
    request.send_response(200)
    request.send_header("content-length", "1000")
    request.end_headers()
    request.wfile.write(b'{"keys"')


def nonsense(request: Request, _: threading.Event) -> None:
    """No HTTP."""
    request.wfile.write(b"\x00\x01\x02 what?\r\n\r\n")


class KeySite:
    """``pages`` says what each path does; ``asked`` is every path with the headers that came, in order."""

    def __init__(self, pages: Mapping[str, Act] | None = None, certificate: Path | None = None) -> None:
        self.pages: dict[str, Act] = dict(pages or {})
        self.asked: list[tuple[str, dict[str, str]]] = []
        self._end = threading.Event()
        site = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
                with contextlib.suppress(OSError):
                    site.pages.get(self.path, answer("nothing", 404))(self, site._end)
                self.close_connection = True

            def log_message(self, *_: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.scheme = "http"
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(
                self._server.socket, server_side=True, do_handshake_on_connect=False
            )
            self.scheme = "https"
        self.port = int(self._server.server_address[1])
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"{self.scheme}://{host}:{self.port}{path}"

    def describe(self, keys: str, issuer: str = "", path: str = "") -> Act:
        """The description of an issuer, by default this site itself."""
        return answer(json.dumps({"issuer": issuer or self.url(path), "jwks_uri": keys}))

    def times(self, path: str) -> int:
        return sum(one == path for one, _ in self.asked)

    def __enter__(self) -> KeySite:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Nobody answers any more."""
        self._end.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)
