"""What adapters are given: one frozen struct a template, with Istio's field names in Python's spelling.

Comes in: the values that an instance's expressions yielded. Goes out: a typed instance. A value is a ``str``, ``int``,
``float``, ``bool``, ``datetime``, ``timedelta``, an IP address (``ipaddress``) or a ``dict`` of texts; None stands for
one that the request does not have.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping

import msgspec

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Value = str | int | float | bool | datetime.datetime | datetime.timedelta | IpAddress | Mapping[str, str] | None
Values = Mapping[str, Value]


class Instance(msgspec.Struct, frozen=True, kw_only=True):
    """One instance; ``name`` is as rules call it."""

    name: str = ""


class ListEntry(Instance, frozen=True):
    """``listentry``: a value that is in a list, or is not."""

    value: Value = None


class CheckNothing(Instance, frozen=True):
    """``checknothing``: nothing."""


class ReportNothing(Instance, frozen=True):
    """``reportnothing``: nothing."""


class Subject(msgspec.Struct, frozen=True):
    """Who asks."""

    user: str = ""
    groups: str = ""
    properties: Values = {}


class Action(msgspec.Struct, frozen=True):
    """What is asked for."""

    namespace: str = ""
    service: str = ""
    method: str = ""
    path: str = ""
    properties: Values = {}


class Authorization(Instance, frozen=True):
    """``authorization``: who wants to do what."""

    subject: Subject = Subject()
    action: Action = Action()


class ApiKey(Instance, frozen=True):
    """``apikey``: a call of an operation of an API, with a key."""

    api: str = ""
    api_version: str = ""
    api_operation: str = ""
    api_key: str = ""
    timestamp: datetime.datetime | None = None


class Quota(Instance, frozen=True):
    """``quota``: what is counted apart."""

    dimensions: Values = {}


class Metric(Instance, frozen=True):
    """``metric``: a value and what it is counted by."""

    value: Value = None
    dimensions: Values = {}
    monitored_resource_type: str = ""
    monitored_resource_dimensions: Values = {}


class LogEntry(Instance, frozen=True):
    """``logentry``: one entry of a log."""

    variables: Values = {}
    timestamp: datetime.datetime | None = None
    severity: str = ""
    monitored_resource_type: str = ""
    monitored_resource_dimensions: Values = {}


class TraceSpan(Instance, frozen=True):
    """``tracespan``: one side's part of a call."""

    trace_id: str = ""
    span_id: str = ""
    parent_span_id: str = ""
    span_name: str = ""
    start_time: datetime.datetime | None = None
    end_time: datetime.datetime | None = None
    span_tags: Values = {}
    http_status_code: int = 0
    client_span: bool = False
    rewrite_client_span_id: bool = False
    source_name: str = ""
    source_ip: Value = None
    destination_name: str = ""
    destination_ip: Value = None
    request_size: int = 0
    request_total_size: int = 0
    response_size: int = 0
    response_total_size: int = 0
    api_protocol: str = ""


class Edge(Instance, frozen=True):
    """``edge``: who talked to whom."""

    timestamp: datetime.datetime | None = None
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


class Kubernetes(Instance, frozen=True):
    """``kubernetes``: which workloads are meant."""

    source_uid: str = ""
    source_ip: Value = None
    destination_uid: str = ""
    destination_ip: Value = None
    destination_port: int = 0
