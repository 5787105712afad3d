"""The two messages of ``istio.v1.auth.IstioCertificateService``, the service that Istio's agents speak.

They are defined here by their wire shape, as no package that Lateen uses carries them, and in a descriptor pool of
their own: a package that brings the same names does no harm.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, struct_pb2

SERVICE = "istio.v1.auth.IstioCertificateService"
METHOD = f"/{SERVICE}/CreateCertificate"
_FIELD = descriptor_pb2.FieldDescriptorProto


def _field(name: str, number: int, kind: int, *, repeated: bool = False, message: str = "") -> _FIELD:
    label = _FIELD.LABEL_REPEATED if repeated else _FIELD.LABEL_OPTIONAL
    field = _FIELD(name=name, number=number, type=kind, label=label)  # type: ignore[arg-type]
    if message:
        field.type_name = message
    return field


def _define() -> tuple[Any, Any]:
    file = descriptor_pb2.FileDescriptorProto(
        name="lateen/istio_certificate_service.proto",
        package="istio.v1.auth",
        syntax="proto3",
        dependency=[struct_pb2.DESCRIPTOR.name],
        message_type=[
            descriptor_pb2.DescriptorProto(
                name="IstioCertificateRequest",
                field=[
                    _field("csr", 1, _FIELD.TYPE_STRING),
                    _field("validity_duration", 3, _FIELD.TYPE_INT64),
                    _field("metadata", 4, _FIELD.TYPE_MESSAGE, message=".google.protobuf.Struct"),
                ],
            ),
            descriptor_pb2.DescriptorProto(
                name="IstioCertificateResponse",
                field=[_field("cert_chain", 1, _FIELD.TYPE_STRING, repeated=True)],
            ),
        ],
    )
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(struct_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    names = ("IstioCertificateRequest", "IstioCertificateResponse")
    request, response = (pool.FindMessageTypeByName(f"istio.v1.auth.{name}") for name in names)
    return message_factory.GetMessageClass(request), message_factory.GetMessageClass(response)


CertificateRequest, CertificateResponse = _define()
"""``csr`` (PEM), ``validity_duration`` (seconds), ``metadata``; and ``cert_chain`` (PEM, leaf first, root last)."""
