"""The templates that instances may name: their fields, which hold expressions, and the types that these may have.

``TEMPLATES`` is the one table of them. A field that is a map takes values of any type.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping

import msgspec

from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.resources.base import Spec

TEXT = (ValueType.STRING,)
NUMBER = (ValueType.INT64,)
TIME = (ValueType.TIMESTAMP,)
ADDRESS = (ValueType.IP_ADDRESS,)
TRUTH = (ValueType.BOOL,)
ANY: tuple[ValueType, ...] = ()


class Variety(enum.Enum):
    """What instances of a template are for."""

    CHECK = "CHECK"
    QUOTA = "QUOTA"
    REPORT = "REPORT"
    ATTRIBUTE_GENERATOR = "ATTRIBUTE_GENERATOR"


class CheckNothingParams(Spec, frozen=True):
    """None."""


class ReportNothingParams(Spec, frozen=True):
    """None."""


class ListEntryParams(Spec, frozen=True):
    value: str = ""


class SubjectParams(Spec, frozen=True):
    user: str = ""
    groups: str = ""
    properties: dict[str, str] = {}


class ActionParams(Spec, frozen=True):
    namespace: str = ""
    service: str = ""
    method: str = ""
    path: str = ""
    properties: dict[str, str] = {}


class AuthorizationParams(Spec, frozen=True):
    subject: SubjectParams = SubjectParams()
    action: ActionParams = ActionParams()


class ApiKeyParams(Spec, frozen=True):
    api: str = ""
    api_version: str = ""
    api_operation: str = ""
    api_key: str = ""
    timestamp: str = ""


class QuotaParams(Spec, frozen=True):
    dimensions: dict[str, str] = {}


class MetricParams(Spec, frozen=True):
    value: str = ""
    dimensions: dict[str, str] = {}
    monitored_resource_type: str = ""
    monitored_resource_dimensions: dict[str, str] = {}


class LogEntryParams(Spec, frozen=True):
    variables: dict[str, str] = {}
    timestamp: str = ""
    severity: str = ""
    monitored_resource_type: str = ""
    monitored_resource_dimensions: dict[str, str] = {}


class TraceSpanParams(Spec, frozen=True):
    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    span_name: str = ""
    start_time: str = ""
    end_time: str = ""
    span_tags: dict[str, str] = {}
    http_status_code: str = ""
    client_span: str = ""
    rewrite_client_span_id: str = ""
    source_name: str = ""
    source_ip: str = ""
    destination_name: str = ""
    destination_ip: str = ""
    request_size: str = ""
    request_total_size: str = ""
    response_size: str = ""
    response_total_size: str = ""
    api_protocol: str = ""


class EdgeParams(Spec, frozen=True):
    timestamp: str = ""
    source_workload_namespace: str = ""
    source_workload_name: str = ""
    source_owner: str = ""
    source_uid: str = ""
    destination_workload_namespace: str = ""
    destination_workload_name: str = ""
    destination_owner: str = ""
    destination_uid: str = ""
    destination_service_namespace: str = ""
    destination_service_name: str = ""
    context_protocol: str = ""
    api_protocol: str = ""


class KubernetesParams(Spec, frozen=True):
    source_uid: str = ""
    source_ip: str = ""
    destination_uid: str = ""
    destination_ip: str = ""
    destination_port: str = ""
    attribute_bindings: dict[str, str] = {}


class Template(msgspec.Struct, frozen=True):
    """One template. ``types``: what its fields may be, by the names of ``params``; all others are texts.

    ``outputs``: what an attribute generator finds, which ``attributeBindings`` call ``$out.NAME``.
    """

    name: str
    variety: Variety
    params: type[Spec]
    types: Mapping[str, tuple[ValueType, ...]] = {}
    outputs: Mapping[str, ValueType] = {}


OUT = "$out."
_OF_A_POD: Mapping[str, ValueType] = {
    "pod_uid": ValueType.STRING,
    "pod_ip": ValueType.IP_ADDRESS,
    "pod_name": ValueType.STRING,
    "labels": ValueType.STRING_MAP,
    "namespace": ValueType.STRING,
    "service_account_name": ValueType.STRING,
    "host_ip": ValueType.IP_ADDRESS,
    "workload_uid": ValueType.STRING,
    "workload_name": ValueType.STRING,
    "workload_namespace": ValueType.STRING,
    "owner": ValueType.STRING,
}
KUBERNETES_OUTPUTS: Mapping[str, ValueType] = {
    **{f"{side}_{name}": kind for side in ("source", "destination") for name, kind in _OF_A_POD.items()},
    "destination_container_name": ValueType.STRING,
}


TEMPLATES: dict[str, Template] = {
    template.name: template
    for template in (
        Template("checknothing", Variety.CHECK, CheckNothingParams),
        Template("listentry", Variety.CHECK, ListEntryParams, {"value": ANY}),
        Template("authorization", Variety.CHECK, AuthorizationParams),
        Template("apikey", Variety.CHECK, ApiKeyParams, {"timestamp": TIME}),
        Template("quota", Variety.QUOTA, QuotaParams),
        Template("reportnothing", Variety.REPORT, ReportNothingParams),
        Template("metric", Variety.REPORT, MetricParams, {"value": ANY}),
        Template("logentry", Variety.REPORT, LogEntryParams, {"timestamp": TIME}),
        Template(
            "tracespan",
            Variety.REPORT,
            TraceSpanParams,
            {
                "start_time": TIME,
                "end_time": TIME,
                "http_status_code": NUMBER,
                "client_span": TRUTH,
                "rewrite_client_span_id": TRUTH,
                "source_ip": ADDRESS,
                "destination_ip": ADDRESS,
                "request_size": NUMBER,
                "request_total_size": NUMBER,
                "response_size": NUMBER,
                "response_total_size": NUMBER,
            },
        ),
        Template("edge", Variety.REPORT, EdgeParams, {"timestamp": TIME}),
        Template(
            "kubernetes",
            Variety.ATTRIBUTE_GENERATOR,
            KubernetesParams,
            {"source_ip": ADDRESS, "destination_ip": ADDRESS, "destination_port": NUMBER},
            KUBERNETES_OUTPUTS,
        ),
    )
}


def with_outputs(template: Template, vocabulary: Vocabulary) -> Vocabulary:
    """A vocabulary with what a template's adapter finds."""
    return vocabulary.extended({f"{OUT}{name}": kind for name, kind in template.outputs.items()})


class Field(msgspec.Struct, frozen=True):
    """One expression of an instance: its way in the struct, as it is written, its text, and the types it may have."""

    way: tuple[str, ...]
    written: str
    text: str
    types: tuple[ValueType, ...]


def expressions_of(template: Template, params: Spec) -> Iterator[Field]:
    """The expressions that an instance's parameters hold; empty ones are left out."""
    yield from _fields(params, (), "", template.types)


def _fields(
    params: Spec, way: tuple[str, ...], written: str, types: Mapping[str, tuple[ValueType, ...]]
) -> Iterator[Field]:
    for field in msgspec.structs.fields(type(params)):
        value = getattr(params, field.name)
        below, path = (*way, field.name), f"{written}.{field.encode_name}"
        if isinstance(value, Spec):
            yield from _fields(value, below, path, {})
        elif isinstance(value, str) and value:
            yield Field(below, path, value, types.get(field.name, TEXT))
        elif isinstance(value, dict) and field.name != "attribute_bindings":
            for name, text in value.items():
                yield Field((*below, name), f"{path}.{name}", text, ANY)
