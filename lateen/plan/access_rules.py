"""AuthorizationPolicies of one workload, turned into the access rules of its chains.

Comes in: the policies that hold. Goes out: an ``AccessPolicy``. Strings have AuthorizationPolicy's small syntax:
``abc`` exact, ``abc*`` prefix, ``*abc`` suffix, ``*`` present. Namespaces are matched inside the peer's SPIFFE id,
every character of a name standing for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.security_policy import authorization_policies
from lateen.plan.access import (
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DestinationPort,
    DirectAddress,
    Header,
    Not,
    PeerIdentity,
    RemoteAddress,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.resources.resource import Resource
from lateen.resources.security import AuthorizationPolicySpec, Operation, Rule, Source
from lateen.values.names import Origin

SPIFFE = "spiffe://"
_SPECIAL = frozenset("\\.+*?()|[]{}^$-#&~")


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
    sources = tuple(_source(entry.source) for entry in rule.from_ or () if entry.source is not None)
    operations = tuple(_operation(entry.operation) for entry in rule.to or () if entry.operation is not None)
    return AccessRule(
        name=name,
        principal=AnyOf(sources) if sources else All(),
        permission=AnyOf(operations) if operations else All(),
        origin=origin,
    )


def _source(source: Source) -> Condition:
    terms: list[Condition] = []
    _both(terms, source.principals, source.not_principals, _principal)
    _both(terms, source.namespaces, source.not_namespaces, _namespace)
    _both(terms, source.ip_blocks, source.not_ip_blocks, DirectAddress)
    _both(terms, source.remote_ip_blocks, source.not_remote_ip_blocks, RemoteAddress)
    return All(tuple(terms))


def _operation(operation: Operation) -> Condition:
    terms: list[Condition] = []
    _both(terms, operation.hosts, operation.not_hosts, _host)
    _both(terms, operation.ports, operation.not_ports, lambda text: DestinationPort(int(text)))
    _both(terms, operation.methods, operation.not_methods, lambda text: Header(":method", mini_syntax(text)))
    _both(terms, operation.paths, operation.not_paths, lambda text: UrlPath(mini_syntax(text)))
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


def mini_syntax(text: str, before: str = "") -> StringMatcher:
    """Read AuthorizationPolicy's small syntax; ``before`` stands in front of what the user wrote.

    A suffix of something that has a fixed beginning needs a pattern, with the text quoted.
    """
    if text == "*":
        return StringMatcher(MatchKind.PREFIX, before) if before else StringMatcher(MatchKind.PRESENT)
    if text.startswith("*"):
        if before:
            return StringMatcher(MatchKind.REGEX, f"{quote(before)}.*{quote(text[1:])}")
        return StringMatcher(MatchKind.SUFFIX, text[1:])
    if text.endswith("*"):
        return StringMatcher(MatchKind.PREFIX, before + text[:-1])
    return StringMatcher(MatchKind.EXACT, before + text)


def quote(text: str) -> str:
    """Make every character of a text stand for itself in an RE2 pattern."""
    return "".join(f"\\{character}" if character in _SPECIAL else character for character in text)


def _principal(text: str) -> Condition:
    return PeerIdentity(mini_syntax(text, SPIFFE))


def _namespace(text: str) -> Condition:
    inner = "[^/]*".join(quote(part) for part in text.split("*"))
    return PeerIdentity(StringMatcher(MatchKind.REGEX, f"spiffe://[^/]+/ns/{inner}/sa/.*"))


def _host(text: str) -> Condition:
    """Hosts ignore case; an exact host or a prefix also matches with a port behind it."""
    matcher = mini_syntax(text)
    if matcher.kind is MatchKind.EXACT and ":" not in text:
        return Header(":authority", StringMatcher(MatchKind.REGEX, f"(?i){quote(text)}(:[0-9]+)?"))
    return Header(":authority", StringMatcher(matcher.kind, matcher.value, ignore_case=True))
