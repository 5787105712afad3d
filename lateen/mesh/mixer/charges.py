"""Which requests are charged to quotas: QuotaSpecs, bound to services.

Comes in: QuotaSpecs, their bindings, and the instances of the template quota that their names mean. Goes out: charges,
and findings on names that lead nowhere.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

import msgspec

from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.findings import Finding, error, warning
from lateen.mesh.mixer.model import BoundTo, Charge, Clause, Rule
from lateen.mesh.mixer.names import INSTANCE, NameInRule, full_name, meant
from lateen.resources.base import StringMatch
from lateen.resources.mixer.adapters import MemquotaLimit, MemquotaParams, RedisquotaLimit, RedisquotaParams
from lateen.resources.mixer.bound import BoundService, QuotaSpecBindingSpec, QuotaSpecSpec
from lateen.resources.mixer.content import InstanceContent, instance_content
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey

DOMAIN = "svc.cluster.local"
BINDINGS = ("QuotaSpecBinding", "HTTPAPISpecBinding")
QUOTA = "quota"


class Charges(msgspec.Struct, frozen=True):
    """What holds, and what is wrong; ``used`` are the keys of instances that are charged."""

    charges: tuple[Charge, ...] = ()
    findings: tuple[Finding, ...] = ()
    used: frozenset[ResourceKey] = frozenset()


def charges_of(
    by_kind: Mapping[str, Sequence[Resource]], present: Mapping[ResourceKey, Resource], vocabulary: Vocabulary
) -> Charges:
    """``present`` are the instances that there are."""
    specs = {resource.key: resource for resource in by_kind.get("QuotaSpec", ())}
    bound: dict[ResourceKey, list[BoundTo]] = {}
    findings: list[Finding] = []
    for resource in by_kind.get("QuotaSpecBinding", ()):
        spec: QuotaSpecBindingSpec = resource.spec
        services = [bound_to(service, resource.key.namespace) for service in spec.services]
        for index, one in enumerate(spec.quota_specs):
            key = ResourceKey("QuotaSpec", one.namespace or resource.key.namespace, one.name)
            if key in specs:
                bound.setdefault(key, []).extend(services)
            else:
                origin = resource.origin_at(f"spec.quotaSpecs[{index}]")
                message = f"there is no QuotaSpec {one.name} in {key.namespace}"
                findings.append(error("unknown-quota-spec", message, origin, "add it, or correct name and namespace"))
    charges: list[Charge] = []
    used: set[ResourceKey] = set()
    for key, resource in sorted(specs.items(), key=lambda pair: (pair[0].namespace, pair[0].name)):
        if key not in bound:
            message = "no QuotaSpecBinding binds it to services, so it charges nothing"
            findings.append(warning("unused", message, resource.origin, "bind it, or remove it"))
        findings.extend(_unknown_attributes(resource, vocabulary))
        for found, instance in _charges(resource, present, findings):
            used.add(instance)
            if key in bound:
                charges.append(msgspec.structs.replace(found, services=tuple(bound[key])))
    return Charges(tuple(charges), tuple(findings), frozenset(used))


def _charges(
    resource: Resource, present: Mapping[ResourceKey, Resource], findings: list[Finding]
) -> Iterator[tuple[Charge, ResourceKey]]:
    spec: QuotaSpecSpec = resource.spec
    for index, rule in enumerate(spec.rules):
        clauses = tuple(
            tuple(_clause(attribute, text) for attribute, text in sorted(match.clause.items())) for match in rule.match
        )
        for number, charged in enumerate(rule.quotas):
            place = f"spec.rules[{index}].quotas[{number}].quota"
            instance = meant(NameInRule(place, charged.quota, INSTANCE), resource.key.namespace, present)
            content = None if instance is None else instance_content(instance)
            if instance is None or not isinstance(content, InstanceContent) or content.template.name != QUOTA:
                message = f"there is no instance {charged.quota} of the template quota, so nothing is charged to it"
                remedy = "add it, or correct the name: NAME or NAME.NAMESPACE"
                findings.append(error("unknown-quota", message, resource.origin_at(place), remedy))
                continue
            amount = 1 if charged.charge is None else charged.charge
            yield Charge(full_name(instance), amount, clauses, (), resource.origin_at(place)), instance.key


def _unknown_attributes(resource: Resource, vocabulary: Vocabulary) -> Iterator[Finding]:
    spec: QuotaSpecSpec = resource.spec
    for index, rule in enumerate(spec.rules):
        for number, match in enumerate(rule.match):
            for attribute in match.clause:
                if vocabulary.type_of(attribute) in (None, ValueType.STRING_MAP):
                    message = f"{attribute} is no attribute that can be held against a text, so the match never holds"
                    origin = resource.origin_at(f"spec.rules[{index}].match[{number}].clause.{attribute}")
                    yield error("unknown-attribute", message, origin, "write one such as request.path")


def _clause(attribute: str, text: StringMatch) -> Clause:
    if text.exact is not None:
        return Clause(attribute, "exact", text.exact)
    if text.prefix is not None:
        return Clause(attribute, "prefix", text.prefix)
    return Clause(attribute, "regex", text.regex or "")


def bound_to(service: BoundService, namespace: str) -> BoundTo:
    """By ``service`` (a host, or * for all), or by name, namespace and domain."""
    labels = tuple(sorted(service.labels.items()))
    if service.service:
        return BoundTo("" if service.service == "*" else service.service, labels)
    return BoundTo(f"{service.name}.{service.namespace or namespace}.{service.domain or DOMAIN}", labels)


def bound_to_nobody(by_kind: Mapping[str, Sequence[Resource]], hosts: Container[str]) -> Iterator[Finding]:
    """Warnings on bindings to services that the mesh does not have."""
    for resource in (one for kind in BINDINGS for one in by_kind.get(kind, ())):
        for index, service in enumerate(resource.spec.services):
            host = bound_to(service, resource.key.namespace).host
            if host and host not in hosts:
                message = f"the mesh has no service {host}, so nothing is bound to it"
                origin = resource.origin_at(f"spec.services[{index}]")
                remedy = f"write the whole host, such as {host}.{resource.key.namespace}.{DOMAIN}"
                by_name = not service.service or "." in host
                yield warning("unknown-service", message, origin, "correct name and namespace" if by_name else remedy)


def uncounted(rules: Sequence[Rule], charges: Sequence[Charge]) -> Iterator[Finding]:
    """Errors on quotas that are charged and that no rule counts, and on those that a handler has no limit for."""
    counted = {
        instance.name: action.handler
        for rule in rules
        for action in rule.actions
        for instance in action.instances
        if instance.template == QUOTA
    }
    for charge in charges:
        if charge.quota not in counted:
            message = f"no rule gives {charge.quota} to a handler, so all that is charged to it is granted"
            yield error("uncounted-quota", message, charge.origin, "write a rule with memquota or redisquota")
    for name, handler in counted.items():
        if isinstance(handler.params, MemquotaParams | RedisquotaParams):
            limit = limit_for(handler.params, name)
            if limit is None:
                message = f"{handler.name} has no limit for {name}, so everything charged to it is refused"
                yield error("no-limit", message, handler.origin, f"add one to quotas, by the name {name.split('.')[0]}")
            else:
                yield from _never_granted(limit, (charge for charge in charges if charge.quota == name))
        if name not in {charge.quota for charge in charges}:
            message = f"no QuotaSpec charges {name}, so nothing is counted"
            yield warning("uncharged-quota", message, handler.origin, "write a QuotaSpec and bind it to services")


def _never_granted(limit: MemquotaLimit | RedisquotaLimit, charges: Iterable[Charge]) -> Iterator[Finding]:
    most = max((limit.max_amount, *(override.max_amount for override in limit.overrides)))
    for charge in charges:
        if charge.amount > most:
            message = f"a request is charged {charge.amount}, and there are {most} at most, so each one is refused"
            yield warning("never-granted", message, charge.origin, "charge less, or raise maxAmount")


def limit_for(params: MemquotaParams | RedisquotaParams, quota: str) -> MemquotaLimit | RedisquotaLimit | None:
    """The limit for an instance by its full name; ``name``, ``name.namespace`` and ``name.kind.namespace`` mean it."""
    name, _, rest = quota.partition(".")
    namespace = rest.rpartition(".")[2]
    meant_by = {quota, name, f"{name}.{namespace}", f"{name}.instance.{namespace}", f"{name}.quota.{namespace}"}
    return next((limit for limit in params.quotas if limit.name in meant_by), None)
