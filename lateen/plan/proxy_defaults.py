"""What ``defaultConfig`` of the MeshConfig changes in plans: headers, connections, and who stands before gateways.

Comes in: the block, and parts of a plan. Goes out: the same parts with it. Rules: ``connectionSettings`` and
``proxyHeaders`` hold for every proxy, ``gatewayTopology`` for gateways; what a chain says by itself (an idle timeout)
is stronger; the profile EDGE gives values where the block has none.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec.structs import replace

from lateen.plan.answer_counts import includes_answer_counts
from lateen.plan.clusters import Cluster
from lateen.plan.model import Chain, Destinations, HttpChain, HttpOptions, Listener
from lateen.plan.routes import RouteTable
from lateen.resources.proxy_config import (
    CertificateDetails,
    ConnectionSettings,
    DefaultConfig,
    Disabled,
    GatewayTopology,
    ProxyHeaders,
    ServerHeader,
    StatsMatcher,
)

EDGE = ConnectionSettings(
    http_max_concurrent_streams=100,
    http2_initial_stream_window_size=65_536,
    http2_initial_connection_window_size=1_048_576,
    http_headers_with_underscores_action="HEADERS_WITH_UNDERSCORES_REJECT_REQUEST",
    http_path_with_escaped_slashes_action="UNESCAPE_AND_REDIRECT",
)
"""What the profile EDGE stands for: for proxies that strangers call."""


class ProxyDefaults:
    """Applies one ``defaultConfig`` to parts of plans."""

    def __init__(self, config: DefaultConfig) -> None:
        self._headers = config.proxy_headers or ProxyHeaders()
        self._topology = config.gateway_topology or GatewayTopology()
        self._statistics = config.proxy_stats_matcher or StatsMatcher()
        settings = config.connection_settings or ConnectionSettings()
        self._settings = _over(settings, EDGE) if settings.profile == "EDGE" else settings
        self._options = self._http_options()

    # --- listeners -----------------------------------------------------------------------------------------------

    def listeners(self, listeners: tuple[Listener, ...]) -> tuple[Listener, ...]:
        return tuple(self._listener(listener) for listener in listeners)

    def _listener(self, listener: Listener) -> Listener:
        chains = tuple(self._chain(chain) for chain in listener.chains)
        default = self._chain(listener.default_chain) if listener.default_chain is not None else None
        ours = (*chains, default) if default is not None else chains
        at_gateway = listener.at_edge or any(
            isinstance(chain.action, HttpChain) and chain.action.trust_edge for chain in ours
        )
        return replace(
            listener,
            chains=chains,
            default_chain=default,
            buffer_limit=self._settings.listener_per_connection_buffer_limit_bytes,
            proxy_protocol=at_gateway and self._topology.proxy_protocol is not None,
        )

    def _chain(self, chain: Chain) -> Chain:
        return replace(chain, action=self._http(chain.action)) if isinstance(chain.action, HttpChain) else chain

    def _http(self, chain: HttpChain) -> HttpChain:
        options, server = self._options, self._headers.server or ServerHeader()
        if chain.trust_edge:
            options = replace(options, trusted_proxies=self._topology.num_trusted_proxies)
        name = chain.server_name and ("" if server.disabled else server.value or chain.server_name)
        return replace(chain, options=options, server_name=name, forwarded_client_cert=self._client_certificate(chain))

    def _client_certificate(self, chain: HttpChain) -> str:
        """Where callers show certificates, that is at gateways and at the server's sidecar."""
        if chain.forwarded_client_cert == "sanitize":
            return "sanitize"
        said = self._headers.forwarded_client_cert
        if chain.trust_edge and self._topology.forward_client_cert_details not in (None, "UNDEFINED"):
            said = self._topology.forward_client_cert_details
        return chain.forwarded_client_cert if said in (None, "UNDEFINED") else str(said).lower()

    def _http_options(self) -> HttpOptions:
        headers, settings = self._headers, self._settings
        underscores = settings.http_headers_with_underscores_action or ""
        slashes = settings.http_path_with_escaped_slashes_action or ""
        return HttpOptions(
            certificate_details=_shown(headers.set_current_client_cert_details),
            request_id=not (headers.request_id or Disabled()).disabled,
            debug_headers=not (headers.envoy_debug_headers or Disabled()).disabled,
            counts_answers=includes_answer_counts(self._statistics),
            keeps_header_case=bool(headers.preserve_http1_header_case),
            forwarded_port=bool(headers.x_forwarded_port and headers.x_forwarded_port.enabled),
            idle_timeout=_seconds(settings.http_idle_timeout),
            max_connection_duration=_seconds(settings.http_max_connection_duration),
            drain_timeout=_seconds(settings.http_drain_timeout),
            request_timeout=_seconds(settings.http_request_timeout),
            request_headers_timeout=_seconds(settings.http_request_headers_timeout),
            stream_idle_timeout=_seconds(settings.http_stream_idle_timeout) or 0.0,
            max_stream_duration=_seconds(settings.http_max_stream_duration),
            max_concurrent_streams=settings.http_max_concurrent_streams,
            stream_window=settings.http2_initial_stream_window_size,
            connection_window=settings.http2_initial_connection_window_size,
            underscores="" if underscores.endswith("UNSPECIFIED") else underscores.removeprefix(_UNDERSCORES),
            merge_slashes=settings.http_merge_slashes,
            escaped_slashes="" if slashes.endswith("UNSPECIFIED") else slashes,
        )

    # --- destinations and routes ----------------------------------------------------------------------------------

    def destinations(self, destinations: Destinations) -> Destinations:
        return replace(destinations, clusters=self.clusters(destinations.clusters))

    def clusters(self, clusters: tuple[Cluster, ...]) -> tuple[Cluster, ...]:
        limit = self._settings.cluster_per_connection_buffer_limit_bytes
        keeps = self._options.keeps_header_case
        if limit is None and not keeps:
            return clusters
        return tuple(replace(cluster, buffer_limit=limit, keeps_header_case=keeps) for cluster in clusters)

    def tables(self, tables: tuple[RouteTable, ...]) -> tuple[RouteTable, ...]:
        """Route tables, with X-Envoy-Attempt-Count or without it."""
        if not (self._headers.attempt_count and self._headers.attempt_count.disabled):
            return tables
        return tuple(
            replace(table, virtual_hosts=tuple(replace(host, counts_attempts=False) for host in table.virtual_hosts))
            for table in tables
        )


_UNDERSCORES = "HEADERS_WITH_UNDERSCORES_"


def _over(settings: ConnectionSettings, usual: ConnectionSettings) -> ConnectionSettings:
    """The settings, with the usual ones where they say nothing."""
    return replace(
        usual,
        **{
            field.name: value
            for field in msgspec.structs.fields(settings)
            if (value := getattr(settings, field.name)) is not None
        },
    )


def _seconds(value: Any) -> float | None:
    return None if value is None else float(value)


def _shown(said: CertificateDetails | None) -> tuple[str, ...] | None:
    """What goes into X-Forwarded-Client-Cert, where that is said."""
    if said is None:
        return None
    usual = {"subject": True, "cert": False, "chain": False, "dns": True, "uri": True}
    return tuple(name for name, shown in usual.items() if (shown if (own := getattr(said, name)) is None else own))
