"""An outbound listener while it is put together: services that share an address and port share it.

Comes in: chains, oldest service first. Goes out: one ``Listener``. HTTP and bytes on one socket are told apart by the
first bytes. Envoy refuses chains that match alike, so what an earlier chain takes is cut out of a later one; a chain of
which nothing is left is a conflict, and the earlier one stands.
"""

from __future__ import annotations

import ipaddress

from msgspec.structs import replace

from lateen.plan.model import Chain, ChainMatch, HttpChain, Listener
from lateen.plan.proxy import Bind
from lateen.settings import Settings
from lateen.values.names import Origin

HTTP_ALPN = ("http/1.1", "h2c")
RAW = "raw_buffer"

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

    def add(self, chain: Chain) -> Origin | None:
        """Take a chain in, without what earlier ones took; where nothing of it is left, the origin of who took it.

        HTTP chains with the same route table are one.
        """
        match, is_http = chain.match, isinstance(chain.action, HttpChain)
        left: dict[tuple[str, ...], list[str]] = {}
        earlier = chain
        for prefix in dict.fromkeys(_block(text) for text in match.prefix_ranges or ("",)):
            free = []
            for server in dict.fromkeys(match.server_names or ("",)):
                owner = self._taken.setdefault((prefix, match.source_ranges, server, is_http), chain)
                if owner is chain:
                    free.append(server)
                elif earlier is chain:
                    earlier = owner
            if free:
                left.setdefault(tuple(free), []).append(prefix)
        for number, (servers, prefixes) in enumerate(left.items()):
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
        if other.grpc_web and not one.grpc_web:
            self._chains = [
                replace(known, action=replace(known.action, grpc_web=True)) if known.action == one else known
                for known in self._chains
            ]
        return True

    def listener(self, settings: Settings) -> Listener:
        """What became of it."""
        speaks_http = any(isinstance(chain.action, HttpChain) for chain in self._chains)
        sniffs = speaks_http and (self._is_open or not all(isinstance(c.action, HttpChain) for c in self._chains))
        chains = tuple(_sniffed(chain, settings) for chain in self._chains) if sniffs else tuple(self._chains)
        takes_all = any(chain.match == ChainMatch() for chain in chains)
        return Listener(
            name=self._name,
            bind=self._bind,
            direction="outbound",
            chains=chains,
            origin=self._chains[0].origin,
            default_chain=None if takes_all else self._fallback,
            bind_to_port=self._bind_to_port,
            inspect_tls=sniffs or any(chain.match.server_names for chain in chains),
            inspect_http=sniffs,
            sniffing_limit=settings.protocol_detection_timeout,
        )


def _sniffed(chain: Chain, settings: Settings) -> Chain:
    if not isinstance(chain.action, HttpChain):
        return chain
    protocols = http_protocols(settings)
    return replace(chain, match=replace(chain.match, transport_protocol=RAW, application_protocols=protocols))


def http_protocols(settings: Settings) -> tuple[str, ...]:
    """What counts as HTTP where it is told by the first bytes; HTTP/1.0 only where it is accepted."""
    return ("http/1.0", *HTTP_ALPN) if settings.http10 else HTTP_ALPN


def _named(texts: tuple[str, ...] | list[str]) -> tuple[str, ...]:
    return tuple(text for text in texts if text)


def _block(text: str) -> str:
    return str(ipaddress.ip_network(text, strict=False)) if text else ""
