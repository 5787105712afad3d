"""ServiceRole, ServiceRoleBinding, RbacConfig and ClusterRbacConfig, each judged by itself."""

from __future__ import annotations

import re
from collections.abc import Iterable

from lateen.resources.checks import Report
from lateen.resources.checks.security import ADDRESSES, PORTS
from lateen.resources.legacy_access import (
    RbacConfigSpec,
    RbacTarget,
    RoleRule,
    ServiceRoleBindingSpec,
    ServiceRoleSpec,
    Subject,
)
from lateen.values.network import MAX_PORT, is_cidr

NAME = "default"
LABELS = re.compile(r"destination\.labels\[[^\[\]]+\]")
_CONSTRAINTS = frozenset(
    {"destination.ip", "destination.port", "destination.name", "destination.namespace", "destination.user"}
)
_KEYED = re.compile(r"(?:request\.headers\[[^\[\]]+\]|experimental\.envoy\.filters\.[^\[\]]+\[.+\])")
_PROPERTIES = frozenset(
    {
        "source.principal",
        "source.namespace",
        "source.ip",
        "request.auth.principal",
        "request.auth.audiences",
        "request.auth.presenter",
    }
)
_KEYED_PROPERTY = re.compile(r"(?:request\.headers\[[^\[\]]+\]|request\.auth\.claims(?:\[[^\[\]]+\])+)")


def check_service_role(report: Report) -> None:
    spec: ServiceRoleSpec = report.resource.spec
    if not spec.rules:
        report.error("spec.rules", "a role needs rules", "such as rules: [{services: ['*']}]", "missing-field")
    _check_rules(report, "spec.rules", spec.rules)


def check_service_role_binding(report: Report) -> None:
    spec: ServiceRoleBindingSpec = report.resource.spec
    if not spec.subjects:
        report.error("spec.subjects", "a binding needs subjects", "such as subjects: [{user: '*'}]", "missing-field")
    for index, subject in enumerate(spec.subjects):
        _check_subject(report, f"spec.subjects[{index}]", subject)
    given = [
        name for name, value in (("roleRef", spec.role_ref), ("role", spec.role), ("actions", spec.actions)) if value
    ]
    if not given:
        report.error("spec.roleRef", "a binding needs a role", "give roleRef", "missing-field")
    if len(given) > 1:
        report.error("spec", f"{' and '.join(given)} exclude each other", "keep one of them")
    if spec.role_ref is not None:
        if spec.role_ref.kind != "ServiceRole":
            report.error("spec.roleRef.kind", f"{spec.role_ref.kind!r} is no kind of role", "write ServiceRole")
        if not spec.role_ref.name:
            report.error(
                "spec.roleRef.name", "the role has no name", "name a ServiceRole of this namespace", "missing-field"
            )
    _check_rules(report, "spec.actions", spec.actions)


def check_rbac_config(report: Report) -> None:
    """RbacConfig and ClusterRbacConfig."""
    spec: RbacConfigSpec = report.resource.spec
    kind = report.resource.key.kind
    if report.resource.key.name != NAME:
        report.error("metadata.name", f"a {kind} has to be named {NAME}", f"name it {NAME}")
    for field, mode, target in (
        ("inclusion", "ON_WITH_INCLUSION", spec.inclusion),
        ("exclusion", "ON_WITH_EXCLUSION", spec.exclusion),
    ):
        if target is not None and spec.mode != mode:
            report.error(f"spec.{field}", f"{field} goes with mode {mode} alone", "leave it out, or change mode")
        if target is None and spec.mode == mode:
            report.error(
                f"spec.{field}", f"mode {mode} needs {field}", f"add {field}: {{namespaces: [...]}}", "missing-field"
            )
        if target is not None:
            _check_target(report, f"spec.{field}", target)


def _check_target(report: Report, field: str, target: RbacTarget) -> None:
    if not target.services and not target.namespaces:
        report.warn(field, "neither services nor namespaces are named", "name some")
    for index, service in enumerate(target.services):
        if "." not in service or "*" in service:
            report.error(
                f"{field}.services[{index}]", f"{service!r} is no full host name", "such as a.shop.svc.cluster.local"
            )
    _check_texts(report, f"{field}.namespaces", target.namespaces)


def _check_rules(report: Report, field: str, rules: tuple[RoleRule, ...]) -> None:
    for index, rule in enumerate(rules):
        _check_rule(report, f"{field}[{index}]", rule)


def _check_rule(report: Report, field: str, rule: RoleRule) -> None:
    if not rule.services:
        report.error(f"{field}.services", "a rule needs services", "name them, or * for all", "missing-field")
    _check_texts(report, f"{field}.services", rule.services)
    for name in ("paths", "methods", "hosts", "ports"):
        wanted, unwanted, other = getattr(rule, name), getattr(rule, f"not_{name}"), f"not{name.capitalize()}"
        if wanted and unwanted:
            report.error(f"{field}.{other}", f"{name} and {other} exclude each other", "keep one of them")
        if name != "ports":
            _check_texts(report, f"{field}.{name}", wanted)
            _check_texts(report, f"{field}.{other}", unwanted)
    for name, paths in (("paths", rule.paths), ("notPaths", rule.not_paths)):
        for index, path in enumerate(paths):
            if "{" in path or "}" in path:
                remedy = "write prefix*, *suffix or the path itself"
                report.error(f"{field}.{name}[{index}]", f"{path[:100]!r} has braces, which no path has", remedy)
    for name, ports in (("ports", rule.ports), ("notPorts", rule.not_ports)):
        for index, port in enumerate(ports):
            if not 0 < port <= MAX_PORT:
                report.error(
                    f"{field}.{name}[{index}]",
                    f"port {port} is not between 1 and {MAX_PORT}",
                    "name a port of the workload",
                )
    for index, constraint in enumerate(rule.constraints):
        _check_constraint(report, f"{field}.constraints[{index}]", constraint.key, constraint.values)


def _check_constraint(report: Report, field: str, key: str, values: tuple[str, ...]) -> None:
    if not key:
        report.error(f"{field}.key", "a constraint needs a key", "such as destination.labels[version]", "missing-field")
        return
    if key not in _CONSTRAINTS and not LABELS.fullmatch(key) and not _KEYED.fullmatch(key):
        report.error(f"{field}.key", f"{key!r} is no attribute of a constraint", "such as destination.labels[version]")
    if not values:
        report.error(f"{field}.values", "a constraint needs values", "give some", "missing-field")
    _check_texts(report, f"{field}.values", values)
    for index, value in enumerate(values):
        place = f"{field}.values[{index}]"
        if key == "destination.ip" and not is_cidr(value):
            report.error(place, f"{value!r} is no address or address range", ADDRESSES)
        if key == "destination.port" and not (value.isascii() and value.isdigit() and 0 < int(value[:9]) <= MAX_PORT):
            report.error(place, f"{value!r} is no port", PORTS)


def _check_subject(report: Report, field: str, subject: Subject) -> None:
    if subject == Subject():
        report.error(field, "the subject is empty", 'write user: "*" for everyone', "missing-field")
    for name, first, second in (
        ("names", subject.names, subject.not_names),
        ("groups", subject.groups or subject.group, subject.not_groups),
        ("namespaces", subject.namespaces, subject.not_namespaces),
        ("ips", subject.ips, subject.not_ips),
    ):
        if first and second:
            other = f"not{name.capitalize()}"
            report.error(f"{field}.{other}", f"{name} and {other} exclude each other", "keep one of them")
    if subject.user and subject.names:
        report.error(f"{field}.user", "user and names exclude each other", "keep names")
    if subject.group and subject.groups:
        report.error(f"{field}.group", "group and groups exclude each other", "keep groups")
    if "*" in subject.names:
        report.error(f"{field}.names", "* in names would mean everyone", 'write user: "*"')
    for name, texts in (
        ("names", subject.names),
        ("notNames", subject.not_names),
        ("groups", subject.groups),
        ("notGroups", subject.not_groups),
        ("namespaces", subject.namespaces),
        ("notNamespaces", subject.not_namespaces),
    ):
        _check_texts(report, f"{field}.{name}", texts)
    for name, blocks in (("ips", subject.ips), ("notIps", subject.not_ips)):
        for index, block in enumerate(blocks):
            if not is_cidr(block):
                report.error(f"{field}.{name}[{index}]", f"{block!r} is no address or address range", ADDRESSES)
    for key, value in subject.properties.items():
        if key not in _PROPERTIES and not _KEYED_PROPERTY.fullmatch(key):
            report.error(f"{field}.properties.{key}", f"{key!r} is no property", "such as source.namespace")
        elif key == "source.ip" and not is_cidr(value):
            report.error(f"{field}.properties.{key}", f"{value!r} is no address or address range", ADDRESSES)
        elif not value:
            report.error(f"{field}.properties.{key}", "an empty text matches nothing", "leave it out")


def _check_texts(report: Report, field: str, texts: Iterable[str]) -> None:
    for index, text in enumerate(texts):
        if not text:
            report.error(f"{field}[{index}]", "an empty text matches nothing", "leave it out")
