"""From what is said of traces to what a proxy does: the collector as this proxy reaches it, and the tags of its spans.

Comes in: the snapshot, the proxy, and the side. Goes out: ``Tracing``, or None where nothing is traced or the collector
is not in the mesh.
"""

from __future__ import annotations

from collections.abc import Mapping

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.providers import content_of, provider_named, service_behind
from lateen.mesh.tracing_policy import TracingPolicy, tracing_policy
from lateen.plan.names import outbound_cluster
from lateen.plan.proxy import Proxy
from lateen.plan.tracing import (
    Collector,
    DatadogCollector,
    Headers,
    OpenTelemetryCollector,
    SkywalkingCollector,
    TraceTag,
    Tracing,
    ZipkinCollector,
)
from lateen.resources.mesh_config import (
    OpentelemetryHttp,
    OpentelemetryProvider,
    ProviderHeader,
    RemoteProvider,
    SkywalkingProvider,
    TracingProvider,
    ZipkinProvider,
)
from lateen.resources.telemetry import CustomTag
from lateen.values.canonical import canonical_names

ZIPKIN_PATH = "/api/v2/spans"
ZIPKIN_TIMEOUT_S = 5.0
OTLP_PATH = "/v1/traces"
OTLP_TIMEOUT_S = 3.0
BY_SEMANTIC_CONVENTIONS = "OTEL_SEMANTIC_CONVENTIONS"


def traced(snapshot: MeshSnapshot, proxy: Proxy, mode: str) -> Tracing | None:
    """How one side of a proxy traces; ``mode`` is CLIENT or SERVER."""
    policy = tracing_policy(snapshot, proxy.namespace, proxy.labels, mode)
    provider = provider_named(snapshot.mesh_config, policy.provider) if policy.provider else None
    said = None if provider is None else content_of(provider)
    if not isinstance(said, RemoteProvider):
        return None
    service = service_behind(snapshot.services, said)
    collector = None if service is None else _collector(said, service.hostname, proxy)
    if collector is None:
        return None
    return Tracing(
        collector=collector,
        sampling=policy.sampling,
        reports=policy.reports,
        tags=_tags(policy, snapshot, proxy),
        longest_path=_longest_path(said, snapshot),
        by_request_id=policy.by_request_id,
        propagates=policy.propagates,
    )


def _collector(said: RemoteProvider, hostname: str, proxy: Proxy) -> Collector | None:
    cluster, host = outbound_cluster(said.port, "", hostname), f"{hostname}:{said.port}"
    canonical, revision = canonical_names(proxy.workload, dict(proxy.labels))
    name = f"{canonical}.{proxy.namespace}"
    if isinstance(said, ZipkinProvider):
        return ZipkinCollector(
            cluster,
            host,
            path=said.path or ZIPKIN_PATH,
            timeout=ZIPKIN_TIMEOUT_S if said.timeout is None else float(said.timeout),
            headers=_headers(said.headers),
            wide_ids=not said.enable_64bit_trace_id,
            w3c=said.trace_context_option == "USE_B3_WITH_W3C_PROPAGATION",
        )
    if isinstance(said, OpentelemetryProvider):
        by_conventions = said.service_attribute_enrichment == BY_SEMANTIC_CONVENTIONS
        told = (
            ("service.instance.id", f"{proxy.namespace}.{proxy.id}"),
            ("service.namespace", proxy.namespace),
            ("service.version", revision),
        )
        return OpenTelemetryCollector(
            cluster,
            host,
            service=canonical if by_conventions else name,
            path=_otlp_path(said.http),
            timeout=otlp_timeout(said),
            headers=otlp_headers(said),
            attributes=told if by_conventions else (),
            detectors=tuple(sorted(said.resource_detectors or ())),
        )
    if isinstance(said, SkywalkingProvider):
        return SkywalkingCollector(cluster, name, proxy.id, said.access_token)
    return DatadogCollector(cluster, host, name) if type(said) is TracingProvider else None


def _otlp_path(http: OpentelemetryHttp | None) -> str:
    return "" if http is None else http.path or OTLP_PATH


def otlp_timeout(said: OpentelemetryProvider) -> float | None:
    """How long a collector may take, in seconds; None where it is not said."""
    if said.http is not None:
        return OTLP_TIMEOUT_S if said.http.timeout is None else float(said.http.timeout)
    return None if said.grpc is None or said.grpc.timeout is None else float(said.grpc.timeout)


def otlp_headers(said: OpentelemetryProvider) -> Headers:
    """What goes along with each message to a collector."""
    if said.http is not None:
        return _headers(said.http.headers)
    return () if said.grpc is None else _headers(said.grpc.initial_metadata)


def _headers(said: tuple[ProviderHeader, ...]) -> Headers:
    return tuple(
        (
            header.name,
            f"%ENVIRONMENT({header.env_name})%" if header.env_name else (header.value or "").replace("%", "%%"),
        )
        for header in said
    )


def _longest_path(said: RemoteProvider, snapshot: MeshSnapshot) -> int | None:
    own = said.max_tag_length if isinstance(said, TracingProvider) else None
    config = snapshot.mesh_config.default_config
    usual = config.tracing.max_path_tag_length if config is not None and config.tracing is not None else None
    return own or usual


def _tags(policy: TracingPolicy, snapshot: MeshSnapshot, proxy: Proxy) -> tuple[TraceTag, ...]:
    tags: dict[str, TraceTag] = {}
    if policy.own_tags:
        service, revision = canonical_names(proxy.workload, dict(proxy.labels))
        for name, value in (
            ("canonical_revision", revision),
            ("canonical_service", service),
            ("mesh_id", snapshot.settings.trust_domain),
            ("namespace", proxy.namespace),
        ):
            tags[f"istio.{name}"] = TraceTag(f"istio.{name}", "literal", value)
    tags.update(_custom(policy.tags))
    return tuple(tag for _, tag in sorted(tags.items()))


def _custom(said: Mapping[str, CustomTag]) -> dict[str, TraceTag]:
    found: dict[str, TraceTag] = {}
    for name, tag in said.items():
        if tag.literal is not None:
            found[name] = TraceTag(name, "literal", tag.literal.value)
        elif tag.environment is not None:
            found[name] = TraceTag(name, "environment", tag.environment.name, tag.environment.default_value)
        elif tag.header is not None:
            found[name] = TraceTag(name, "header", tag.header.name, tag.header.default_value)
        elif tag.formatter is not None:
            found[name] = TraceTag(name, "formatter", tag.formatter.value)
    return found
