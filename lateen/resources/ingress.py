"""Ingress and IngressClass (networking.k8s.io). Fields that do not matter here are allowed."""

from __future__ import annotations

from typing import Any

from lateen.resources.kubernetes import Lenient


class IngressPort(Lenient, frozen=True):
    number: int | None = None
    name: str = ""


class IngressService(Lenient, frozen=True):
    name: str = ""
    port: IngressPort = IngressPort()


class IngressBackend(Lenient, frozen=True):
    service: IngressService | None = None
    resource: dict[str, Any] | None = None


class IngressPath(Lenient, frozen=True):
    path: str = ""
    path_type: str = ""
    backend: IngressBackend = IngressBackend()


class IngressPaths(Lenient, frozen=True):
    paths: tuple[IngressPath, ...] = ()


class IngressRule(Lenient, frozen=True):
    host: str = ""
    http: IngressPaths | None = None


class IngressTls(Lenient, frozen=True):
    hosts: tuple[str, ...] = ()
    secret_name: str = ""


class IngressSpec(Lenient, frozen=True):
    ingress_class_name: str | None = None
    default_backend: IngressBackend | None = None
    tls: tuple[IngressTls, ...] = ()
    rules: tuple[IngressRule, ...] = ()


class IngressClassSpec(Lenient, frozen=True):
    controller: str = ""
    parameters: dict[str, Any] | None = None
