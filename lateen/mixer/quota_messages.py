"""Questions about limits as they come: Envoy's RateLimitRequest, with bytes where that has texts.

What requests are counted by may hold any bytes that a client sent, or half a character where it was cut. Envoy sends
them as they are; the usual classes refuse such a message as a whole, and a client could so get around a limit that lets
pass while it cannot be asked about.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_Field = descriptor_pb2.FieldDescriptorProto
_ONE, _MANY = _Field.LABEL_OPTIONAL, _Field.LABEL_REPEATED
_MESSAGES: dict[str, tuple[tuple[str, int, int, Any], ...]] = {
    "Entry": (("key", 1, _ONE, _Field.TYPE_BYTES), ("value", 2, _ONE, _Field.TYPE_BYTES)),
    "Addend": (("value", 1, _ONE, _Field.TYPE_UINT64),),
    "Descriptor": (("entries", 1, _MANY, "Entry"), ("hits_addend", 3, _ONE, "Addend")),
    "Request": (
        ("domain", 1, _ONE, _Field.TYPE_BYTES),
        ("descriptors", 2, _MANY, "Descriptor"),
        ("hits_addend", 3, _ONE, _Field.TYPE_UINT32),
    ),
}
"""By message its fields: name, number, how many, and the type; the names of messages are of those here."""


def _classes() -> dict[str, Any]:
    file = descriptor_pb2.FileDescriptorProto(name="lateen/quota.proto", package="lateen.quota", syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind in fields:
            one = message.field.add(name=field, number=number, label=label)
            if isinstance(kind, str):
                one.type, one.type_name = _Field.TYPE_MESSAGE, f".lateen.quota.{kind}"
            else:
                one.type = kind
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"lateen.quota.{name}")) for name in _MESSAGES
    }


_CLASSES = _classes()
Request: Any = _CLASSES["Request"]
Descriptor: Any = _CLASSES["Descriptor"]
