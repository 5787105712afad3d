"""What a proxy reports: the metrics, the logs and the traces of one side of it.

Comes in: the snapshot and the proxy. Goes out: ``Telemetry`` of its chains. A gateway reports as a client.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.providers import content_of, provider_named, service_behind
from lateen.mesh.telemetry_policy import CLIENT, SERVER, LogPolicy, log_policies, metric_changes, reporting_interval
from lateen.plan.model import FileLog, MetricRule, ServiceLog, Telemetry
from lateen.plan.names import outbound_cluster
from lateen.plan.proxy import Proxy
from lateen.plan.trace_rules import traced
from lateen.resources.mesh_config import (
    FileAccessLog,
    HttpAccessLogService,
    LogFormat,
    MeshConfigSpec,
    OtelAccessLogService,
    TcpAccessLogService,
)
from lateen.resources.telemetry_support import LOG_PROVIDER

SOURCE = "source"
DESTINATION = "destination"
STDOUT = "/dev/stdout"
LOG_NAMES = {"http": "http_envoy_accesslog", "tcp": "tcp_envoy_accesslog", "otel": "otel_envoy_accesslog"}


def reported(
    snapshot: MeshSnapshot,
    proxy: Proxy,
    reporter: str,
    tags: tuple[tuple[str, str], ...],
    access_log: str,
    folder: str = "",
) -> Telemetry:
    """The telemetry of a proxy as ``source`` or ``destination``; ``access_log`` is where its log would be written, and
    ``folder`` has its agent's socket, if there is one."""
    mode = CLIENT if reporter == SOURCE else SERVER
    changes = metric_changes(snapshot, proxy.namespace, proxy.labels, mode)
    logs = log_policies(snapshot, proxy.namespace, proxy.labels, mode)
    own = next((log for log in logs if log.provider == LOG_PROVIDER), None)
    said = [made for log in logs for made in _logs(snapshot, log)]
    return Telemetry(
        reporter,
        tags,
        access_log if own is not None else "",
        more_logs=tuple(one for one in said if isinstance(one, FileLog)),
        service_logs=tuple(one for one in said if isinstance(one, ServiceLog)),
        metrics=tuple(MetricRule(change.metric, change.disabled, change.labels) for change in changes),
        log_expression=own.expression if own is not None else "",
        tracing=traced(snapshot, proxy, mode),
        byte_interval=reporting_interval(snapshot, proxy.namespace, proxy.labels) if folder else None,
    )


def told_clusters(telemetry: Telemetry) -> frozenset[str]:
    """The clusters of the servers that are told."""
    found = {log.cluster for log in telemetry.service_logs}
    if telemetry.tracing is not None:
        found.add(telemetry.tracing.collector.cluster)
    return frozenset(found)


def _logs(snapshot: MeshSnapshot, log: LogPolicy) -> Iterable[FileLog | ServiceLog]:
    """The log of a provider, beside Lateen's own. What ``accessLogFile`` says belongs to the one that is there by
    itself."""
    provider = provider_named(snapshot.mesh_config, log.provider)
    content = None if provider is None else content_of(provider)
    if isinstance(content, FileAccessLog):
        yield replace(_file_log(content), expression=log.expression)
    elif isinstance(content, TcpAccessLogService | OtelAccessLogService):
        for told in _service_log(snapshot, content):
            yield replace(told, expression=log.expression)
    elif log.provider == LOG_PROVIDER and snapshot.mesh_config.access_log_file:
        yield replace(_mesh_log(snapshot.mesh_config), expression=log.expression)


def _file_log(provider: FileAccessLog) -> FileLog:
    form = provider.log_format or LogFormat()
    return FileLog(
        path=provider.path or STDOUT,
        text=form.text or "",
        labels=_labels(form),
        omits_empty=bool(provider.omit_empty_values),
    )


def _mesh_log(config: MeshConfigSpec) -> FileLog:
    """``accessLogFile`` in its encoding: ``accessLogFormat`` is a text, or the text of a JSON object."""
    form = config.access_log_format or ""
    if config.access_log_encoding != "JSON":
        return FileLog(path=config.access_log_file or "", text=form)
    return FileLog(path=config.access_log_file or "", labels=form, is_json=True)


def _service_log(snapshot: MeshSnapshot, said: Any) -> Iterable[ServiceLog]:
    """None where the mesh does not have the server."""
    service = service_behind(snapshot.services, said)
    if service is None:
        return
    is_http = isinstance(said, HttpAccessLogService)
    kind = "http" if is_http else "tcp" if isinstance(said, TcpAccessLogService) else "otel"
    form = said.log_format or LogFormat() if kind == "otel" else LogFormat()
    yield ServiceLog(
        kind=kind,
        cluster=outbound_cluster(said.port, "", service.hostname),
        host=service.hostname,
        name=said.log_name or LOG_NAMES[kind],
        text=form.text or "",
        labels=_labels(form),
        state=said.filter_state_objects_to_log if kind != "otel" else (),
        request_headers=said.additional_request_headers_to_log if is_http else (),
        response_headers=said.additional_response_headers_to_log if is_http else (),
        response_trailers=said.additional_response_trailers_to_log if is_http else (),
    )


def _labels(form: LogFormat) -> str:
    return json.dumps(form.labels, sort_keys=True) if form.labels is not None else ""
