"""The attributes of a request that is over, or of a connection, as its proxy reports it.

Comes in: an entry of Envoy's access-log service, what is constant about the proxy that reports, and what is known of
workloads. Goes out: a bag, in which each attribute is made when it is looked at.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Callable, Mapping
from typing import Any

from envoy.config.core.v3 import base_pb2
from envoy.data.accesslog.v3.accesslog_pb2 import AccessLogType
from google.protobuf import wrappers_pb2

from lateen.envoy.check_cache import ASK, NOTES, REFUSED_BY
from lateen.envoy.mixer import DENIAL, RBAC_DETAILS
from lateen.envoy.peer import CALLER_STATE
from lateen.mixer.bags import RequestBag, caller_of, identity_of, ip_of, query_of, without_scheme

GRPC = "application/grpc"
FLAGS: Mapping[str, str] = {
    "failed_local_healthcheck": "LH",
    "no_healthy_upstream": "UH",
    "upstream_request_timeout": "UT",
    "local_reset": "LR",
    "upstream_remote_reset": "UR",
    "upstream_connection_failure": "UF",
    "upstream_connection_termination": "UC",
    "upstream_overflow": "UO",
    "no_route_found": "NR",
    "delay_injected": "DI",
    "fault_injected": "FI",
    "rate_limited": "RL",
    "rate_limit_service_error": "RLSE",
    "downstream_connection_termination": "DC",
    "upstream_retry_limit_exceeded": "URX",
    "stream_idle_timeout": "SI",
    "invalid_envoy_request_headers": "IH",
    "downstream_protocol_error": "DPE",
    "upstream_max_stream_duration_reached": "UMSDR",
    "no_filter_config_found": "NFCF",
    "duration_timeout": "DT",
    "upstream_protocol_error": "UPE",
    "no_cluster_found": "NC",
    "overload_manager": "OM",
    "dns_resolution_failure": "DF",
    "downstream_remote_reset": "DR",
}


class _EntryBag(RequestBag):
    """What entries of both kinds have."""

    def __init__(self, entry: Any, constant: Mapping[str, Any], workloads: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(constant, workloads)
        self._common = entry.common_properties

    def _made(self, name: str) -> Any:
        make = _COMMON.get(name)
        if make is not None:
            return make(self)
        return self._caller.get(name) if name.startswith("source.") else None

    # Parts

    @functools.cached_property
    def _principal(self) -> str:
        names = self._common.tls_properties.peer_certificate_properties.subject_alt_name
        return next((name.uri for name in names if name.uri), "")

    @functools.cached_property
    def _caller(self) -> Mapping[str, Any]:
        text, state = wrappers_pb2.StringValue(), self._common.filter_state_objects
        known = CALLER_STATE in state and state[CALLER_STATE].Unpack(text)
        names = text.value.split(" ", 2)[1] if known else ""
        return caller_of(identity_of(self._principal), names, self._workloads)

    def _metadata(self) -> Any:
        return self._common.metadata.filter_metadata

    # Attributes

    def _started(self) -> datetime.datetime:
        return self._common.start_time.ToDatetime(tzinfo=datetime.UTC)  # type: ignore[no-any-return]

    def _duration(self) -> datetime.timedelta:
        return self._common.duration.ToTimedelta()  # type: ignore[no-any-return]

    def _flags(self) -> str:
        flags = self._common.response_flags
        found = [short for name, short in FLAGS.items() if getattr(flags, name)]
        return ",".join((*found, *(("UAEX",) if flags.HasField("unauthorized_details") else ()))) or "-"


class ReportBag(_EntryBag):
    """A bag on one entry of requests."""

    def __init__(self, entry: Any, constant: Mapping[str, Any], workloads: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(entry, constant, workloads)
        self._request, self._response = entry.request, entry.response

    def entry(self, name: str, key: str) -> str | None:
        if name == "request.headers":
            return self._header(key.lower())
        if name == "response.headers":
            found: str | None = self._response.response_headers.get(key.lower())
            return found
        return super().entry(name, key)

    def _made(self, name: str) -> Any:
        make = _OF_REQUESTS.get(name)
        if make is not None:
            return make(self)
        return self.of_token(name) if name.startswith("request.auth.") else super()._made(name)

    def _header(self, name: str) -> str | None:
        own = _OWN_HEADERS.get(name)
        if own is not None:
            return own(self._request) or None
        found: str | None = self._request.request_headers.get(name)
        return found

    # Attributes

    def _method(self) -> str | None:
        number = self._request.request_method
        return base_pb2.RequestMethod.Name(number) if number else None

    def _path(self) -> str | None:
        return self._request.original_path or self._request.path or None

    def _protocol(self) -> str:
        return "grpc" if (self._header("content-type") or "").startswith(GRPC) else "http"

    @property
    def _notes(self) -> Any:
        """What the proxy noted of its check, or of a kept answer."""
        return self._metadata().get(NOTES, {})

    def _cache_hit(self) -> bool | None:
        """Whether a kept answer was used; None where nothing was checked."""
        return True if "kept" in self._notes else False if ASK in self._notes else None

    def _flags(self) -> str:
        """Whatever Mixer refuses is UAEX, also where the proxy did not have to ask."""
        flags, details = super()._flags(), self._response.response_code_details
        refused = REFUSED_BY in self._notes or details.startswith(f"{RBAC_DETAILS}[{DENIAL}")
        if not refused or "UAEX" in flags:
            return flags
        return "UAEX" if flags == "-" else f"{flags},UAEX"


class ConnectionBag(_EntryBag):
    """A bag on one entry of connections that pass bytes on: one has opened, goes on, or is over.

    ``spent``: bytes received and sent since the last report of it.
    """

    def __init__(
        self,
        entry: Any,
        constant: Mapping[str, Any],
        workloads: Mapping[str, Mapping[str, Any]],
        spent: tuple[int, int],
    ) -> None:
        super().__init__(entry, constant, workloads)
        self._spent = spent
        self._event = _EVENTS.get(self._common.access_log_type, "open")
        passed = entry.connection_properties
        self._total = (0, 0) if self._event == "open" else (passed.received_bytes, passed.sent_bytes)

    def _made(self, name: str) -> Any:
        make = _OF_CONNECTIONS.get(name)
        return super()._made(name) if make is None else make(self)


_EVENTS: Mapping[Any, str] = {AccessLogType.TcpConnectionEnd: "close", AccessLogType.TcpPeriodic: "continue"}
_OWN_HEADERS: Mapping[str, Callable[[Any], str]] = {
    ":authority": lambda request: request.authority,
    ":path": lambda request: request.original_path or request.path,
    ":scheme": lambda request: request.scheme,
    "user-agent": lambda request: request.user_agent,
    "referer": lambda request: request.referer,
    "x-forwarded-for": lambda request: request.forwarded_for,
    "x-request-id": lambda request: request.request_id,
}


def _sizes(bag: ReportBag) -> tuple[int, int]:
    return bag._request.request_body_bytes, bag._response.response_body_bytes


_COMMON: Mapping[str, Callable[[_EntryBag], Any]] = {
    "source.principal": lambda bag: without_scheme(bag._principal),
    "source.user": lambda bag: without_scheme(bag._principal),
    "source.ip": lambda bag: ip_of(bag._common.downstream_direct_remote_address.socket_address.address),
    "origin.ip": lambda bag: ip_of(bag._common.downstream_remote_address.socket_address.address),
    "connection.mtls": lambda bag: identity_of(bag._principal) is not None,
    "connection.requested_server_name": lambda bag: bag._common.tls_properties.tls_sni_hostname or None,
    "context.time": _EntryBag._started,
    "context.timestamp": _EntryBag._started,
    "context.proxy_error_code": _EntryBag._flags,
}
_OF_CONNECTIONS: Mapping[str, Callable[[ConnectionBag], Any]] = {
    "context.protocol": lambda bag: "tcp",
    "context.time": lambda bag: bag._started() + bag._duration(),
    "context.timestamp": lambda bag: bag._started() + bag._duration(),
    "connection.event": lambda bag: bag._event,
    "connection.id": lambda bag: bag._common.stream_id or None,
    "connection.received.bytes": lambda bag: bag._spent[0],
    "connection.received.bytes_total": lambda bag: bag._total[0],
    "connection.sent.bytes": lambda bag: bag._spent[1],
    "connection.sent.bytes_total": lambda bag: bag._total[1],
    "connection.duration": lambda bag: bag._duration() if bag._event == "close" else None,
}
_OF_REQUESTS: Mapping[str, Callable[[ReportBag], Any]] = {
    "check.cache_hit": ReportBag._cache_hit,
    "context.proxy_error_code": ReportBag._flags,
    "context.protocol": ReportBag._protocol,
    "request.time": ReportBag._started,
    "request.headers": lambda bag: dict(bag._request.request_headers),
    "request.id": lambda bag: bag._request.request_id or None,
    "request.host": lambda bag: bag._request.authority or None,
    "request.method": ReportBag._method,
    "request.path": ReportBag._path,
    "request.url_path": lambda bag: (bag._path() or "").partition("?")[0] or None,
    "request.query_params": lambda bag: query_of(bag._path() or ""),
    "request.scheme": lambda bag: bag._request.scheme or None,
    "request.useragent": lambda bag: bag._request.user_agent or None,
    "request.referer": lambda bag: bag._request.referer or None,
    "request.size": lambda bag: _sizes(bag)[0],
    "request.total_size": lambda bag: _sizes(bag)[0] + bag._request.request_headers_bytes,
    "response.code": lambda bag: bag._response.response_code.value,
    "response.duration": ReportBag._duration,
    "response.time": lambda bag: bag._started() + bag._duration(),
    "response.headers": lambda bag: dict(bag._response.response_headers),
    "response.size": lambda bag: _sizes(bag)[1],
    "response.total_size": lambda bag: _sizes(bag)[1] + bag._response.response_headers_bytes,
    "response.grpc_status": lambda bag: (
        bag._response.response_trailers.get("grpc-status") or bag._response.response_headers.get("grpc-status")
    ),
    "response.grpc_message": lambda bag: (
        bag._response.response_trailers.get("grpc-message") or bag._response.response_headers.get("grpc-message")
    ),
}
ATTRIBUTES = frozenset((*_COMMON, *_OF_REQUESTS, *_OF_CONNECTIONS))
"""What reports tell by themselves, beside what is known of the two workloads."""
