"""Access rules of the first generation: ServiceRole, ServiceRoleBinding, RbacConfig, ClusterRbacConfig."""

from __future__ import annotations

from typing import Literal

from lateen.resources.base import Int32, Spec

Enforcement = Literal["ENFORCED", "PERMISSIVE"]


class Constraint(Spec, frozen=True):
    key: str = ""
    values: tuple[str, ...] = ()


class RoleRule(Spec, frozen=True):
    services: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    not_paths: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    not_methods: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    not_hosts: tuple[str, ...] = ()
    ports: tuple[Int32, ...] = ()
    not_ports: tuple[Int32, ...] = ()
    constraints: tuple[Constraint, ...] = ()


class ServiceRoleSpec(Spec, frozen=True):
    """``mode`` PERMISSIVE makes every binding of the role so."""

    rules: tuple[RoleRule, ...] = ()
    mode: Enforcement | None = None


class Subject(Spec, frozen=True):
    user: str = ""
    names: tuple[str, ...] = ()
    not_names: tuple[str, ...] = ()
    group: str = ""
    groups: tuple[str, ...] = ()
    not_groups: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    not_namespaces: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    not_ips: tuple[str, ...] = ()
    properties: dict[str, str] = {}


class RoleReference(Spec, frozen=True):
    kind: str = ""
    name: str = ""


class ServiceRoleBindingSpec(Spec, frozen=True):
    subjects: tuple[Subject, ...] = ()
    role_ref: RoleReference | None = None
    mode: Enforcement | None = None
    actions: tuple[RoleRule, ...] = ()
    role: str = ""


class RbacTarget(Spec, frozen=True):
    services: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()


class RbacConfigSpec(Spec, frozen=True):
    """Of RbacConfig and ClusterRbacConfig alike."""

    mode: Literal["OFF", "ON", "ON_WITH_INCLUSION", "ON_WITH_EXCLUSION"] | None = None
    inclusion: RbacTarget | None = None
    exclusion: RbacTarget | None = None
    enforcement_mode: Enforcement | None = None
