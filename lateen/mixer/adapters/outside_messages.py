"""The messages by which adapters outside Mixer are called, for the templates that are known.

Comes in: instances. Goes out: requests, encoded; and what answers say. The numbers of fields are those of Mixer's own
services; the classes are made of them here, apart from all others.
"""

from __future__ import annotations

import datetime
import ipaddress
import uuid
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from google.protobuf import any_pb2, descriptor_pb2, descriptor_pool, duration_pb2, message_factory, timestamp_pb2
from google.rpc import status_pb2

from lateen.mixer.adapter import CheckResult, DirectAnswer, QuotaArgs, QuotaResult
from lateen.mixer.adapters.texts import text
from lateen.mixer.templates import Instance
from lateen.values.rpc_code import http_status

NAME = 72295727
"""The number of the field that holds an instance's name."""
DIRECT = "DirectHttpResponse"
CHECK, QUOTA, REPORT = "CheckResult", "QuotaResult", "ReportResult"
_VALUE = ".lateen.Value"
_FIELDS: Mapping[str, str] = {
    "checknothing": "",
    "listentry": "value=1",
    "authorization": "subject=1:Subject action=2:Action",
    "apikey": "api=1 api_version=2 api_operation=3 api_key=4 timestamp=5:Time",
    "quota": "dimensions=1:{}",
    "reportnothing": "",
    "metric": "value=1:Value dimensions=2:{} monitored_resource_type=3 monitored_resource_dimensions=4:{}",
    "logentry": (
        "variables=1:{} timestamp=2:Time severity=3 monitored_resource_type=4 monitored_resource_dimensions=5:{}"
    ),
    "tracespan": (
        "trace_id=1 span_id=2 parent_span_id=3 span_name=4 start_time=5:Time end_time=6:Time span_tags=7:{} "
        "http_status_code=8:int client_span=9:bool rewrite_client_span_id=10:bool source_name=11 source_ip=12:Address "
        "destination_name=13 destination_ip=14:Address request_size=15:int request_total_size=16:int "
        "response_size=17:int response_total_size=18:int api_protocol=19"
    ),
    "edge": (
        "timestamp=1:Time source_workload_namespace=10 source_workload_name=11 source_owner=12 source_uid=13 "
        "destination_workload_namespace=20 destination_workload_name=21 destination_owner=22 destination_uid=23 "
        "destination_service_namespace=24 destination_service_name=25 context_protocol=30 api_protocol=31"
    ),
}
"""Of each template: NAME=NUMBER is a text, unless a type follows; {} is a map of values."""
_SHARED: Mapping[str, str] = {
    "Address": "value=1:bytes",
    "Time": "value=1:.google.protobuf.Timestamp",
    "Span": "value=1:.google.protobuf.Duration",
    "Texts": "value=1:{text}",
    "Value": (
        "string_value=1 int64_value=2:int double_value=3:double bool_value=4:bool ip_address_value=5:Address "
        "timestamp_value=6:Time duration_value=7:Span string_map_value=11:Texts"
    ),
    "Subject": "user=1 groups=2 properties=3:{}",
    "Action": "namespace=1 service=2 method=3 path=4 properties=5:{}",
    "Asked": "amount=1:int best_effort=2:bool",
    "QuotaRequest": "quotas=1:{Asked}",
    "Granted": "valid_duration=2:.google.protobuf.Duration granted_amount=3:int",
    "CheckResult": "status=1:.google.rpc.Status valid_duration=2:.google.protobuf.Duration valid_use_count=3:int32",
    "QuotaResult": "quotas=1:{Granted}",
    "ReportResult": "",
    "DirectHttpResponse": "code=1:int32 body=2 headers=3:{text}",
}
_SERVICES: Mapping[str, tuple[str, str]] = {
    "checknothing": ("CheckNothing", CHECK),
    "listentry": ("ListEntry", CHECK),
    "authorization": ("Authorization", CHECK),
    "apikey": ("ApiKey", CHECK),
    "quota": ("Quota", QUOTA),
    "reportnothing": ("ReportNothing", REPORT),
    "metric": ("Metric", REPORT),
    "logentry": ("LogEntry", REPORT),
    "tracespan": ("TraceSpan", REPORT),
    "edge": ("Edge", REPORT),
}
_Proto = descriptor_pb2.FieldDescriptorProto
_PLAIN = {
    "": _Proto.TYPE_STRING,
    "text": _Proto.TYPE_STRING,
    "int": _Proto.TYPE_INT64,
    "int32": _Proto.TYPE_INT32,
    "double": _Proto.TYPE_DOUBLE,
    "bool": _Proto.TYPE_BOOL,
    "bytes": _Proto.TYPE_BYTES,
}


def _message(file: Any, name: str, fields: str) -> Any:
    message = file.message_type.add(name=name)
    for one in fields.split():
        written, _, kind = one.partition(":")
        label, _, number = written.partition("=")
        _field(message, label, int(number), kind)
    return message


def _field(message: Any, name: str, number: int, kind: str, *, repeated: bool = False) -> None:
    is_map = kind.startswith("{")
    label = _Proto.LABEL_REPEATED if is_map or repeated else _Proto.LABEL_OPTIONAL
    field = message.field.add(name=name, number=number, label=label)
    if is_map:
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _field(entry, "key", 1, "")
        _field(entry, "value", 2, kind.strip("{}") or "Value")
        field.type, field.type_name = _Proto.TYPE_MESSAGE, f".lateen.{message.name}.{entry.name}"
    elif kind in _PLAIN:
        field.type = _PLAIN[kind]
    else:
        field.type, field.type_name = _Proto.TYPE_MESSAGE, kind if kind.startswith(".") else f".lateen.{kind}"


def _classes() -> Mapping[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    needed = [module.DESCRIPTOR for module in (any_pb2, duration_pb2, timestamp_pb2, status_pb2)]
    for descriptor in needed:
        copy = descriptor_pb2.FileDescriptorProto()
        descriptor.CopyToProto(copy)
        pool.Add(copy)
    file = descriptor_pb2.FileDescriptorProto(name="lateen/outside.proto", package="lateen", syntax="proto3")
    file.dependency.extend(descriptor.name for descriptor in needed)
    for name, fields in _SHARED.items():
        _message(file, name, fields)
    for template, fields in _FIELDS.items():
        _field(_message(file, f"Of_{template}", fields), "name", NAME, "")
        result = _SERVICES[template][1]
        request = _message(file, f"Handle_{template}", "adapter_config=2:.google.protobuf.Any dedup_id=3")
        _field(request, "instances", 1, f"Of_{template}", repeated=result == REPORT)
        if result == QUOTA:
            _field(request, "quota_request", 4, "QuotaRequest")
    pool.Add(file)
    found = pool.FindFileByName(file.name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in found.items()}


_CLASSES = _classes()


def method_of(template: str) -> str:
    """How the method for a template is called."""
    name = _SERVICES[template][0]
    return f"/{template}.Handle{name}Service/Handle{name}"


def request(template: str, instances: Sequence[Instance], config: Any, dedup_id: str = "") -> Any:
    """A request with one instance, or with several that are reported."""
    found = _CLASSES[f"Handle_{template}"](dedup_id=dedup_id or uuid.uuid4().hex)
    if config is not None:
        found.adapter_config.type_url, found.adapter_config.value = config.type_url, config.value
    for instance in instances:
        _fill(found.instances.add() if _SERVICES[template][1] == REPORT else found.instances, instance)
    return found


def quota_request(instance: Instance, args: QuotaArgs, config: Any) -> Any:
    """A request for an amount."""
    found = request("quota", [instance], config, args.deduplication_id)
    asked = found.quota_request.quotas[instance.name]
    asked.amount, asked.best_effort = args.amount, args.best_effort
    return found


def _fill(message: Any, struct: msgspec.Struct) -> None:
    message.SetInParent()
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if value is None:
            continue
        field = message.DESCRIPTOR.fields_by_name[name]
        if isinstance(value, msgspec.Struct):
            _fill(getattr(message, name), value)
        elif field.message_type is None:
            setattr(message, name, text(value) if field.type == field.TYPE_STRING else value)
        elif field.message_type.GetOptions().map_entry:
            for key, entry in value.items():
                if entry is not None:
                    _put(getattr(message, name)[key], entry)
        elif field.message_type.name == "Value":
            _put(getattr(message, name), value)
        elif field.message_type.name == "Time":
            getattr(message, name).value.FromDatetime(value)
        else:
            getattr(message, name).value = value.packed


def _put(message: Any, value: Any) -> None:
    if isinstance(value, bool):
        message.bool_value = value
    elif isinstance(value, int):
        message.int64_value = value
    elif isinstance(value, float):
        message.double_value = value
    elif isinstance(value, datetime.datetime):
        message.timestamp_value.value.FromDatetime(value)
    elif isinstance(value, datetime.timedelta):
        message.duration_value.value.FromTimedelta(value)
    elif isinstance(value, ipaddress.IPv4Address | ipaddress.IPv6Address):
        message.ip_address_value.value = value.packed
    elif isinstance(value, Mapping):
        message.string_map_value.SetInParent()
        message.string_map_value.value.update(value)
    else:
        message.string_value = str(value)


def check_result(answer: bytes) -> CheckResult:
    """A verdict. Raises DecodeError for an answer that is none."""
    found = _CLASSES[CHECK].FromString(answer)
    valid = found.valid_duration.ToTimedelta().total_seconds()
    return CheckResult(
        found.status.code, found.status.message, max(0.0, valid), max(0, found.valid_use_count), _direct(found.status)
    )


def _direct(status: Any) -> DirectAnswer | None:
    """What a client is to be answered, where the details of a status say it."""
    for detail in status.details:
        if detail.type_url.endswith(f".{DIRECT}"):
            found = _CLASSES[DIRECT].FromString(detail.value)
            return DirectAnswer(found.code or http_status(status.code), found.body, dict(found.headers))
    return None


def quota_result(answer: bytes, instance: Instance) -> QuotaResult:
    """What is granted; nothing, where the answer does not say. Raises DecodeError."""
    quotas = _CLASSES[QUOTA].FromString(answer).quotas
    if instance.name not in quotas:
        return QuotaResult(0, 0.0)
    found = quotas[instance.name]
    return QuotaResult(found.granted_amount, max(0.0, found.valid_duration.ToTimedelta().total_seconds()))
