"""Istio's metrics, made by Envoy's own stats loggers.

Comes in: labels and what a Telemetry changes of each metric. Goes out: stats loggers.

A label costs every request, so all of them travel as one (``packed_labels``): those that are the same, and groups of
those that are known together, in the form that is read at once. A label that a Telemetry adds or changes stands by
itself, and so does each label of a group of which it changes one.

Labels are names of things that the mesh knows, never paths or ids: each new combination is a time series. How many of
them a proxy keeps is bounded, and those that nothing is counted for any more are dropped after a while.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache, lru_cache
from typing import Any

import msgspec
from envoy.config.accesslog.v3 import accesslog_pb2
from envoy.config.core.v3 import config_source_pb2
from envoy.data.accesslog.v3 import accesslog_pb2 as data_pb2
from envoy.extensions.access_loggers.grpc.v3 import als_pb2
from envoy.type.matcher.v3 import metadata_pb2
from google.protobuf import struct_pb2
from xds.type.v3 import typed_struct_pb2

from lateen.envoy import grpc_messages, wire
from lateen.plan.model import MetricRule
from lateen.plan.names import AGENT_CLUSTER
from lateen.resources.telemetry import METRIC_NAMES
from lateen.values.packed_labels import PACKED, UNKNOWN, counted, packed

STATS_LOGGER = "envoy.access_loggers.stats"
TOLD_LOGGER = "envoy.access_loggers.tcp_grpc"
METRIC_PREFIX = "istio"
OWN_PREFIX = "lateen"
MOST_COUNTERS = 2_000
MOST_HISTOGRAMS = 6_000
"""Of one logger: a combination of labels of a request takes about 20 kB, so 40 MB at the worst."""
STATS_TYPE = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"
REFUSAL_LABELS = ("destination_service", "destination_workload", "reporter", "source_principal")

Labels = tuple[tuple[str, str], ...]
Rules = tuple[MetricRule, ...]


class Group(msgspec.Struct, frozen=True):
    """Labels that are known together, each with its own form; ``parts`` are what they are packed into. ``escaped``:
    those whose values are escaped (``told_names``), so that they travel packed by themselves too."""

    parts: Labels
    labels: Labels
    escaped: tuple[str, ...] = ()


class LabelSet(msgspec.Struct, frozen=True):
    """The labels of a metric. ``same`` are texts, ``told`` formats whose values have no spaces; ``groups`` come after
    them, and of the last the value may be anything."""

    same: Labels
    told: Labels = ()
    groups: tuple[Group, ...] = ()

    def also(self, *, same: Labels = (), told: Labels = (), groups: tuple[Group, ...] = ()) -> LabelSet:
        """With more labels; ``groups`` come before those that there are."""
        return LabelSet((*self.same, *same), (*self.told, *told), (*groups, *self.groups))

    def form_of(self, name: str) -> str:
        """How a label is found by itself."""
        texts = {label: text.replace("%", "%%") for label, text in self.same}
        return {**texts, **{label: form for group in self.groups for label, form in group.labels}}[name]

    def changed(self, rule: MetricRule) -> Labels:
        """The labels as they travel, changed as a Telemetry says."""
        changes = dict(rule.labels)
        same, told = ([pair for pair in pairs if pair[0] not in changes] for pairs in (self.same, self.told))
        whole = [group for group in self.groups if not changes.keys() & dict(group.labels).keys()]
        taken_apart = [pair for group in self.groups if group not in whole for pair in group.labels]
        escaped = {name for group in self.groups for name in group.escaped}
        kept = [pair for pair in taken_apart if pair[0] not in changes]
        told += [pair for pair in kept if pair[0] in escaped]
        alone = [pair for pair in kept if pair[0] not in escaped]
        made = [(name, first_of(("CEL", text))) for name, text in rule.labels if text is not None]
        parts = [*told, *(part for group in whole for part in group.parts)]
        return ((PACKED, packed(same, parts)), *alone, *made)


class Metric(msgspec.Struct, frozen=True):
    """A metric: its name in Istio's enumeration, its own name, and what is counted; ``unit`` of a histogram."""

    kind: str
    name: str
    value: str = ""
    unit: str = ""


def _metric(kind: str, value: str = "", unit: str = "") -> Metric:
    return Metric(kind, METRIC_NAMES[kind], value, unit)


REQUESTS = (
    _metric("REQUEST_COUNT"),
    _metric("REQUEST_DURATION", "%DURATION%", "Milliseconds"),
    _metric("REQUEST_SIZE", "%DOWNSTREAM_WIRE_BYTES_RECEIVED%", "Bytes"),
    _metric("RESPONSE_SIZE", "%DOWNSTREAM_WIRE_BYTES_SENT%", "Bytes"),
)
MESSAGES = (
    _metric("GRPC_REQUEST_MESSAGES", grpc_messages.value_of(grpc_messages.REQUESTS)),
    _metric("GRPC_RESPONSE_MESSAGES", grpc_messages.value_of(grpc_messages.ANSWERS)),
)
OPENED = (_metric("TCP_OPENED_CONNECTIONS"),)
CLOSED = (_metric("TCP_CLOSED_CONNECTIONS"),)
BYTES = (
    _metric("TCP_SENT_BYTES", "%BYTES_SENT%"),
    _metric("TCP_RECEIVED_BYTES", "%BYTES_RECEIVED%"),
)
_LogType = data_pb2.AccessLogType


def request_loggers(labels: LabelSet, rules: Rules, *, has_messages: bool = True) -> list[Any]:
    """Loggers of requests, and of messages of gRPC where they are counted."""
    noted = has_messages and counts_messages(rules)
    answered = labels.also(
        told=(("response_code", "%RESPONSE_CODE%"), ("response_flags", "%RESPONSE_FLAGS%")),
        groups=(_spoken(noted=noted),),
    )
    found = _loggers(REQUESTS, answered, rules, None)
    return [*found, *_loggers(MESSAGES, answered, rules, _has_messages())] if noted else found


def _spoken(*, noted: bool) -> Group:
    """What is spoken: only gRPC has a status, or a note where it has none yet (``noted``)."""
    header, name = "request.headers['content-type']", grpc_messages.CONTENT_TYPE
    is_grpc = f"'content-type' in request.headers && ({header} == '{name}' || {header}.startsWith('{name}+'))"
    protocol = first_of(("CEL", f"{is_grpc} ? 'grpc' : 'http'"))
    status = first_of(("GRPC_STATUS_NUMBER", ""))
    note = ("DYNAMIC_METADATA", f"{grpc_messages.NOTES}:{grpc_messages.SPOKEN}")
    form = _first_of(("GRPC_STATUS_NUMBER", ""), note) if noted else "%GRPC_STATUS_NUMBER%"
    return Group((("grpc", form),), (("request_protocol", protocol), ("grpc_response_status", status)))


def counts_messages(rules: Rules) -> bool:
    """Whether a metric of gRPC's messages is made."""
    disabled = {rule.metric for rule in rules if rule.disabled}
    return any(metric.kind not in disabled for metric in MESSAGES)


def connection_loggers(labels: LabelSet, rules: Rules, *, in_between: bool) -> list[Any]:
    """Loggers of connections that open, and of those that end. ``in_between``: of their bytes the agent is told before
    that too, as the proxy's own counters cannot take what a connection has come to so far."""
    own = labels.also(same=(("request_protocol", "tcp"),), told=(("response_flags", "%RESPONSE_FLAGS%"),))
    ended = CLOSED if in_between else (*CLOSED, *BYTES)
    found = [
        *_loggers(OPENED, own, rules, of_type(_LogType.TcpUpstreamConnected)),
        *_loggers(ended, own, rules, of_type(_LogType.TcpConnectionEnd)),
    ]
    return [*found, *_told_loggers(BYTES, own, rules)] if in_between else found


def _told_loggers(metrics: Iterable[Metric], labels: LabelSet, rules: Rules) -> Iterator[Any]:
    changes = {rule.metric: rule for rule in rules}
    wanted = of_type(_LogType.TcpPeriodic, _LogType.TcpConnectionEnd)
    for metric in metrics:
        rule = changes.get(metric.kind, MetricRule(metric.kind))
        if not rule.disabled:
            config = wire.pack(als_pb2.TcpGrpcAccessLogConfig(common_config=_told(metric, labels.changed(rule))))
            yield accesslog_pb2.AccessLog(name=TOLD_LOGGER, filter=wanted, typed_config=config)


def _told(metric: Metric, labels: Labels) -> Any:
    """The agent is told of a metric: its name, and its labels as tags."""
    common = als_pb2.CommonGrpcAccessLogConfig(
        log_name=metric.name, transport_api_version=config_source_pb2.V3, buffer_flush_interval=wire.duration(1)
    )
    common.grpc_service.envoy_grpc.cluster_name = AGENT_CLUSTER
    for name, form in labels:
        tag = common.custom_tags.add(tag=name)
        if "%" in form:
            tag.value = form
        else:
            tag.literal.value = form
    return common


def refusal_logger(labels: LabelSet) -> Any:
    """Counts what limits refuse, by their names."""
    told = [(name, labels.form_of(name)) for name in REFUSAL_LABELS]
    named = (*told, ("rate_limit", first_of(("RESP", "X-LATEEN-RATE-LIMIT"))))
    counter = _series(Metric("", "rate_limited_total"), _tags(named))
    refused = accesslog_pb2.ResponseFlagFilter(flags=["RL"])
    return _stats_logger(OWN_PREFIX, [counter], [], accesslog_pb2.AccessLogFilter(response_flag_filter=refused))


def first_of(*operators: tuple[str, str]) -> str:
    """A format that yields the first of the values that there is, and ``unknown`` where there is none.

    The literal at the end is a start time whose format has no fields: the formatter has no constants of its own.
    """
    return _first_of(*operators, ("START_TIME", UNKNOWN))


def _first_of(*operators: tuple[str, str]) -> str:
    commands = [{"command": name, "param": param} if param else {"command": name} for name, param in operators]
    return f"%COALESCE({msgspec.json.encode({'operators': commands}).decode()})%"


def of_type(*kinds: Any) -> Any:
    """A filter of log entries of these types."""
    return accesslog_pb2.AccessLogFilter(log_type_filter=accesslog_pb2.LogTypeFilter(types=kinds))


def _loggers(metrics: Iterable[Metric], labels: LabelSet, rules: Rules, wanted: Any) -> list[Any]:
    """One logger of these metrics, or none where all of them are switched off."""
    changes = {rule.metric: rule for rule in rules}
    found = {}
    for metric in metrics:
        rule = changes.get(metric.kind, MetricRule(metric.kind))
        if not rule.disabled:
            found[metric] = labels.changed(rule)
    found = _counted_by_durations(found)
    counters = [_series(metric, _tags(own)) for metric, own in found.items() if not metric.unit]
    histograms = [_series(metric, _tags(own)) for metric, own in found.items() if metric.unit]
    return [_stats_logger(METRIC_PREFIX, counters, histograms, wanted)] if found else []


def _counted_by_durations(found: dict[Metric, Labels]) -> dict[Metric, Labels]:
    """Where requests and their durations have the same labels, a histogram of durations is counter enough."""
    count, duration, *_ = REQUESTS
    if count not in found or found[count] != found.get(duration):
        return found
    (name, form), *others = found[duration]
    kept = {metric: labels for metric, labels in found.items() if metric is not count}
    return {**kept, duration: ((name, counted(form)), *others)}


def _stats_logger(prefix: str, counters: list[Any], histograms: list[Any], wanted: Any) -> Any:
    """``stats_scope`` is a field that the message's own class does not know. One that loggers share (``sharing_name``)
    ends ``envoy --mode validate`` with a crash, so each has its own."""
    config = struct_pb2.Struct()
    config.fields["stats_scope"].CopyFrom(_scope(prefix))
    for name, found in (("counters", counters), ("histograms", histograms)):
        if found:
            config.fields[name].list_value.values.extend(found)
    typed = typed_struct_pb2.TypedStruct(type_url=STATS_TYPE, value=config)
    return accesslog_pb2.AccessLog(name=STATS_LOGGER, filter=wanted, typed_config=wire.pack(typed))


@cache
def _scope(prefix: str) -> Any:
    limits = {"max_counters": MOST_COUNTERS, "max_histograms": MOST_HISTOGRAMS, "enable_eviction": True}
    value = struct_pb2.Value()
    value.struct_value.update({"prefix": prefix, **limits})
    return value


def _series(metric: Metric, tags: Any) -> Any:
    """A counter, or a histogram where there is a unit."""
    value = struct_pb2.Value()
    fields = value.struct_value.fields
    stat = fields["stat"].struct_value.fields
    stat["name"].string_value = metric.name
    stat["tags"].CopyFrom(tags)
    if metric.unit:
        fields["unit"].string_value = metric.unit
    if metric.value:
        fields["value_format"].string_value = metric.value
    else:
        fields["value_fixed"].number_value = 1
    return value


def _tags(labels: Iterable[tuple[str, str]]) -> Any:
    value = struct_pb2.Value()
    value.list_value.values.extend(_tag(name, form) for name, form in labels)
    return value


@lru_cache(maxsize=8192)
def _tag(name: str, form: str) -> Any:
    """One label; most are the same in all proxies."""
    value = struct_pb2.Value()
    fields = value.struct_value.fields
    fields["name"].string_value, fields["value_format"].string_value = name, form
    return value


def _has_messages() -> Any:
    """A filter of streams whose messages were counted: one that was refused before has none."""
    matcher = metadata_pb2.MetadataMatcher(filter=grpc_messages.NOTES)
    matcher.path.add(key=grpc_messages.REQUESTS)
    matcher.value.present_match = True
    known = accesslog_pb2.MetadataFilter(matcher=matcher, match_if_key_not_found=wire.boolean(False))
    return accesslog_pb2.AccessLogFilter(metadata_filter=known)
