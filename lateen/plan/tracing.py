"""How requests are traced, and who is told: the part of a plan. Durations are seconds."""

from __future__ import annotations

import msgspec

Headers = tuple[tuple[str, str], ...]
"""Names and values, the latter in Envoy's format of headers: ``%`` is written twice."""


class ZipkinCollector(msgspec.Struct, frozen=True, cache_hash=True, tag="zipkin"):
    """Spans go as JSON to ``path`` of ``host`` (host:port), and the context by B3 headers; with ``w3c`` also by
    traceparent."""

    cluster: str
    host: str
    path: str
    timeout: float
    headers: Headers = ()
    wide_ids: bool = True
    w3c: bool = False


class OpenTelemetryCollector(msgspec.Struct, frozen=True, cache_hash=True, tag="opentelemetry"):
    """Spans go by OTLP, over HTTP to ``path``, or over gRPC where that is empty; the context by traceparent.

    ``attributes`` are those of the resource. ``detectors``: environment, dynatrace.
    """

    cluster: str
    host: str
    service: str
    path: str = ""
    timeout: float | None = None
    headers: Headers = ()
    attributes: tuple[tuple[str, str], ...] = ()
    detectors: tuple[str, ...] = ()


class DatadogCollector(msgspec.Struct, frozen=True, cache_hash=True, tag="datadog"):
    """Spans go to a Datadog agent."""

    cluster: str
    host: str
    service: str


class SkywalkingCollector(msgspec.Struct, frozen=True, cache_hash=True, tag="skywalking"):
    """Spans go to a SkyWalking server; the context by sw8 headers."""

    cluster: str
    service: str
    instance: str
    token: str = ""


Collector = ZipkinCollector | OpenTelemetryCollector | DatadogCollector | SkywalkingCollector


class TraceTag(msgspec.Struct, frozen=True, cache_hash=True):
    """One tag of a span. ``source``: literal, environment, header or formatter; ``value`` is what it says or names."""

    name: str
    source: str
    value: str
    default: str = ""


class Tracing(msgspec.Struct, frozen=True, cache_hash=True):
    """How a chain traces; see ``TracingPolicy``. ``longest_path``: bytes of a path that a span keeps."""

    collector: Collector
    sampling: float
    reports: bool = True
    tags: tuple[TraceTag, ...] = ()
    longest_path: int | None = None
    by_request_id: bool = True
    propagates: bool = True
