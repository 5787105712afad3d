"""The attributes of a request or a connection that a proxy asks about.

Comes in: ``CheckRequest``, what is constant about the proxy that asks, and what is known of workloads. Goes out: a bag,
in which each attribute is made when it is looked at. Who calls is what its certificate says.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping
from typing import Any

from lateen.envoy.check_cache import NOTES
from lateen.mixer.bags import RequestBag, caller_of, identity_of, ip_of, query_of, without_scheme
from lateen.values.names import SpiffeId

GRPC = "application/grpc"


class CheckBag(RequestBag):
    """A bag on one ``CheckRequest``."""

    def __init__(self, request: Any, constant: Mapping[str, Any], workloads: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(constant, workloads)
        self._attributes = request.attributes

    def entry(self, name: str, key: str) -> str | None:
        if name == "request.headers":
            found: str | None = self._headers.get(key.lower())
            return found
        return super().entry(name, key)

    def _made(self, name: str) -> Any:
        make = _MAKERS.get(name)
        if make is not None:
            return make(self)
        if name.startswith("request.auth."):
            return self.of_token(name)
        return self._caller.get(name) if name.startswith("source.") else None

    # Parts

    @functools.cached_property
    def _headers(self) -> Mapping[str, str]:
        return dict(self._attributes.request.http.headers)

    @functools.cached_property
    def _is_http(self) -> bool:
        return bool(self._attributes.request.http.method)

    @functools.cached_property
    def _notes(self) -> Mapping[str, Any]:
        found = self._metadata()
        return dict(found[NOTES]) if NOTES in found else {}

    @functools.cached_property
    def _identity(self) -> SpiffeId | None:
        return identity_of(self._attributes.source.principal)

    @functools.cached_property
    def _caller(self) -> Mapping[str, Any]:
        return caller_of(self._identity, self._notes.get("names"), self._workloads)

    def _metadata(self) -> Any:
        return self._attributes.metadata_context.filter_metadata

    # Attributes

    def _principal(self) -> str | None:
        return without_scheme(self._attributes.source.principal)

    def _header(self, name: str) -> str | None:
        return self._headers.get(name)

    def _url_path(self) -> str | None:
        return self._attributes.request.http.path.partition("?")[0] or None

    def _query(self) -> Mapping[str, str] | None:
        return query_of(self._attributes.request.http.path) if self._is_http else None

    def _protocol(self) -> str:
        if not self._is_http:
            return "tcp"
        return "grpc" if self._headers.get("content-type", "").startswith(GRPC) else "http"

    def _time(self) -> datetime.datetime:
        moment = self._attributes.request.time
        return moment.ToDatetime(tzinfo=datetime.UTC)  # type: ignore[no-any-return]

    def _address(self) -> Any:
        return ip_of(self._attributes.source.address.socket_address.address)


_MAKERS: Mapping[str, Callable[[CheckBag], Any]] = {
    "source.principal": CheckBag._principal,
    "source.user": CheckBag._principal,
    "source.ip": CheckBag._address,
    "origin.ip": lambda bag: ip_of(bag._notes.get("origin")) or bag._address(),
    "connection.mtls": lambda bag: bag._identity is not None,
    "connection.requested_server_name": lambda bag: bag._attributes.tls_session.sni or None,
    "connection.event": lambda bag: None if bag._is_http else "open",
    "context.protocol": CheckBag._protocol,
    "context.time": CheckBag._time,
    "context.timestamp": CheckBag._time,
    "request.time": lambda bag: bag._time() if bag._is_http else None,
    "request.headers": lambda bag: bag._headers if bag._is_http else None,
    "request.id": lambda bag: bag._header("x-request-id"),
    "request.host": lambda bag: bag._attributes.request.http.host or None,
    "request.method": lambda bag: bag._attributes.request.http.method or None,
    "request.path": lambda bag: bag._attributes.request.http.path or None,
    "request.url_path": CheckBag._url_path,
    "request.query_params": CheckBag._query,
    "request.scheme": lambda bag: bag._attributes.request.http.scheme or None,
    "request.useragent": lambda bag: bag._header("user-agent"),
    "request.referer": lambda bag: bag._header("referer"),
    "request.size": lambda bag: _size(bag),
}
ATTRIBUTES = frozenset(_MAKERS)
"""What checks tell by themselves, beside what is known of the two workloads."""


def _size(bag: CheckBag) -> int | None:
    written = bag._headers.get("content-length", "")
    return int(written) if written.isascii() and written.isdigit() and len(written) < 19 else None
