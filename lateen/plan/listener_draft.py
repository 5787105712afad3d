"""An outbound listener while it is put together: services that share an address and port share it.

Comes in: chains, oldest service first. Goes out: one ``Listener``. HTTP and bytes on one socket are told apart by the
first bytes. Envoy refuses chains that match alike, so what an earlier chain takes is cut out of a later one; a chain of
which nothing is left is a conflict, and the earlier one stands.

Envoy looks for a chain by address block, then server name, transport protocol and application protocol, and never goes
back: having found the narrowest block, it forgets the wider ones. So what is to hold in a narrower block too is said
for it once more, and so is what is to hold for bytes that are not TLS beside HTTP.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from functools import lru_cache

from msgspec.structs import replace

from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener, TcpChain
from lateen.plan.proxy import Bind
from lateen.settings import Settings
from lateen.values.names import Origin

HTTP_ALPN = ("http/1.1", "h2c")
RAW = "raw_buffer"
ANY_IPV6 = "::"

_Place = tuple[str, tuple[str, ...], str, bool]
"""A block of destinations, blocks of sources, a server name (empty: any), and whether only HTTP is meant."""


class ListenerDraft:
    """The chains of one address and port.

    ``fallback`` takes connections that no chain takes. ``is_open``: connections to other addresses than those of the
    services arrive here too, so that not everything is what the services speak.
    """

    def __init__(self, name: str, bind: Bind, fallback: Chain, *, is_open: bool, bind_to_port: bool) -> None:
        self._name = name
        self._bind = bind
        self._fallback = fallback
        self._is_open = is_open
        self._bind_to_port = bind_to_port
        self._chains: list[Chain] = []
        self._taken: dict[_Place, Chain] = {}

    def add(self, chain: Chain, others: Iterable[str] = ()) -> Origin | None:
        """Take a chain in, without what earlier ones took; where nothing of it is left, the origin of who took it.

        HTTP chains with the same route table are one. ``others``: blocks of addresses that chains of the same service
        name; where they lie within this chain's, it holds there too.
        """
        match, is_http = chain.match, isinstance(chain.action, HttpChain)
        sources = tuple(map(_block, match.source_ranges))
        left: dict[tuple[bool, tuple[str, ...]], list[str]] = {}
        earlier = chain
        own = [_block(text) for text in match.prefix_ranges or ("",)]
        narrower = [block for block in map(_block, others) if any(_within(block, wide) for wide in own)]
        for prefix in dict.fromkeys((*own, *narrower)):
            free = []
            for server in dict.fromkeys(match.server_names or ("",)):
                owner = self._taken.setdefault((prefix, sources, server, is_http), chain)
                if owner is chain:
                    free.append(server)
                elif earlier is chain:
                    earlier = owner
            if free:
                left.setdefault((prefix == "", tuple(free)), []).append(prefix)
        for number, ((_, servers), prefixes) in enumerate(left.items()):
            rest = replace(match, prefix_ranges=_named(prefixes), server_names=_named(servers))
            self._chains.append(replace(chain, name=f"{chain.name}-{number}" if number else chain.name, match=rest))
        return None if left or self._shares(earlier, chain) else earlier.origin

    def _shares(self, earlier: Chain, chain: Chain) -> bool:
        """Whether a chain only repeats an earlier one; what an HTTP chain alone needs is added to that one."""
        one, other = earlier.action, chain.action
        if (one, earlier.origin) == (other, chain.origin):
            return True
        if not isinstance(one, HttpChain) or not isinstance(other, HttpChain) or one.route_table != other.route_table:
            return False
        joined = replace(one, grpc=one.grpc or other.grpc, grpc_web=one.grpc_web or other.grpc_web)
        if joined != one:
            self._chains = [replace(known, action=joined) if known.action == one else known for known in self._chains]
        return True

    def listener(self, settings: Settings) -> Listener:
        """What became of it."""
        speaks_http = any(isinstance(chain.action, HttpChain) for chain in self._chains)
        sniffs = speaks_http and (self._is_open or not all(isinstance(c.action, HttpChain) for c in self._chains))
        opaque = next((c for c in self._chains if c.match == ChainMatch() and isinstance(c.action, TcpChain)), None)
        takes_all = any(chain.match == ChainMatch() for chain in self._chains)
        default: Chain | None
        if sniffs:
            chains, default = tuple(_sniffed(self._chains, settings)), opaque or self._fallback
        else:
            chains, default = tuple(self._chains), (None if takes_all else self._fallback)
        return Listener(
            name=self._name,
            bind=self._bind,
            other_addresses=(ANY_IPV6,) if self._is_open and _names_ipv6(chains) else (),
            direction="outbound",
            chains=chains,
            origin=self._chains[0].origin,
            default_chain=default,
            bind_to_port=self._bind_to_port,
            inspect_tls=sniffs or any(chain.match.server_names for chain in chains),
            inspect_http=sniffs,
            sniffing_limit=settings.protocol_detection_timeout,
        )


def _sniffed(chains: Iterable[Chain], settings: Settings) -> Iterator[Chain]:
    """The chains where HTTP is told by the first bytes, but for one that takes all bytes: that is the default."""
    http = [chain for chain in chains if isinstance(chain.action, HttpChain)]
    blocks = {prefix for chain in http for prefix in chain.match.prefix_ranges or ("",)}
    protocols = http_protocols(settings)
    for chain in chains:
        match = chain.match
        if isinstance(chain.action, HttpChain):
            yield replace(chain, match=replace(match, transport_protocol=RAW, application_protocols=protocols))
        elif match != ChainMatch():
            yield chain
            beside = [prefix for prefix in match.prefix_ranges or ("",) if prefix in blocks]
            if beside and not match.server_names:
                raw = replace(match, prefix_ranges=_named(beside), transport_protocol=RAW)
                yield replace(chain, name=f"{chain.name}-raw", match=raw)


def http_protocols(settings: Settings) -> tuple[str, ...]:
    """What counts as HTTP where it is told by the first bytes; HTTP/1.0 only where it is accepted."""
    return ("http/1.0", *HTTP_ALPN) if settings.http10 else HTTP_ALPN


def _names_ipv6(chains: Iterable[Chain]) -> bool:
    return any(":" in prefix for chain in chains for prefix in chain.match.prefix_ranges)


def _named(texts: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text)


@lru_cache(maxsize=8192)
def _block(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False)) if text else ""


@lru_cache(maxsize=8192)
def _within(block: str, wide: str) -> bool:
    """Whether a block of addresses lies within another; an empty one is every address."""
    if not wide or not block:
        return not wide
    inner, outer = ipaddress.ip_network(block), ipaddress.ip_network(wide)
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
