"""Which providers can do what in telemetry, and findings on names that lead to none.

Comes in: Telemetry resources, the MeshConfig and the services. Goes out: errors; what a provider that is not there
would be told is told to nobody, and everything else goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from lateen.findings import Finding, error, warning
from lateen.mesh.model import Service
from lateen.mesh.providers import content_of, provider_named, service_behind
from lateen.resources.mesh_config import (
    MeshConfigSpec,
    OpentelemetryProvider,
    OtelAccessLogService,
    RemoteProvider,
    SkywalkingProvider,
    TcpAccessLogService,
)
from lateen.resources.resource import Resource
from lateen.resources.telemetry_support import LOG_PROVIDER, METRICS_PROVIDER
from lateen.values.names import Origin


class _Use(NamedTuple):
    """What a name is given for: the word for it, the kinds that can do it, what is there by itself, what to write."""

    word: str
    kinds: tuple[str, ...]
    built_in: tuple[str, ...]
    remedy: str


TRACES = _Use(
    "traces",
    ("zipkin", "opentelemetry", "skywalking", "datadog"),
    (),
    "define it as zipkin, opentelemetry, datadog or skywalking",
)
LOGS = _Use(
    "access logs",
    ("envoy_file_access_log", "envoy_http_als", "envoy_tcp_als", "envoy_otel_als"),
    (LOG_PROVIDER,),
    f"write {LOG_PROVIDER}, or define it as envoyFileAccessLog, envoyHttpAls, envoyTcpAls or envoyOtelAls",
)
METRICS = _Use(
    "metrics",
    ("prometheus", "opentelemetry"),
    (METRICS_PROVIDER,),
    f"write {METRICS_PROVIDER}, or define it as opentelemetry",
)


class _Named(NamedTuple):
    name: str
    use: _Use
    origin: Origin


def unknown_providers(
    resources: Iterable[Resource], mesh_config: Resource | None, services: Mapping[str, Service]
) -> Iterator[Finding]:
    """Errors on names that no provider of that use has, and on providers whose service the mesh does not have."""
    config: MeshConfigSpec = mesh_config.spec if mesh_config is not None else MeshConfigSpec()
    named = [found for resource in resources for found in _named(resource)]
    if mesh_config is not None:
        named.extend(_defaults(mesh_config))
    for name, use, origin in named:
        provider = provider_named(config, name)
        if provider is None and name in use.built_in:
            continue
        content = None if provider is None else content_of(provider)
        if provider is None or all(getattr(provider, kind) is None for kind in use.kinds):
            message = f"there is no provider {name} for {use.word} in the MeshConfig, so nothing is told to it"
            yield error("unknown-provider", message, origin, use.remedy)
        elif isinstance(content, RemoteProvider):
            yield from _reached(content, services, name, origin)


def overrides_for_some(resources: Iterable[Resource]) -> Iterator[Finding]:
    """Warnings where a metric is meant to be different for one provider alone: a proxy makes each metric once."""
    for resource in resources:
        every = {provider.name for entry in resource.spec.metrics for provider in entry.providers}
        for index, entry in enumerate(resource.spec.metrics):
            others = every - {provider.name for provider in entry.providers}
            if entry.overrides and entry.providers and others:
                message = f"these overrides hold for {', '.join(sorted(others))} too: a proxy makes each metric once"
                origin = resource.origin_at(f"spec.metrics[{index}].overrides")
                yield warning("overrides-for-all", message, origin, "write them into an entry without providers")


def _reached(said: RemoteProvider, services: Mapping[str, Service], name: str, origin: Origin) -> Iterator[Finding]:
    service = service_behind(services, said)
    if service is None:
        message = f"provider {name} is port {said.port} of {said.service}, which the mesh does not have"
        remedy = "correct service or port of the provider; a server outside the mesh needs a ServiceEntry"
        yield error("unknown-provider-service", message, origin, remedy)
        return
    port = next(port for port in service.ports if port.number == said.port)
    over_grpc = isinstance(said, TcpAccessLogService | OtelAccessLogService | SkywalkingProvider) or (
        isinstance(said, OpentelemetryProvider) and said.http is None
    )
    if over_grpc and not port.protocol.is_http2:
        message = f"provider {name} is called over gRPC, but port {said.port} of {service.hostname} is not declared so"
        yield warning("provider-protocol", message, origin, "name the port grpc, or set appProtocol: grpc")


def _named(resource: Resource) -> Iterator[_Named]:
    spec = resource.spec
    for field, use, entries in (
        ("tracing", TRACES, spec.tracing),
        ("metrics", METRICS, spec.metrics),
        ("accessLogging", LOGS, spec.access_logging),
    ):
        for index, entry in enumerate(entries):
            for number, provider in enumerate(entry.providers):
                if provider.name:
                    place = f"spec.{field}[{index}].providers[{number}].name"
                    yield _Named(provider.name, use, resource.origin_at(place))


def _defaults(mesh_config: Resource) -> Iterator[_Named]:
    said = mesh_config.spec.default_providers
    if said is None:
        return
    for field, use, names in (
        ("tracing", TRACES, said.tracing),
        ("metrics", METRICS, said.metrics),
        ("accessLogging", LOGS, said.access_logging),
    ):
        for index, name in enumerate(names):
            yield _Named(name, use, mesh_config.origin_at(f"defaultProviders.{field}[{index}]"))
