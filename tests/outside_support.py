"""An adapter outside Mixer, as somebody would have written it for Mixer: a gRPC server of Mixer's own services.

Its messages are made here from what the services say, apart from the code that calls it.
"""

from __future__ import annotations

import base64
import concurrent.futures
import re
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor_pb2 import FieldDescriptorProto as Field

NAME = 72295727


def message_set(package: str, messages: dict[str, dict[str, tuple[int, str]]]) -> descriptor_pb2.FileDescriptorSet:
    """Messages of texts, numbers and one another: fields by name, with number and type; ``TYPE*`` is repeated."""
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    plain = {
        "string": Field.TYPE_STRING,
        "int64": Field.TYPE_INT64,
        "int32": Field.TYPE_INT32,
        "bytes": Field.TYPE_BYTES,
    }
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, (number, kind) in fields.items():
            label = Field.LABEL_REPEATED if kind.endswith("*") else Field.LABEL_OPTIONAL
            one = message.field.add(name=field, number=number, label=label)
            base = kind.removesuffix("*")
            one.type = plain.get(base, Field.TYPE_MESSAGE)
            if base not in plain:
                one.type_name = f".{package}.{base}"
    return descriptor_pb2.FileDescriptorSet(file=[file])


def classes(found: descriptor_pb2.FileDescriptorSet) -> dict[str, Any]:
    pool = descriptor_pool.DescriptorPool()
    for file in found.file:
        pool.Add(file)
    names = pool.FindFileByName(found.file[0].name).message_types_by_name
    return {name: message_factory.GetMessageClass(descriptor) for name, descriptor in names.items()}


ANY = {"type_url": (1, "string"), "value": (2, "bytes")}
VALUE = {
    "string_value": (1, "string"),
    "int64_value": (2, "int64"),
    "duration_value": (7, "Span"),
    "map": (11, "bytes"),
}
ENTRY = {"key": (1, "string"), "value": (2, "Value")}
WIRE = classes(
    message_set(
        "wire",
        {
            "Any": ANY,
            "Length": {"seconds": (1, "int64"), "nanos": (2, "int32")},
            "Span": {"value": (1, "Length")},
            "Value": VALUE,
            "Entry": ENTRY,
            "Listed": {"value": (1, "string"), "name": (NAME, "string")},
            "Who": {"user": (1, "string"), "groups": (2, "string"), "properties": (3, "Entry*")},
            "Authorized": {"subject": (1, "Who"), "name": (NAME, "string")},
            "Measured": {"value": (1, "Value"), "dimensions": (2, "Entry*"), "name": (NAME, "string")},
            "ListRequest": {"instance": (1, "Listed"), "config": (2, "Any"), "dedup_id": (3, "string")},
            "AuthorizationRequest": {"instance": (1, "Authorized"), "config": (2, "Any"), "dedup_id": (3, "string")},
            "MetricRequest": {"instances": (1, "Measured*"), "config": (2, "Any"), "dedup_id": (3, "string")},
            "Counted": {"dimensions": (1, "Entry*"), "name": (NAME, "string")},
            "Amount": {"amount": (1, "int64")},
            "AmountEntry": {"key": (1, "string"), "value": (2, "Amount")},
            "Amounts": {"quotas": (1, "AmountEntry*")},
            "QuotaRequest": {"instance": (1, "Counted"), "config": (2, "Any"), "asked": (4, "Amounts")},
            "Grant": {"valid_duration": (2, "Length"), "granted_amount": (3, "int64")},
            "GrantEntry": {"key": (1, "string"), "value": (2, "Grant")},
            "QuotaAnswer": {"quotas": (1, "GrantEntry*")},
            "Status": {"code": (1, "int32"), "message": (2, "string"), "details": (3, "Any*")},
            "Text": {"key": (1, "string"), "value": (2, "string")},
            "Direct": {"code": (1, "int32"), "body": (2, "string"), "headers": (3, "Text*")},
            "CheckAnswer": {"status": (1, "Status"), "valid": (2, "Length"), "uses": (3, "int32")},
            "Params": {"list": (1, "string*"), "most": (2, "int64")},
        },
    )
)
PARAMS = message_set("own.config", {"Params": {"list": (1, "string*"), "most": (2, "int64")}})
CONFIG = base64.b64encode(PARAMS.SerializeToString()).decode()


class OutsideAdapter:
    """Refuses entries that are not in its ``list``, grants up to ``most``, and keeps metrics that it is told."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.metadata: list[dict[str, str]] = []
        adapter = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: Any) -> Any:
                name = re.fullmatch(r"/\w+\.Handle(\w+)Service/Handle\1", details.method).group(1)
                answer = getattr(adapter, f"_{name.lower()}", lambda message: adapter._other(name.lower(), message))

                def call(message: bytes, context: grpc.ServicerContext) -> bytes:
                    adapter.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
                    return answer(message)

                return grpc.unary_unary_rpc_method_handler(call)

        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((Handler(),))
        if credentials is None:
            self.port = self._server.add_insecure_port("127.0.0.1:0")
        else:
            self.port = self._server.add_secure_port("127.0.0.1:0", credentials)

    def _listentry(self, message: bytes) -> bytes:
        found = WIRE["ListRequest"].FromString(message)
        self.calls.append(("listentry", found))
        answer = WIRE["CheckAnswer"]()
        answer.valid.seconds, answer.uses = 60, 100
        if found.instance.value == "elsewhere":
            direct = WIRE["Direct"](code=302, headers=[WIRE["Text"](key="location", value="https://x.example/")])
            type_url = "type.googleapis.com/istio.policy.v1beta1.DirectHttpResponse"
            answer.status.code = 16
            answer.status.details.add(type_url=type_url, value=direct.SerializeToString())
        elif found.instance.value not in WIRE["Params"].FromString(found.config.value).list:
            answer.status.code, answer.status.message = 7, "not in my list"
        return answer.SerializeToString()

    def _authorization(self, message: bytes) -> bytes:
        return self._other("authorization", WIRE["AuthorizationRequest"].FromString(message))

    def _metric(self, message: bytes) -> bytes:
        return self._other("metric", WIRE["MetricRequest"].FromString(message))

    def _other(self, name: str, message: Any) -> bytes:
        """Well, whatever it is."""
        self.calls.append((name, message))
        return b""

    def _quota(self, message: bytes) -> bytes:
        found = WIRE["QuotaRequest"].FromString(message)
        self.calls.append(("quota", found))
        answer = WIRE["QuotaAnswer"]()
        for asked in found.asked.quotas:
            grant = answer.quotas.add(key=asked.key).value
            grant.granted_amount = min(asked.value.amount, WIRE["Params"].FromString(found.config.value).most)
        return answer.SerializeToString()

    def __enter__(self) -> OutsideAdapter:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()
