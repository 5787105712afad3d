"""Traces: how a connection manager samples, tags and passes on, and whom Envoy's tracer tells.

Comes in: ``Tracing`` of a chain. Goes out: the connection manager's tracing.
"""

from __future__ import annotations

from typing import Any

from envoy.config.core.v3 import base_pb2, extension_pb2, grpc_service_pb2, http_service_pb2, http_uri_pb2
from envoy.config.trace.v3 import datadog_pb2, http_tracer_pb2, opentelemetry_pb2, skywalking_pb2, zipkin_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2
from envoy.extensions.request_id.uuid.v3 import uuid_pb2
from envoy.extensions.tracers.opentelemetry.resource_detectors.v3 import (
    dynatrace_resource_detector_pb2,
    environment_resource_detector_pb2,
    static_config_resource_detector_pb2,
)
from envoy.type.tracing.v3 import custom_tag_pb2

from lateen.envoy import wire
from lateen.plan.names import BLACK_HOLE
from lateen.plan.tracing import (
    Collector,
    DatadogCollector,
    OpenTelemetryCollector,
    SkywalkingCollector,
    TraceTag,
    Tracing,
    ZipkinCollector,
)

REQUEST_ID = "envoy.request_id.uuid"
_NO_CONTEXT_PROPAGATION = 13
"""The number of ``no_context_propagation``, which this Envoy knows and the package of messages does not."""
_Tracing = http_connection_manager_pb2.HttpConnectionManager.Tracing
_DETECTORS = {
    "dynatrace": dynatrace_resource_detector_pb2.DynatraceResourceDetectorConfig(),
    "environment": environment_resource_detector_pb2.EnvironmentResourceDetectorConfig(),
}


def tracing_of(tracing: Tracing) -> Any:
    """How the connection manager traces. Spans that nobody is to be told of go to a cluster without members."""
    cluster = tracing.collector.cluster if tracing.reports else BLACK_HOLE
    message = _Tracing(
        custom_tags=[_tag(tag) for tag in tracing.tags],
        provider=http_tracer_pb2.Tracing.Http(**_provider(tracing.collector, cluster)),
    )
    for field in (message.client_sampling, message.overall_sampling):
        field.value = 100.0
    message.random_sampling.value = tracing.sampling
    if tracing.longest_path is not None:
        message.max_path_tag_length.value = tracing.longest_path
    if not tracing.propagates:
        message.MergeFromString(bytes([_NO_CONTEXT_PROPAGATION << 3, 1]))
    return message


def request_id_extension(*, by_request_id: bool) -> Any:
    """Whether X-Request-Id carries the decision to sample."""
    config = uuid_pb2.UuidRequestIdConfig(use_request_id_for_trace_sampling=wire.boolean(by_request_id))
    return http_connection_manager_pb2.RequestIDExtension(typed_config=wire.pack(config))


def _provider(collector: Collector, cluster: str) -> dict[str, Any]:
    if isinstance(collector, ZipkinCollector):
        return {"name": "envoy.tracers.zipkin", "typed_config": wire.pack(_zipkin(collector, cluster))}
    if isinstance(collector, OpenTelemetryCollector):
        return {"name": "envoy.tracers.opentelemetry", "typed_config": wire.pack(_otlp(collector, cluster))}
    if isinstance(collector, SkywalkingCollector):
        return {"name": "envoy.tracers.skywalking", "typed_config": wire.pack(_skywalking(collector, cluster))}
    return {"name": "envoy.tracers.datadog", "typed_config": wire.pack(_datadog(collector, cluster))}


def _zipkin(collector: ZipkinCollector, cluster: str) -> Any:
    """Each side makes a span of its own: the two of one hop do not share an id."""
    option = zipkin_pb2.ZipkinConfig.TraceContextOption
    message = zipkin_pb2.ZipkinConfig(
        trace_id_128bit=collector.wide_ids,
        shared_span_context=wire.boolean(False),
        collector_endpoint_version=zipkin_pb2.ZipkinConfig.HTTP_JSON,
        trace_context_option=option.USE_B3_WITH_W3C_PROPAGATION if collector.w3c else option.USE_B3,
    )
    message.collector_service.CopyFrom(_http(collector, cluster, collector.timeout))
    return message


def _otlp(collector: OpenTelemetryCollector, cluster: str) -> Any:
    message = opentelemetry_pb2.OpenTelemetryConfig(service_name=collector.service)
    if collector.path:
        message.http_service.CopyFrom(_http(collector, cluster, collector.timeout or 0.0))
    else:
        message.grpc_service.CopyFrom(_grpc(cluster, collector.host, collector.timeout))
        for name, value in collector.headers:
            message.grpc_service.initial_metadata.add(key=name, value=value)
    detectors = {name: _DETECTORS[name] for name in collector.detectors}
    if collector.attributes:
        detectors["static_config"] = static_config_resource_detector_pb2.StaticConfigResourceDetectorConfig(
            attributes=dict(collector.attributes)
        )
    for name, config in detectors.items():
        detector = extension_pb2.TypedExtensionConfig(
            name=f"envoy.tracers.opentelemetry.resource_detectors.{name}", typed_config=wire.pack(config)
        )
        message.resource_detectors.append(detector)
    return message


def _skywalking(collector: SkywalkingCollector, cluster: str) -> Any:
    client = skywalking_pb2.ClientConfig(
        service_name=collector.service, instance_name=collector.instance, backend_token=collector.token
    )
    return skywalking_pb2.SkyWalkingConfig(grpc_service=_grpc(cluster, ""), client_config=client)


def _datadog(collector: DatadogCollector, cluster: str) -> Any:
    return datadog_pb2.DatadogConfig(
        collector_cluster=cluster, service_name=collector.service, collector_hostname=collector.host
    )


def _http(collector: ZipkinCollector | OpenTelemetryCollector, cluster: str, timeout: float) -> Any:
    uri = http_uri_pb2.HttpUri(
        uri=f"http://{collector.host}{collector.path}", cluster=cluster, timeout=wire.duration(timeout)
    )
    message = http_service_pb2.HttpService(http_uri=uri)
    for name, value in collector.headers:
        message.request_headers_to_add.add(
            header=base_pb2.HeaderValue(key=name, value=value),
            append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
        )
    return message


def _grpc(cluster: str, authority: str, timeout: float | None = None) -> Any:
    service = grpc_service_pb2.GrpcService()
    service.envoy_grpc.cluster_name = cluster
    service.envoy_grpc.authority = authority
    if timeout is not None:
        service.timeout.CopyFrom(wire.duration(timeout))
    return service


def _tag(tag: TraceTag) -> Any:
    message = custom_tag_pb2.CustomTag(tag=tag.name)
    if tag.source == "literal":
        message.literal.value = tag.value
    elif tag.source == "environment":
        message.environment.name, message.environment.default_value = tag.value, tag.default
    elif tag.source == "header":
        message.request_header.name, message.request_header.default_value = tag.value, tag.default
    else:
        message.value = tag.value
    return message
