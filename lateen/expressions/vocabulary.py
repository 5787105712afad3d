"""The attributes that rules may name, and their types.

Comes in: attribute manifests. Goes out: a ``Vocabulary``. The built-in attributes are those that Istio's proxies and
its adapter for Kubernetes told.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Mapping

import msgspec


class ValueType(enum.Enum):
    """The types of values. In Python: str, int, float, bool, datetime, an IP address, timedelta, a mapping of texts."""

    STRING = "STRING"
    INT64 = "INT64"
    DOUBLE = "DOUBLE"
    BOOL = "BOOL"
    TIMESTAMP = "TIMESTAMP"
    IP_ADDRESS = "IP_ADDRESS"
    EMAIL_ADDRESS = "EMAIL_ADDRESS"
    URI = "URI"
    DNS_NAME = "DNS_NAME"
    DURATION = "DURATION"
    STRING_MAP = "STRING_MAP"


_BY_TYPE: Mapping[ValueType, str] = {
    ValueType.STRING: """
        origin.uid origin.user request.id request.host request.method request.path request.url_path request.reason
        request.referer request.scheme request.useragent request.auth.principal request.auth.audiences
        request.auth.presenter request.auth.raw_claims request.api_key response.grpc_status response.grpc_message
        source.uid source.user source.principal source.name source.namespace source.owner source.serviceAccount
        source.workload.uid source.workload.name source.workload.namespace source.services
        destination.uid destination.user destination.principal destination.name destination.namespace
        destination.owner destination.serviceAccount destination.workload.uid destination.workload.name
        destination.workload.namespace destination.container.name destination.service.uid destination.service.name
        destination.service.namespace destination.service.host destination.mesh.id connection.event connection.id
        connection.requested_server_name context.protocol context.proxy_error_code context.proxy_version
        context.reporter.kind context.reporter.uid api.service api.version api.operation api.protocol
        rbac.permissive.response_code rbac.permissive.effective_policy_id check.error_message
    """,
    ValueType.INT64: """
        request.total_size request.size response.code response.total_size response.size destination.port
        connection.received.bytes connection.received.bytes_total connection.sent.bytes connection.sent.bytes_total
        check.error_code
    """,
    ValueType.BOOL: "connection.mtls context.reporter.local check.cache_hit quota.cache_hit",
    ValueType.TIMESTAMP: "request.time response.time context.timestamp context.time",
    ValueType.IP_ADDRESS: "origin.ip source.ip destination.ip",
    ValueType.DURATION: "response.duration connection.duration",
    ValueType.STRING_MAP: """
        request.headers request.query_params request.auth.claims response.headers source.labels source.metadata
        destination.labels destination.metadata
    """,
}
BUILT_IN: Mapping[str, ValueType] = {
    name: kind for kind, names in sorted(_BY_TYPE.items(), key=lambda one: one[0].value) for name in names.split()
}

_OVER = ("response.", "check.", "quota.", "connection.received.", "connection.sent.")
AFTERWARDS = frozenset(
    {
        *(name for name in BUILT_IN if name.startswith(_OVER)),
        "connection.duration",
        "connection.id",
        "context.proxy_error_code",
        "request.total_size",
    }
)
"""What is known only once a request or a connection is over, or goes on: reports have it, and checks do not."""


HEADERS: Mapping[str, str] = {
    "request.path": ":path",
    "request.host": ":authority",
    "request.method": ":method",
    "request.scheme": ":scheme",
    "request.useragent": "user-agent",
    "request.referer": "referer",
}
"""Attributes that are a header of the request."""
OF_HEADERS: Mapping[str, str] = {
    **HEADERS,
    "request.url_path": ":path",
    "request.query_params": ":path",
    "request.size": "content-length",
    "context.protocol": "content-type",
}
"""Attributes that are read from a header, or from a part of one."""


IN_PLACE_OF: Mapping[str, str] = {
    "destination.service": "destination.service.host",
    "source.service": "source.workload.name",
}
"""What Istio before 1.1 called some of them."""


class Vocabulary(msgspec.Struct, frozen=True):
    """All attributes by name."""

    attributes: Mapping[str, ValueType] = msgspec.field(default_factory=lambda: BUILT_IN)

    def type_of(self, name: str) -> ValueType | None:
        """The type of an attribute; None if there is none of that name."""
        return self.attributes.get(name)

    def remedy_for(self, name: str) -> str:
        """What to write in place of a name that is none."""
        if name in IN_PLACE_OF:
            return f"write {IN_PLACE_OF[name]}"
        near = difflib.get_close_matches(name, self.attributes, n=1)
        return f"did you mean {near[0]}?" if near else "define it in an attributemanifest"

    def extended(self, more: Mapping[str, ValueType]) -> Vocabulary:
        """With further attributes; those that are there keep their types."""
        return Vocabulary({**more, **self.attributes})


DEFAULT_VOCABULARY = Vocabulary()
