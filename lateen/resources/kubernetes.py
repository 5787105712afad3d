"""Kubernetes' own kinds that Lateen reads: Service and Secret. Fields that do not matter here are allowed."""

from __future__ import annotations

import base64
import binascii

import msgspec


class Lenient(msgspec.Struct, frozen=True, rename="camel"):
    """Base of structs of kinds that others define: unknown fields are theirs."""


class KubernetesServicePort(Lenient, frozen=True):
    port: int
    name: str = ""
    protocol: str | None = None
    target_port: int | str | None = None
    app_protocol: str | None = None


TRAFFIC_DISTRIBUTION = "networking.istio.io/traffic-distribution"
"""The annotation that says of a Service or ServiceEntry what ``trafficDistribution`` says of a Service."""
HEADLESS = "None"
"""The ``clusterIP`` of a Service that has none, whose name stands for its members."""
PREFERENCES = ("PreferClose", "PreferSameZone", "PreferSameNode")


class KubernetesServiceSpec(Lenient, frozen=True):
    ports: tuple[KubernetesServicePort, ...] = ()
    selector: dict[str, str] = {}
    cluster_ip: str | None = msgspec.field(default=None, name="clusterIP")
    type: str | None = None
    external_name: str | None = None
    publish_not_ready_addresses: bool = False
    traffic_distribution: str | None = None

    @property
    def is_alias(self) -> bool:
        return self.type == "ExternalName"


class SecretSpec(Lenient, frozen=True):
    """``data`` holds base64, ``stringData`` plain text. The repr shows names alone."""

    type: str | None = None
    data: dict[str, str] = {}
    string_data: dict[str, str] = {}

    def value(self, name: str) -> bytes:
        """One entry, empty if it is not there. Raises ValueError where it is not base64."""
        if name in self.string_data:
            return self.string_data[name].encode()
        try:
            return base64.b64decode(self.data.get(name, ""), validate=True)
        except binascii.Error as problem:
            raise ValueError(f"data.{name} of the Secret is not base64") from problem

    def __repr__(self) -> str:
        return f"SecretSpec(type={self.type!r}, names={sorted({*self.data, *self.string_data})!r})"
