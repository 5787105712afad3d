"""Protocols of ports, and Istio's rules for reading them from ``appProtocol`` and port names."""

from __future__ import annotations

import enum


class Protocol(enum.Enum):
    """What a port speaks, as far as it was declared."""

    HTTP = "HTTP"
    HTTP2 = "HTTP2"
    GRPC = "GRPC"
    GRPC_WEB = "GRPC-WEB"
    HTTPS = "HTTPS"
    TLS = "TLS"
    TCP = "TCP"
    MONGO = "MONGO"
    REDIS = "REDIS"
    MYSQL = "MYSQL"
    UDP = "UDP"
    UNSPECIFIED = ""

    @property
    def is_http(self) -> bool:
        """Plain HTTP of any version: routes apply."""
        return self in _HTTP

    @property
    def is_http2(self) -> bool:
        """The upstream is spoken to in HTTP/2."""
        return self in _HTTP2

    @property
    def is_tls(self) -> bool:
        """TLS that the application itself speaks; only SNI can be seen."""
        return self in (Protocol.HTTPS, Protocol.TLS)


_HTTP2 = frozenset({Protocol.HTTP2, Protocol.GRPC, Protocol.GRPC_WEB})
_HTTP = _HTTP2 | {Protocol.HTTP}
_SERVER_FIRST_PORTS = frozenset({25, 53, 3306, 27017})
_BY_NAME = {protocol.value.lower(): protocol for protocol in Protocol if protocol.value}
_BY_APP_PROTOCOL = {
    "kubernetes.io/h2c": Protocol.HTTP2,
    "kubernetes.io/ws": Protocol.HTTP,
    "kubernetes.io/wss": Protocol.HTTPS,
}


def parse_protocol(text: str) -> Protocol | None:
    """Read a protocol's own name (``HTTP``, ``grpc-web``) in any case; None if there is no such protocol."""
    return _BY_NAME.get(text.lower()) if text else Protocol.UNSPECIFIED


def protocol_of_port(name: str, app_protocol: str = "", transport: str = "TCP", number: int = 0) -> Protocol:
    """What a service port speaks: UDP by transport, else ``appProtocol``, else the name up to its first dash.

    Where those say nothing, ports of well-known protocols whose server speaks first are TCP, the others UNSPECIFIED.
    """
    if transport.upper() == "UDP":
        return Protocol.UDP
    if app_protocol:
        known = _BY_APP_PROTOCOL.get(app_protocol.lower()) or _BY_NAME.get(app_protocol.lower())
        return known or undeclared(number)
    lowered = name.lower()
    if lowered == "grpc-web" or lowered.startswith("grpc-web-"):
        return Protocol.GRPC_WEB
    return _BY_NAME.get(lowered.partition("-")[0]) or undeclared(number)


def speaks_first(protocol: Protocol, number: int) -> bool:
    """Whether the server is known to speak before its client does."""
    return protocol in (Protocol.MYSQL, Protocol.MONGO) or (protocol is Protocol.TCP and number in _SERVER_FIRST_PORTS)


def undeclared(number: int) -> Protocol:
    """What a port is taken for whose protocol nobody says: TCP where the server is known to speak first."""
    return Protocol.TCP if number in _SERVER_FIRST_PORTS else Protocol.UNSPECIFIED
