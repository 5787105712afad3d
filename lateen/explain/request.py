"""What a connection manager makes of a request before it looks for a route.

Comes in: the settings of an HTTP connection manager, and a call. Goes out: the request as routes see it, or the status
of the answer that it gives instead. Hosts lose a dot at their end; paths are normalised as browsers do it, where the
manager is told to; a path with a fragment, a zero byte or (in HTTP/1) bytes beyond ASCII is refused.
"""

from __future__ import annotations

import re
from typing import Any

import msgspec
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from lateen.explain.call import Call, Protocol, Tls

_Manager = http_connection_manager_pb2.HttpConnectionManager
_ESCAPED_SLASH = re.compile("%2f|%5c", re.IGNORECASE)
_ESCAPE = re.compile("%([0-9a-fA-F]{2})")
_ALWAYS_PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_ESCAPED_IN_PATHS = frozenset(' "<>`{}^|')
BAD_REQUEST, TEMPORARY_REDIRECT = 400, 307


class Request(msgspec.Struct, frozen=True):
    """A request as routes see it: header fields by name in lower case, the pseudo-headers among them.

    A field may stand there several times.
    """

    authority: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]

    def values(self, name: str) -> list[str]:
        """All values of a header field. To Envoy ``host`` is another name of ``:authority``."""
        name = ":authority" if name == "host" else name
        return [value for known, value in self.headers if known == name]

    @property
    def joined(self) -> dict[str, str]:
        """The value of each header field; several are joined by commas, as routes see them."""
        found: dict[str, str] = {}
        for name, value in self.headers:
            found[name] = f"{found[name]},{value}" if name in found else value
        if ":authority" in found:
            found["host"] = found[":authority"]
        return found


def arriving(manager: Any, call: Call, *, over_tls: bool) -> Request | int:
    """The request of a call, or the status with which it is refused. ``over_tls``: the chain ends TLS."""
    if "#" in call.path or (call.protocol is Protocol.HTTP and not call.path.isascii()):
        return BAD_REQUEST
    path, _, query = call.path.partition("?")
    unescaped = _unescaped(manager.path_with_escaped_slashes_action, path)
    if isinstance(unescaped, int):
        return unescaped
    path = unescaped
    if manager.normalize_path.value:
        if "%00" in path:
            return BAD_REQUEST
        path = normalised(path)
    if manager.merge_slashes:
        path = re.sub("//+", "/", path)
    authority = _without_dot(call.authority) if manager.strip_trailing_host_dot else call.authority
    target = f"{path}?{query}" if "?" in call.path else path
    scheme = "https" if over_tls and call.tls is not Tls.PLAINTEXT else "http"
    own = ((":authority", authority), (":method", call.method), (":path", target), (":scheme", scheme))
    return Request(authority, path, query, (*own, *call.headers))


def _without_dot(authority: str) -> str:
    host, separator, port = authority.rpartition(":")
    if not separator or "]" in port:
        return authority.removesuffix(".")
    return f"{host.removesuffix('.')}:{port}"


def _unescaped(action: int, path: str) -> str | int:
    """The path after what is to be done about escaped slashes, or the status of the answer."""
    if not _ESCAPED_SLASH.search(path):
        return path
    if action == _Manager.REJECT_REQUEST:
        return BAD_REQUEST
    if action == _Manager.UNESCAPE_AND_REDIRECT:
        return TEMPORARY_REDIRECT
    if action == _Manager.UNESCAPE_AND_FORWARD:
        return _ESCAPED_SLASH.sub(lambda found: "/" if found[0][1] == "2" else "\\", path)
    return path


def normalised(path: str) -> str:
    """A path without ``.`` and ``..``, with ``/`` for a backslash, and with just that escaped which has to be.

    Dots with parameters (``..;x``) are dots, unless the dots are escaped.
    """
    path = "/".join(dots if (dots := part.partition(";")[0]) in (".", "..") else part for part in path.split("/"))
    plain = _ESCAPE.sub(lambda found: sign if (sign := chr(int(found[1], 16))) in _ALWAYS_PLAIN else found[0], path)
    kept: list[str] = []
    parts = plain.replace("\\", "/").split("/")[1:]
    for index, part in enumerate(parts):
        is_last = index == len(parts) - 1
        if part == ".." and kept:
            kept.pop()
        if part not in (".", ".."):
            kept.append(part)
        elif is_last:
            kept.append("")
    return "/" + "/".join(_escaped(part) for part in kept)


def _escaped(part: str) -> str:
    def shown(sign: str) -> str:
        stays = 32 < ord(sign) < 127 and sign not in _ESCAPED_IN_PATHS
        return sign if stays else "".join(f"%{byte:02X}" for byte in sign.encode())

    return "".join(map(shown, part))
