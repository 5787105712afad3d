"""What is asked of a walk: one connection with one request on it.

Comes in: nothing. These are the values that ``simulate`` and its callers share.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

import msgspec

DEFAULT_ADDRESS = "1.3.3.7"
DEFAULT_SOURCE = "127.0.0.1"
STANDARD_PORTS = (80, 443)


class Mode(enum.Enum):
    """Where a connection is seen from: captured on its way out or in, or straight at a gateway's port."""

    OUTBOUND = "outbound"
    INBOUND = "inbound"
    GATEWAY = "gateway"


class Tls(enum.Enum):
    """What a client does: nothing, TLS, or TLS with a client certificate."""

    PLAINTEXT = "plaintext"
    TLS = "tls"
    MTLS = "mtls"


class Protocol(enum.Enum):
    """What a client speaks, inside TLS where there is any."""

    TCP = "tcp"
    HTTP = "http"
    HTTP2 = "http2"

    @property
    def is_http(self) -> bool:
        return self is not Protocol.TCP


MESH_ALPN = {Protocol.TCP: "istio", Protocol.HTTP: "istio-http/1.1", Protocol.HTTP2: "istio-h2"}
STANDARD_ALPN = {Protocol.TCP: "", Protocol.HTTP: "http/1.1", Protocol.HTTP2: "h2"}


class Call(msgspec.Struct, frozen=True):
    """One connection with one request on it. ``host`` is the authority; ``address`` and ``port`` where it goes.

    ``alpn`` and ``sni`` None: what a client of this kind says by itself. ``certificate`` is the secret that the client
    wants the server to show, empty for any. Header names are in lower case. ``identity`` is the URI of the client's
    certificate (of ``mtls`` calls), ``source`` its address, ``claims`` those of a token that is signed as it should be.
    ``now``: the time (Unix seconds) by which that token is judged; None: it is valid.
    """

    port: int
    mode: Mode
    address: str = DEFAULT_ADDRESS
    protocol: Protocol = Protocol.TCP
    tls: Tls = Tls.PLAINTEXT
    host: str = ""
    path: str = "/"
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    alpn: str | None = None
    sni: str | None = None
    certificate: str = ""
    identity: str = ""
    source: str = DEFAULT_SOURCE
    claims: Mapping[str, Any] | None = None
    now: float | None = None

    @property
    def authority(self) -> str:
        """The host that the request names; of a client that was given an address alone, that address."""
        if self.host:
            return self.host
        address = f"[{self.address}]" if ":" in self.address else self.address
        return address if self.port in STANDARD_PORTS else f"{address}:{self.port}"

    @property
    def spoken_alpn(self) -> str:
        """What the client offers; empty outside TLS, and where it offers nothing."""
        if self.tls is Tls.PLAINTEXT:
            return ""
        if self.alpn is not None:
            return self.alpn
        return (MESH_ALPN if self.tls is Tls.MTLS else STANDARD_ALPN)[self.protocol]

    @property
    def server_name(self) -> str:
        """The server name that the client sends; empty outside TLS."""
        if self.tls is Tls.PLAINTEXT:
            return ""
        return (self.sni if self.sni is not None else self.host.partition(":")[0]).lower()
