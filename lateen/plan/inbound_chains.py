"""The filter chains of one inbound port, or of all ports that nothing names.

Comes in: what the port speaks, which TLS it takes, and what becomes of HTTP and of other bytes. Goes out: ``Chain``
values under one name, as Istio has them:

| | declared HTTP | declared TCP | not declared |
|---|---|---|---|
| STRICT | mesh TLS | mesh TLS | mesh TLS by its ALPN: HTTP, else bytes |
| PERMISSIVE | mesh TLS; plain text | mesh TLS; plain; other TLS as it comes | HTTP by ALPN or first bytes, else bytes |
| DISABLE | as it comes | as it comes | HTTP by its first bytes, else bytes |
"""

from __future__ import annotations

import msgspec

from lateen.mesh.security_policy import MtlsMode
from lateen.plan.listener_draft import RAW
from lateen.plan.model import Chain, ChainMatch, HttpChain, TcpChain
from lateen.plan.tls import ServerTls
from lateen.values.names import Origin

TLS = "tls"
MESH_HTTP = ("istio-http/1.0", "istio-http/1.1", "istio-h2")
MESH_TCP = ("istio-peer-exchange", "istio")
MESH_ANY = (*MESH_HTTP, *MESH_TCP)


class ChainNames(msgspec.Struct, frozen=True):
    """What chains are called that speak HTTP, and those that pass bytes on."""

    http: str
    tcp: str


class ChainParts(msgspec.Struct, frozen=True):
    """What the chains of one port are made of. ``http`` or ``tcp`` None: the port never speaks it.

    ``mesh_tls`` ends the mesh's TLS; ``sniffed``: the protocols by which plain HTTP is told from other bytes.
    """

    names: ChainNames
    port: int | None
    origin: Origin
    mesh_tls: ServerTls
    sniffed: tuple[str, ...]
    http: HttpChain | None = None
    tcp: TcpChain | None = None

    def chain(self, action: HttpChain | TcpChain, transport: str, alpn: tuple[str, ...] = (), *, ends: bool) -> Chain:
        name = self.names.http if isinstance(action, HttpChain) else self.names.tcp
        match = ChainMatch(self.port, transport_protocol=transport, application_protocols=alpn)
        return Chain(name, match, action, self.origin, self.mesh_tls if ends else None)


def inbound_chains(parts: ChainParts, mode: MtlsMode) -> tuple[Chain, ...]:
    """The chains in order. Envoy takes the one that matches best, and does not go back from ``raw_buffer`` to what
    matches any transport: where one chain names it, others have to."""
    found: list[Chain] = []
    both = parts.http is not None and parts.tcp is not None
    strict, plain = mode is MtlsMode.STRICT, mode is MtlsMode.DISABLE
    if parts.http is not None:
        if not plain:
            found.append(parts.chain(parts.http, TLS, _mesh_alpn(MESH_HTTP, strict, both), ends=True))
        if not strict:
            transport = "" if plain and not both else RAW
            found.append(parts.chain(parts.http, transport, parts.sniffed if both else (), ends=False))
    if parts.tcp is not None:
        if not plain:
            found.append(parts.chain(parts.tcp, TLS, () if strict else MESH_TCP if both else MESH_ANY, ends=True))
        if plain and not both:
            found.append(parts.chain(parts.tcp, "", ends=False))
        elif not strict:
            found.append(parts.chain(parts.tcp, RAW, ends=False))
            found.append(parts.chain(parts.tcp, TLS, ends=False))
    return tuple(found)


def _mesh_alpn(http: tuple[str, ...], strict: bool, both: bool) -> tuple[str, ...]:
    if both:
        return http
    return () if strict else MESH_ANY


def foreign_chains(parts: ChainParts, tls: ServerTls) -> tuple[Chain, ...]:
    """The chain of a port that ends TLS for clients outside of the mesh: nothing else is taken."""
    action = parts.http or parts.tcp
    if action is None:
        return ()
    chain = parts.chain(action, TLS, ends=False)
    return (msgspec.structs.replace(chain, tls=tls),)
