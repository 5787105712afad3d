"""Access policies as Envoy's RBAC: one filter that denies, then one that allows.

Comes in: ``AccessPolicy``. Goes out: rule sets for the HTTP filter, and network filters for chains of plain bytes.

The conditions are carried over as they are written. In particular ``Not(PeerIdentity(...))`` holds for a caller
without a certificate, as in Istio: right in a deny rule ("whoever is not X"), dangerous in an allow rule on a port
that takes plain text, which is why the planner has to add the identity's presence there if it wants it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, value_pb2

from lateen.envoy import wire
from lateen.envoy.matching import header_condition
from lateen.plan.access.model import (
    TOKEN_FILTER,
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DestinationAddress,
    DestinationPort,
    DirectAddress,
    Header,
    Metadata,
    Not,
    PathTemplate,
    PeerIdentity,
    RemoteAddress,
    ServerName,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher

NETWORK_FILTER = "envoy.filters.network.rbac"
ALLOW = rbac_pb2.RBAC.ALLOW
DENY = rbac_pb2.RBAC.DENY

_EVERYTHING = All()
_NOT_EMPTY = StringMatcher(MatchKind.REGEX, "(?s).+")
_EMPTY = StringMatcher(MatchKind.EXACT, "")
"""Presence is "not empty": a pattern would not match bytes that are no UTF-8, and a deny rule would let them pass."""


def rule_set(action: Any, rules: Sequence[AccessRule]) -> Any:
    """Envoy's rules for one action. Rules that share a name are kept apart: none may replace another."""
    policies: dict[str, Any] = {}
    for rule in rules:
        name = rule.name
        while name in policies:
            name += "'"
        policies[name] = _policy(rule)
    return rbac_pb2.RBAC(action=action, policies=policies)


@lru_cache(maxsize=8192)
def _policy(rule: AccessRule) -> Any:
    """The message of one rule, shared by all that ask for it: not to be changed."""
    return rbac_pb2.Policy(permissions=[_permission(rule.permission)], principals=[_principal(rule.principal)])


def network_filters(access: AccessPolicy) -> list[Any]:
    """The filters that guard a chain of plain bytes: what only HTTP can tell is decided by ``for_bytes`` before."""
    access = for_bytes(access)
    sets = []
    if access.deny:
        sets.append(rule_set(DENY, access.deny))
    if access.allow is not None:
        sets.append(rule_set(ALLOW, access.allow))
    return [
        listener_components_pb2.Filter(
            name=NETWORK_FILTER, typed_config=wire.pack(network_rbac_pb2.RBAC(rules=rules, stat_prefix="tcp."))
        )
        for rules in sets
    ]


# --- conditions on HTTP where there is none --------------------------------------------------------------------------


def for_bytes(access: AccessPolicy) -> AccessPolicy:
    """The policy as it holds for plain bytes, never looser than it was written.

    A deny rule loses its conditions on HTTP and so denies more; an allow rule that has one allows nothing.
    """
    deny = tuple(
        AccessRule(rule.name, _widened(rule.principal), _widened(rule.permission), rule.origin) for rule in access.deny
    )
    if access.allow is None:
        return AccessPolicy(deny, None)
    plain = (rule for rule in access.allow if not (_needs_http(rule.principal) or _needs_http(rule.permission)))
    return AccessPolicy(deny, tuple(plain))


def _widened(condition: Condition) -> Condition:
    """The condition without its parts on HTTP; it holds wherever the original might."""
    if not _needs_http(condition):
        return condition
    if isinstance(condition, All):
        return All(tuple(_widened(term) for term in condition.terms))
    if isinstance(condition, AnyOf):
        terms = tuple(_widened(term) for term in condition.terms)
        return _EVERYTHING if _EVERYTHING in terms else AnyOf(terms)
    return _EVERYTHING


def _needs_http(condition: Condition) -> bool:
    if isinstance(condition, All | AnyOf):
        return any(_needs_http(term) for term in condition.terms)
    if isinstance(condition, Not):
        return _needs_http(condition.term)
    if isinstance(condition, Metadata):
        return condition.filter == TOKEN_FILTER
    return isinstance(condition, Header | UrlPath | PathTemplate)


# --- conditions ------------------------------------------------------------------------------------------------------


def _permission(condition: Condition) -> Any:
    message = rbac_pb2.Permission
    if isinstance(condition, All):
        if not condition.terms:
            return message(any=True)
        return message(and_rules=message.Set(rules=[_permission(term) for term in condition.terms]))
    if isinstance(condition, AnyOf):
        if not condition.terms:
            return message(not_rule=message(any=True))
        return message(or_rules=message.Set(rules=[_permission(term) for term in condition.terms]))
    if isinstance(condition, Not):
        return message(not_rule=_permission(condition.term))
    if isinstance(condition, DestinationPort):
        return message(destination_port=condition.port)
    if isinstance(condition, DestinationAddress):
        return message(destination_ip=wire.cidr_range(condition.cidr))
    if isinstance(condition, PathTemplate):
        config = uri_template_match_pb2.UriTemplateMatchConfig(path_template=condition.template)
        return message(uri_template={"name": "uri-template", "typed_config": wire.pack(config)})
    if isinstance(condition, Metadata):
        return message(metadata=_metadata(condition))
    if isinstance(condition, Header):
        return message(header=header_condition(condition.name, condition.match))
    if isinstance(condition, UrlPath | ServerName):
        if condition.match.kind is MatchKind.PRESENT:
            return message(not_rule=_permission(type(condition)(_EMPTY)))
        if isinstance(condition, UrlPath):
            return message(url_path=_path(condition))
        return message(requested_server_name=wire.string_matcher(condition.match))
    raise TypeError(f"{type(condition).__name__} says who calls, not what is asked for")


def _principal(condition: Condition) -> Any:
    message = rbac_pb2.Principal
    if isinstance(condition, All):
        if not condition.terms:
            return message(any=True)
        return message(and_ids=message.Set(ids=[_principal(term) for term in condition.terms]))
    if isinstance(condition, AnyOf):
        if not condition.terms:
            return message(not_id=message(any=True))
        return message(or_ids=message.Set(ids=[_principal(term) for term in condition.terms]))
    if isinstance(condition, Not):
        return message(not_id=_principal(condition.term))
    if isinstance(condition, PeerIdentity):
        return message(authenticated=message.Authenticated(principal_name=wire.string_matcher(condition.match)))
    if isinstance(condition, DirectAddress):
        return message(direct_remote_ip=wire.cidr_range(condition.cidr))
    if isinstance(condition, RemoteAddress):
        return message(remote_ip=wire.cidr_range(condition.cidr))
    if isinstance(condition, Header):
        return message(header=header_condition(condition.name, condition.match))
    if isinstance(condition, Metadata):
        return message(metadata=_metadata(condition))
    if isinstance(condition, UrlPath):
        if condition.match.kind is MatchKind.PRESENT:
            return message(not_id=_principal(UrlPath(_EMPTY)))
        return message(url_path=_path(condition))
    raise TypeError(f"{type(condition).__name__} says what is asked for, not who calls")


def _metadata(condition: Metadata) -> Any:
    """A text of claims may have line breaks in it, which a pattern for presence has to take."""
    message = metadata_pb2.MetadataMatcher(filter=condition.filter)
    for key in condition.path:
        message.path.add(key=key)
    texts = [value_pb2.ValueMatcher(string_match=_text(match)) for match in condition.any_of]
    text = texts[0] if len(texts) == 1 else _any_value(texts)
    listed = value_pb2.ValueMatcher(list_match=value_pb2.ListMatcher(one_of=text))
    if condition.listed is None:
        message.value.CopyFrom(listed)
    else:
        message.value.CopyFrom(_any_value([listed, text]) if condition.listed else text)
    return message


def _any_value(matchers: list[Any]) -> Any:
    return value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=matchers))


def _text(match: StringMatcher) -> Any:
    return wire.string_matcher(_NOT_EMPTY if match.kind is MatchKind.PRESENT else match)


def _path(condition: UrlPath) -> Any:
    return path_pb2.PathMatcher(path=wire.string_matcher(condition.match))
