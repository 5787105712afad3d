"""AuthorizationPolicies of one workload, turned into the access rules of its chains.

Comes in: the policies that hold. Goes out: an ``AccessPolicy``. What each text means: ``conditions``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.security_policy import authorization_policies
from lateen.plan.access import conditions as read
from lateen.plan.access.model import AccessPolicy, AccessRule, All, AnyOf, Condition, DirectAddress, Not, RemoteAddress
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, Operation, Rule, Source
from lateen.resources.security import Condition as When
from lateen.values.names import Origin


def access_policy(snapshot: MeshSnapshot, namespace: str, labels: Labels) -> AccessPolicy:
    """What a workload enforces: every DENY rule, and, where any ALLOW policy selects it, the ALLOW rules."""
    deny: list[AccessRule] = []
    allow: list[AccessRule] | None = None
    for resource in authorization_policies(snapshot, namespace, labels):
        spec: AuthorizationPolicySpec = resource.spec
        rules = [_rule(resource, index, rule) for index, rule in enumerate(spec.rules)]
        if (spec.action or "ALLOW") == "DENY":
            deny.extend(rules)
        else:
            allow = [*(allow or []), *rules]
    return AccessPolicy(tuple(deny), tuple(allow) if allow is not None else None)


def _rule(resource: Resource, index: int, rule: Rule) -> AccessRule:
    name = f"ns[{resource.key.namespace}]-policy[{resource.key.name}]-rule[{index}]"
    return _access_rule(name, rule, resource.origin_at(f"spec.rules[{index}]"))


@lru_cache(maxsize=8192)
def _access_rule(name: str, rule: Rule, origin: Origin) -> AccessRule:
    """Made once for all workloads that a policy selects, and again only as it is edited."""
    namespace = origin.namespace
    sources = tuple(_source(entry.source, namespace) for entry in rule.from_ or () if entry.source is not None)
    operations = tuple(_operation(entry.operation) for entry in rule.to or () if entry.operation is not None)
    asked = [_when(when, namespace) for when in rule.when if read.is_asked_for(when.key)]
    asking = [_when(when, namespace) for when in rule.when if not read.is_asked_for(when.key)]
    return AccessRule(
        name=name,
        principal=_all([AnyOf(sources)] if sources else [], asking),
        permission=_all([AnyOf(operations)] if operations else [], asked),
        origin=origin,
    )


def _all(first: list[Condition], more: list[Condition]) -> Condition:
    terms = (*first, *more)
    return terms[0] if len(terms) == 1 else All(terms)


def _when(when: When, namespace: str) -> Condition:
    terms: list[Condition] = []
    if when.values:
        terms.append(read.condition(when.key, when.values, namespace))
    if when.not_values:
        terms.append(Not(read.condition(when.key, when.not_values, namespace)))
    return All(tuple(terms))


def _source(source: Source, namespace: str) -> Condition:
    def account(text: str) -> Condition:
        return read.service_account(text, namespace)

    terms: list[Condition] = []
    _both(terms, source.principals, source.not_principals, read.principal)
    _both(terms, source.request_principals, source.not_request_principals, read.request_principal)
    _both(terms, source.namespaces, source.not_namespaces, read.namespace)
    _both(terms, source.service_accounts, source.not_service_accounts, account)
    _both(terms, source.trust_domains, source.not_trust_domains, read.trust_domain)
    _both(terms, source.ip_blocks, source.not_ip_blocks, DirectAddress)
    _both(terms, source.remote_ip_blocks, source.not_remote_ip_blocks, RemoteAddress)
    return All(tuple(terms))


def _operation(operation: Operation) -> Condition:
    terms: list[Condition] = []
    _both(terms, operation.hosts, operation.not_hosts, read.host)
    _both(terms, operation.ports, operation.not_ports, read.port)
    _both(terms, operation.methods, operation.not_methods, read.method)
    _both(terms, operation.paths, operation.not_paths, read.path)
    return All(tuple(terms))


def _both(
    terms: list[Condition], wanted: Iterable[str], unwanted: Iterable[str], make: Callable[[str], Condition]
) -> None:
    """Add one of ``wanted`` (if there are any) and none of ``unwanted``."""
    one = tuple(make(text) for text in wanted)
    none = tuple(make(text) for text in unwanted)
    if one:
        terms.append(AnyOf(one))
    if none:
        terms.append(Not(AnyOf(none)))
