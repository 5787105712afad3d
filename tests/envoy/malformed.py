"""Requests that servers read in different ways, as bytes: what a proxy judges may not be what the application gets.

Each tries to get ``GET /admin``, the host ``secret.example`` or the header ``x-role: admin`` past rules.
"""

from __future__ import annotations

from lateen.control.playing import http2

HIDDEN = b"GET /admin HTTP/1.1\r\nhost: secret.example\r\nx-role: admin\r\n\r\n"
CHUNKED = b"transfer-encoding: chunked"
LAST = b"0\r\n\r\n" + HIDDEN


def _request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([line, b"host: any.example", *headers, b"", b""]) + body


def _get(*headers: bytes, body: bytes = b"") -> bytes:
    return _request(b"GET / HTTP/1.1", *headers, body=body)


def _post(*headers: bytes, body: bytes = b"") -> bytes:
    return _request(b"POST / HTTP/1.1", *headers, body=body)


BODIES = (
    _post(b"content-length: 4", CHUNKED, body=LAST),
    _post(CHUNKED, b"content-length: %d" % len(LAST), body=LAST),
    _post(b"content-length: 0", b"content-length: %d" % len(HIDDEN), body=HIDDEN),
    _post(b"content-length: 0, 0", body=HIDDEN),
    _post(b"content-length: +0", body=HIDDEN),
    _post(b"content-length: 0x0", body=HIDDEN),
    _post(b"content-length: -1", body=HIDDEN),
    _post(b"content-length : 0", body=HIDDEN),
    _post(b"transfer-encoding: xchunked", body=LAST),
    _post(b"transfer-encoding: chunked, identity", body=LAST),
    _post(CHUNKED, b"transfer-encoding: identity", body=LAST),
    _post(b"transfer-encoding:\tchunked", body=LAST),
    _post(b"transfer-encoding: \x0bchunked", body=LAST),
    _post(b"transfer-encoding : chunked", body=LAST),
    _post(b"x: y\ntransfer-encoding: chunked", body=LAST),
    _post(CHUNKED, body=b"0;a=\n\r\n\r\n" + HIDDEN),
    _post(CHUNKED, body=b"1;\n\r\nx\r\n" + LAST),
    _post(CHUNKED, body=b"0x0\r\n\r\n" + HIDDEN),
    _post(CHUNKED, body=b"ffffffffffffffff1\r\n\r\n" + HIDDEN),
    _post(CHUNKED, body=b"0\r\nx-role: admin\r\nhost: secret.example\r\n\r\n"),
    b"POST / HTTP/1.0\r\nhost: any.example\r\n" + CHUNKED + b"\r\n\r\n" + LAST,
    _post(b"expect: 100-continue, x", b"content-length: 0", body=HIDDEN),
)
LINES = (
    b"GET /admin\r\n",
    b"GET /admin HTTP/1.1\nhost: secret.example\n\n",
    b"GET / HTTP/1.1\rhost: secret.example\r\n\r\n",
    b"GET /admin HTTP/1.1\r\n\r\n",
    b"GET http://secret.example/admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"GET http://any.example/admin HTTP/1.1\r\nhost: secret.example\r\n\r\n",
    b"GET http://secret.example/x/../admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"GET http://u@secret.example/admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"GET http://secret.example?/admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"GET http://secret.example#/admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"GET ftp://secret.example/admin HTTP/1.1\r\nhost: any.example\r\n\r\n",
    b"CONNECT secret.example:80 HTTP/1.1\r\nhost: any.example\r\n\r\n" + HIDDEN,
    b"CONNECT /admin HTTP/1.1\r\nhost: secret.example\r\n\r\n",
    _request(b"GET /\x00/../admin HTTP/1.1"),
    _request(b"get /admin HTTP/1.1"),
    _request(b"GET\t/admin HTTP/1.1"),
    _request(b"GET  /admin HTTP/1.1"),
    _request(b"GET / admin HTTP/1.1"),
    _request(b"GET admin HTTP/1.1"),
    _request(b"GET /admin HTTP/1.2"),
    _request(b"GET /admin HTTP/2.0"),
)
HEADERS = (
    _get(body=HIDDEN),
    _get(b"x-a: b\r\n x-role: admin"),
    b"GET / HTTP/1.1\r\n x-role: admin\r\nhost: any.example\r\n\r\n",
    _get(b"x-a: b\rx-role: admin"),
    _get(b"x-a: b\x00\r\nx-role: admin"),
    b"GET / HTTP/1.1\r\nhost: any.example\r\nhost: secret.example\r\nx-role: admin\r\n\r\n",
    b"GET / HTTP/1.1\r\nhost: any.example/admin\r\nx-role: admin\r\n\r\n",
    _get(b":path: /admin"),
    _get(b":authority: secret.example"),
    _get(b"x-role : admin"),
    _get(b"x\x01role: admin"),
    _get(b": admin"),
    _get(b"connection: close, x-role, host, :path", b"x-role: admin"),
    _get(b"x-original-url: /admin", b"x-rewrite-url: /admin", b"x-envoy-original-path: /admin"),
    _get(b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABkAARAAAAAAAIAAAAA"),
)
_HEAD = ((":method", "GET"), (":scheme", "http"), (":authority", "any.example"))
HTTP2 = tuple(
    http2.request(fields)
    for fields in (
        [*_HEAD, (":path", "/admin")],
        [*_HEAD, (":path", "/x/../admin")],
        [*_HEAD, (":path", "/"), ("host", "secret.example")],
        [*_HEAD, (":path", "/"), (":path", "/admin")],
        [*_HEAD, ("x-a", "b"), (":path", "/admin")],
        [*_HEAD, (":path", "/ HTTP/1.1\r\nhost: any.example\r\n\r\nGET /admin")],
        [*_HEAD, (":path", "/"), ("x-a", "b\r\nx-role: admin")],
        [*_HEAD, (":path", "/"), ("transfer-encoding", "chunked")],
        [*_HEAD, (":path", "/"), ("X-Role", "admin")],
        [*_HEAD, (":path", "/"), (":authority", "secret.example")],
        [*_HEAD, (":path", "http://any.example/admin")],
        [*_HEAD, (":path", "admin")],
        [(":method", "GET /admin HTTP/1.1\r\nx:"), *_HEAD[1:], (":path", "/")],
        [_HEAD[0], (":scheme", "http://any.example/admin?"), _HEAD[2], (":path", "/")],
        [*_HEAD[:2], (":authority", "u@secret.example"), (":path", "/")],
        [(":method", "CONNECT"), (":authority", "secret.example:80")],
        [(":method", "CONNECT"), (":protocol", "websocket"), *_HEAD[1:], (":path", "/admin")],
    )
)
ALL = (*BODIES, *LINES, *HEADERS, *HTTP2)
