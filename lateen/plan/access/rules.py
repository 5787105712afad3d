"""AuthorizationPolicies of one workload, turned into the access rules of its chains.

Comes in: the policies that hold. Goes out: an ``AccessPolicy``, and findings on policies whose authorizer is not there.
What each text means: ``conditions``; who is asked: ``external``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import msgspec
from msgspec.structs import replace

from lateen.findings import Finding, error
from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.security_policy import authorization_policies, is_on_trial, token_demands
from lateen.plan.access import conditions as read
from lateen.plan.access.external import find_authorizer
from lateen.plan.access.model import (
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DirectAddress,
    ExternalAuthorizer,
    ExternalCheck,
    Not,
    RemoteAddress,
)
from lateen.plan.access.origins import origin_rules
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, Condition as When, Operation, Rule, Source
from lateen.values.names import Origin

ASKING = "istio-ext-authz-"
"""What the names of rules that ask an authorizer begin with."""
NOT_ASKED = "-deny-due-to-bad-CUSTOM-action"
"""What the names of rules end with that deny, as nobody can be asked."""
SEVERAL = "the policies of this workload name several providers; what these rules match is denied"


class Access(msgspec.Struct, frozen=True):
    """What a workload enforces, and what is wrong with the policies that say so."""

    policy: AccessPolicy
    findings: tuple[Finding, ...] = ()


def access_policy(snapshot: MeshSnapshot, namespace: str, labels: Labels, *, at_gateway: bool = False) -> Access:
    """What a workload enforces: every rule of each action; ALLOW rules where any ALLOW policy selects it.

    What should ask an authorizer that cannot be found denies.
    """
    policies = authorization_policies(snapshot, namespace, labels, at_gateway=at_gateway)
    found = _Rules(too_many=_too_many_authorizers(snapshot, policies))
    findings: list[Finding] = []
    if demands := token_demands(snapshot, namespace, labels):
        found.take("DENY", list(origin_rules(demands)))
    for resource in policies:
        spec: AuthorizationPolicySpec = resource.spec
        action = spec.action or "ALLOW"
        if action == "CUSTOM":
            findings.extend(found.ask(snapshot, resource))
        else:
            found.take(action, _rules(snapshot, resource), on_trial=is_on_trial(resource))
    return Access(found.policy(), tuple(findings))


def _too_many_authorizers(snapshot: MeshSnapshot, policies: Iterable[Resource]) -> bool:
    if snapshot.settings.several_authorizers:
        return False
    return len({_provider_of(resource) for resource in policies if resource.spec.action == "CUSTOM"}) > 1


def _provider_of(resource: Resource) -> str:
    return resource.spec.provider.name if resource.spec.provider is not None else ""


class _Rules:
    """Rules by what they are for, in the order of their policies. ``too_many``: no authorizer is asked."""

    def __init__(self, *, too_many: bool) -> None:
        self._too_many = too_many
        self._by_action: dict[tuple[str, bool], list[AccessRule]] = {}
        self._asked: dict[ExternalAuthorizer, list[AccessRule]] = {}

    def take(self, action: str, rules: list[AccessRule], *, on_trial: bool = False) -> None:
        self._by_action.setdefault((action, on_trial), []).extend(rules)

    def ask(self, snapshot: MeshSnapshot, resource: Resource) -> list[Finding]:
        name = _provider_of(resource)
        rules = _rules(snapshot, resource, f"{ASKING}{name}-")
        authorizer, findings = find_authorizer(snapshot, name, resource)
        if self._too_many:
            authorizer = None
            findings = [error("several-providers", SEVERAL, resource.origin_at("spec.provider.name"))]
        if authorizer is None:
            self.take("DENY", [replace(rule, name=f"{rule.name}{NOT_ASKED}") for rule in rules])
        else:
            self._asked.setdefault(authorizer, []).extend(rules)
        return findings

    def policy(self) -> AccessPolicy:
        return AccessPolicy(
            deny=self._of("DENY") or (),
            allow=self._of("ALLOW"),
            external=tuple(ExternalCheck(authorizer, tuple(rules)) for authorizer, rules in self._asked.items()),
            audit=self._of("AUDIT") or (),
            trial_deny=self._of("DENY", on_trial=True) or (),
            trial_allow=self._of("ALLOW", on_trial=True),
        )

    def _of(self, action: str, *, on_trial: bool = False) -> tuple[AccessRule, ...] | None:
        found = self._by_action.get((action, on_trial))
        return tuple(found) if found is not None else None


def _rules(snapshot: MeshSnapshot, resource: Resource, before: str = "") -> list[AccessRule]:
    """The rules of one policy; ``before`` stands in front of their names."""
    name = f"{before}ns[{resource.key.namespace}]-policy[{resource.key.name}]"
    return [
        _access_rule(
            f"{name}-rule[{index}]", rule, resource.origin_at(f"spec.rules[{index}]"), snapshot.settings.trust_domains
        )
        for index, rule in enumerate(resource.spec.rules)
    ]


class _Reader(msgspec.Struct, frozen=True):
    """Where a policy stands, which says what short names in it mean."""

    namespace: str
    domains: tuple[str, ...]

    def principal(self, text: str) -> Condition:
        return read.principal(text, self.domains)

    def account(self, text: str) -> Condition:
        return read.service_account(text, self.namespace)

    def when(self, when: When) -> Condition:
        terms: list[Condition] = []
        if when.values:
            terms.append(read.condition(when.key, when.values, self.namespace, self.domains))
        if when.not_values:
            terms.append(Not(read.condition(when.key, when.not_values, self.namespace, self.domains)))
        return All(tuple(terms))


@lru_cache(maxsize=8192)
def _access_rule(name: str, rule: Rule, origin: Origin, domains: tuple[str, ...]) -> AccessRule:
    """Made once for all workloads that a policy selects, and again only as it is edited."""
    reader = _Reader(origin.namespace, domains)
    sources = tuple(_source(entry.source, reader) for entry in rule.from_ or () if entry.source is not None)
    operations = tuple(_operation(entry.operation) for entry in rule.to or () if entry.operation is not None)
    asked = [reader.when(when) for when in rule.when if read.is_asked_for(when.key)]
    asking = [reader.when(when) for when in rule.when if not read.is_asked_for(when.key)]
    return AccessRule(
        name=name,
        principal=_all([AnyOf(sources)] if sources else [], asking),
        permission=_all([AnyOf(operations)] if operations else [], asked),
        origin=origin,
    )


def _all(first: list[Condition], more: list[Condition]) -> Condition:
    terms = (*first, *more)
    return terms[0] if len(terms) == 1 else All(terms)


def _source(source: Source, reader: _Reader) -> Condition:
    terms: list[Condition] = []
    _both(terms, source.principals, source.not_principals, reader.principal)
    _both(terms, source.request_principals, source.not_request_principals, read.request_principal)
    _both(terms, source.namespaces, source.not_namespaces, read.namespace)
    _both(terms, source.service_accounts, source.not_service_accounts, reader.account)
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
