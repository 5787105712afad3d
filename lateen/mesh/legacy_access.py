"""Access rules of the first generation, read as AuthorizationPolicies: one set for each service that is under them.

Comes in: ServiceRoles, their bindings, ClusterRbacConfig or RbacConfig, and services. Goes out: AuthorizationPolicies
whose fields keep the places where they were written, and findings. What a mesh does with the old kinds and what
``lateen convert`` writes are the same resources.

A service that is enforced has one policy without rules, so that nothing passes, and one for each binding that lets
something pass. A config or a binding that is PERMISSIVE makes policies that are only tried.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec

from lateen.findings import Finding, error, warning
from lateen.mesh.mixer.names import asks_roles
from lateen.mesh.model import Service
from lateen.resources.base import WorkloadSelector
from lateen.resources.checks.metadata import DRY_RUN
from lateen.resources.legacy_access import (
    RbacConfigSpec,
    RoleRule,
    ServiceRoleBindingSpec,
    ServiceRoleSpec,
    Subject,
)
from lateen.resources.legacy_support import LABEL
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, Condition, Operation, Rule, RuleFrom, RuleTo, Source
from lateen.values.names import Origin, ResourceKey

PERMISSIVE = "PERMISSIVE"
GROUPS = "request.auth.claims[groups]"
REQUEST_PRINCIPAL = "request.auth.principal"
EVERYONE = "*"
CONFIG_KINDS = ("ClusterRbacConfig", "RbacConfig")
_STATIC = {"destination.name": "name", "destination.namespace": "namespace"}


class Granted(msgspec.Struct, frozen=True):
    """A rule of a role with where it stands. ``is_tried``: the role is PERMISSIVE, and so are its bindings."""

    rule: RoleRule
    origin: Origin
    is_tried: bool = False


def legacy_access(
    by_kind: Mapping[str, Sequence[Resource]],
    services: Iterable[Service],
    peer_bound: frozenset[tuple[str, str]] = frozenset(),
) -> tuple[tuple[Resource, ...], tuple[Finding, ...]]:
    """The policies, each for one service, and what is wrong with what they come from. Resources come oldest first.

    ``peer_bound``: the services for which ``request.auth.principal`` is the peer (``principalBinding``).
    """
    config, findings = _config(by_kind)
    roles = {(role.key.namespace, role.key.name): role for role in by_kind.get("ServiceRole", ())}
    bindings = by_kind.get("ServiceRoleBinding", ())
    by_namespace: dict[str, list[Service]] = {}
    for service in services:
        if service.selector:
            by_namespace.setdefault(service.namespace, []).append(service)
    given: list[tuple[Resource, tuple[Granted, ...]]] = []
    for binding in bindings:
        rules, problem = granted(binding, roles)
        findings.extend(problem)
        given.append((binding, rules))
    if config is None:
        findings.extend(_not_turned_on(binding) for binding in bindings if not asks_roles(by_kind))
        return (), tuple(findings)
    findings.extend(_unknown_services(given, by_namespace))
    found: list[Resource] = []
    for namespace, own in by_namespace.items():
        here = [one for one in given if one[0].key.namespace == namespace]
        for service in own:
            if is_enforced(config.spec, service):
                found.append(_closed(config, service))
                at = _Place(
                    service, _own_ports(service, own) if here else None, (namespace, service.name) in peer_bound
                )
                found.extend(one for found_here in here for one in _policies(config, *found_here, at))
    return tuple(found), tuple(findings)


def is_enforced(config: RbacConfigSpec, service: Service) -> bool:
    """Whether a service is under the rules of roles."""
    target = config.inclusion if config.mode == "ON_WITH_INCLUSION" else config.exclusion
    named = target is not None and (service.hostname in target.services or service.namespace in target.namespaces)
    if config.mode == "ON_WITH_INCLUSION":
        return named
    return config.mode == "ON" or (config.mode == "ON_WITH_EXCLUSION" and not named)


def _config(by_kind: Mapping[str, Sequence[Resource]]) -> tuple[Resource | None, list[Finding]]:
    """The config that holds for the mesh, and a warning for each other one."""
    found = [resource for kind in CONFIG_KINDS for resource in by_kind.get(kind, ())]
    unused = [
        warning("without-effect", f"{found[0].key} holds for the whole mesh, so this one has no effect", other.origin)
        for other in found[1:]
    ]
    return (found[0] if found else None), unused


def granted(
    binding: Resource, roles: Mapping[tuple[str, str], Resource]
) -> tuple[tuple[Granted, ...], tuple[Finding, ...]]:
    """The rules that a binding grants, and what is wrong with the role that it names."""
    spec: ServiceRoleBindingSpec = binding.spec
    if spec.actions:
        return _with_places(binding, spec.actions, "actions"), ()
    field = "spec.roleRef.name" if spec.role_ref is not None else "spec.role"
    name = spec.role_ref.name if spec.role_ref is not None else spec.role
    role = roles.get((binding.key.namespace, name))
    if role is None:
        message = f"there is no ServiceRole {name} in namespace {binding.key.namespace}, so nothing is allowed"
        return (), (error("unknown-role", message, binding.origin_at(field), "add the role, or correct the name"),)
    rules: ServiceRoleSpec = role.spec
    return _with_places(role, rules.rules, "rules", is_tried=rules.mode == PERMISSIVE), ()


def _with_places(
    resource: Resource, rules: Iterable[RoleRule], name: str, *, is_tried: bool = False
) -> tuple[Granted, ...]:
    return tuple(
        Granted(rule, resource.origin_at(f"spec.{name}[{index}]"), is_tried) for index, rule in enumerate(rules)
    )


# --- policies --------------------------------------------------------------------------------------------------------


def _closed(config: Resource, service: Service) -> Resource:
    """The policy that lets nothing pass."""
    spec = AuthorizationPolicySpec(selector=WorkloadSelector(dict(service.selector)))
    trial = {DRY_RUN: "true"} if config.spec.enforcement_mode == PERMISSIVE else {}
    origin = config.origin_at("spec.mode")
    key = ResourceKey("AuthorizationPolicy", service.namespace, f"rbac-{service.name}")
    return Resource(key=key, origin=origin, spec=spec, annotations=trial, places={"spec": origin})


class _Place(NamedTuple):
    """A service. ``ports``: those that rules are held to; ``by_peer``: a request's principal is the peer."""

    service: Service
    ports: frozenset[int] | None
    by_peer: bool


def _policies(config: Resource, binding: Resource, granted: Sequence[Granted], at: _Place) -> Iterator[Resource]:
    """What one binding lets pass at a service: a policy for each set of labels that its rules ask for."""
    spec: ServiceRoleBindingSpec = binding.spec
    service = at.service
    by_labels: dict[tuple[tuple[str, str], ...], list[tuple[Rule, Origin]]] = {}
    for one in granted:
        for labels in _labels(one.rule, service):
            operation = _operation(one.rule, at.ports)
            if operation is None:
                continue
            rules = [_rule(subject, operation, one.rule, by_peer=at.by_peer) for subject in spec.subjects]
            by_labels.setdefault(labels, []).extend((rule, one.origin) for rule in rules)
    is_tried = PERMISSIVE in (spec.mode, config.spec.enforcement_mode) or any(one.is_tried for one in granted)
    for number, (labels, found) in enumerate(sorted(by_labels.items())):
        name = f"{binding.key.name}-{service.name}" + (f"-{number + 1}" if number else "")
        places = {"spec": binding.origin, **{f"spec.rules[{index}]": place for index, (_, place) in enumerate(found)}}
        yield Resource(
            key=ResourceKey("AuthorizationPolicy", service.namespace, name),
            origin=binding.origin,
            spec=AuthorizationPolicySpec(
                selector=WorkloadSelector({**dict(service.selector), **dict(labels)}),
                rules=tuple(rule for rule, _ in found),
            ),
            annotations={DRY_RUN: "true"} if is_tried else {},
            creation=binding.creation,
            places=places,
        )


def _labels(rule: RoleRule, service: Service) -> list[tuple[tuple[str, str], ...]]:
    """The sets of labels of workloads that a rule is for; none if it is not for the service at all."""
    if not any(fits(pattern, service.hostname) for pattern in rule.services):
        return []
    wanted: list[list[tuple[str, str]]] = []
    for constraint in rule.constraints:
        if constraint.key in _STATIC:
            if not any(fits(value, getattr(service, _STATIC[constraint.key])) for value in constraint.values):
                return []
        elif constraint.key.startswith(LABEL):
            name = constraint.key.removeprefix(LABEL).removesuffix("]")
            wanted.append([(name, value) for value in dict.fromkeys(constraint.values)])
    found = []
    for chosen in itertools.product(*wanted):
        labels = dict(chosen)
        if all(labels[name] == value for name, value in (*chosen, *service.selector) if name in labels):
            found.append(tuple(sorted(labels.items())))
    return found


def _own_ports(service: Service, services: Iterable[Service]) -> frozenset[int] | None:
    """The ports of workloads that rules for the service are held to: where another service may have the same workloads
    at other ports. None: there is no such service."""
    ports = {port.target for port in service.ports}
    for other in services:
        if other.hostname == service.hostname:
            continue
        chosen = dict(service.selector)
        overlaps = all(chosen.get(name, value) == value for name, value in other.selector)
        if overlaps and {port.target for port in other.ports} - ports:
            return frozenset(port for port in ports if isinstance(port, int))
    return None


def _operation(rule: RoleRule, own_ports: frozenset[int] | None) -> Operation | None:
    """What a rule lets be done; None: nothing at all."""
    ports: Sequence[int] = rule.ports
    if own_ports is not None:
        ports = [port for port in rule.ports if port in own_ports] if rule.ports else sorted(own_ports)
        if not ports:
            return None
    return Operation(
        hosts=rule.hosts,
        not_hosts=rule.not_hosts,
        ports=tuple(map(str, ports)),
        not_ports=tuple(map(str, rule.not_ports)),
        methods=rule.methods,
        not_methods=rule.not_methods,
        paths=rule.paths,
        not_paths=rule.not_paths,
    )


def _rule(subject: Subject, operation: Operation, rule: RoleRule, *, by_peer: bool) -> Rule:
    source = _source(subject)
    named = {REQUEST_PRINCIPAL: "source.principal"} if by_peer else {}
    conditions = [Condition(named.get(key, key), (value,)) for key, value in subject.properties.items()]
    groups = subject.groups or ((subject.group,) if subject.group else ())
    if groups or subject.not_groups:
        conditions.append(Condition(GROUPS, groups, subject.not_groups))
    conditions += [
        Condition(constraint.key, constraint.values)
        for constraint in rule.constraints
        if constraint.key not in _STATIC and not constraint.key.startswith(LABEL)
    ]
    return Rule(
        from_=(RuleFrom(source),) if source != Source() else None,
        to=(RuleTo(operation),) if operation != Operation() else None,
        when=tuple(conditions),
    )


def _source(subject: Subject) -> Source:
    """Who a subject is. Where some are left out by name or group, the others have to be known: by a certificate or a
    token, as nobody could tell otherwise."""
    names = subject.names or ((subject.user,) if subject.user not in ("", EVERYONE) else ())
    leaves_out = bool(subject.not_names or subject.not_namespaces)
    return Source(
        principals=names or ((EVERYONE,) if leaves_out else ()),
        not_principals=subject.not_names,
        request_principals=(EVERYONE,) if subject.not_groups else (),
        namespaces=subject.namespaces,
        not_namespaces=subject.not_namespaces,
        ip_blocks=subject.ips,
        not_ip_blocks=subject.not_ips,
    )


def fits(pattern: str, text: str) -> bool:
    """``*``, ``prefix*``, ``*suffix`` or the text itself."""
    if pattern.startswith("*"):
        return text.endswith(pattern[1:])
    return text.startswith(pattern[:-1]) if pattern.endswith("*") else text == pattern


# --- findings --------------------------------------------------------------------------------------------------------


def _not_turned_on(binding: Resource) -> Finding:
    message = "no ClusterRbacConfig turns roles on, so the binding has no effect"
    return warning("without-effect", message, binding.origin, "add a ClusterRbacConfig, or remove the binding")


def _unknown_services(
    granted: Iterable[tuple[Resource, tuple[Granted, ...]]], services: Mapping[str, Sequence[Service]]
) -> Iterator[Finding]:
    told: set[Origin] = set()
    for binding, rules in granted:
        own = [service.hostname for service in services.get(binding.key.namespace, ())]
        for one in rules:
            is_known = any(fits(pattern, host) for pattern in one.rule.services for host in own)
            if not is_known and one.origin not in told:
                told.add(one.origin)
                message = f"no service of namespace {binding.key.namespace} has such a name, so nothing is allowed"
                remedy = "write full host names, such as a.shop.svc.cluster.local"
                yield warning("unknown-service", message, one.origin, remedy)
