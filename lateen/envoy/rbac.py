"""Access policies as Envoy's RBAC: filters that find out who has to be asked, that audit, that deny and that allow.

Comes in: ``AccessPolicy``. Goes out: what the HTTP filters are told, and network filters for chains of plain bytes.
Rules on trial are shadow rules of the filter that would enforce them. Rules that audit are shadow rules too, so that
the access log can tell which one it was; Envoy's LOG action only marks the request.

The conditions are carried over as they are written. In particular ``Not(PeerIdentity(...))`` holds for a caller
without a certificate, as in Istio: right in a deny rule ("whoever is not X"), dangerous in an allow rule on a port
that takes plain text, which is why the planner has to add the identity's presence there if it wants it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from envoy.config.listener.v3 import listener_components_pb2
from envoy.config.rbac.v3 import rbac_pb2
from envoy.extensions.filters.http.rbac.v3 import rbac_pb2 as http_rbac_pb2
from envoy.extensions.filters.network.rbac.v3 import rbac_pb2 as network_rbac_pb2
from envoy.extensions.path.match.uri_template.v3 import uri_template_match_pb2
from envoy.type.matcher.v3 import metadata_pb2, path_pb2, value_pb2

from lateen.envoy import external, wire
from lateen.envoy.chain_names import by_another_chain
from lateen.envoy.matching import header_condition
from lateen.plan.access.model import (
    AccessPolicy,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DestinationAddress,
    DestinationPort,
    DirectAddress,
    ExternalCheck,
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
from lateen.values.network import is_read_header

NETWORK_FILTER = "envoy.filters.network.rbac"
AUDIT_FILTER = "envoy.filters.http.rbac.audit"
DENY_FILTER = "envoy.filters.http.rbac.deny"
ALLOW_FILTER = "envoy.filters.http.rbac.allow"
AUDIT_NOTES = "lateen_audit_"
TRIAL_DENY_NOTES = "istio_dry_run_deny_"
TRIAL_ALLOW_NOTES = "istio_dry_run_allow_"
ALLOW = rbac_pb2.RBAC.ALLOW
DENY = rbac_pb2.RBAC.DENY
LOG = rbac_pb2.RBAC.LOG

_POLICY = "shadow_effective_policy_id"
_RESULT = "shadow_engine_result"
_EVERYTHING = All()
_NOTHING = AnyOf()
_HTTP_FILTERS = "envoy.filters.http."
"""What the names of filters begin with that find out nothing of plain bytes, the one of tokens among them."""
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


def http_filters(access: AccessPolicy, *, guards_open_connections: bool = False) -> Iterator[tuple[str, Any]]:
    """The configuration of each filter that has something to do, by the filter's name.

    ``guards_open_connections``: where a connection's chain does not ask, what is to be asked is denied.
    """
    for index, check in enumerate(access.external):
        name = external.numbered(external.MATCHING_FILTER, index)
        yield name, _configured(http_rbac_pb2.RBAC(), None, rule_set(DENY, check.rules), external.note_prefix(index))
    unasked = _unasked(access) if guards_open_connections else {}
    for name, rules, tried, notes in _steps(access, unasked):
        yield name, _configured(http_rbac_pb2.RBAC(), rules, tried, notes)


def _unasked(access: AccessPolicy) -> dict[str, Any]:
    """Denials of what is to be asked, for connections by another chain; under the names of the rules."""
    found = {}
    for check in access.external:
        for name, policy in rule_set(DENY, check.rules).policies.items():
            found[name] = rbac_pb2.Policy(condition=by_another_chain(access))
            found[name].MergeFrom(policy)
    return found


def network_filters(access: AccessPolicy) -> list[Any]:
    """The filters that guard a chain of plain bytes: what only HTTP can tell is decided by ``for_bytes`` before."""
    access = for_bytes(access)
    found = []
    for index, check in enumerate(access.external):
        rules, notes = rule_set(DENY, check.rules), external.note_prefix(index)
        found.append((NETWORK_FILTER, _configured(_network_rules(), None, rules, notes)))
        found.append((external.NETWORK_FILTER, external.network_filter(check.authorizer, index)))
    for _, enforced, tried, notes in _steps(access, {}):
        found.append((NETWORK_FILTER, _configured(_network_rules(), enforced, tried, notes)))
    return [listener_components_pb2.Filter(name=name, typed_config=wire.pack(config)) for name, config in found]


def _steps(access: AccessPolicy, denied: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any, str]]:
    """Audit, deny and allow, where there is anything to do: filter, rules, rules that only note, the notes' prefix."""
    if access.audit:
        yield AUDIT_FILTER, rule_set(LOG, access.audit), rule_set(DENY, access.audit), AUDIT_NOTES
    if access.deny or access.trial_deny or denied:
        enforced = rule_set(DENY, access.deny)
        for name, policy in denied.items():
            enforced.policies[name].CopyFrom(policy)
        yield (
            DENY_FILTER,
            enforced if enforced.policies else None,
            rule_set(DENY, access.trial_deny) if access.trial_deny else None,
            TRIAL_DENY_NOTES,
        )
    if access.allow is not None or access.trial_allow is not None:
        yield (
            ALLOW_FILTER,
            rule_set(ALLOW, access.allow) if access.allow is not None else None,
            rule_set(ALLOW, access.trial_allow) if access.trial_allow is not None else None,
            TRIAL_ALLOW_NOTES,
        )


def notes_of(access: AccessPolicy) -> tuple[tuple[str, str], ...]:
    """What rules that decide nothing leave for the access log: the log's field, and the key of the metadata."""
    found = []
    for index in range(len(access.external)):
        prefix = external.note_prefix(index)
        found.append((external.numbered("external_policy", index), f"{prefix}{_POLICY}"))
    if access.audit:
        found.append(("audit_policy", f"{AUDIT_NOTES}{_POLICY}"))
    if access.trial_deny:
        found.append(("dry_run_deny_policy", f"{TRIAL_DENY_NOTES}{_POLICY}"))
        found.append(("dry_run_deny_result", f"{TRIAL_DENY_NOTES}{_RESULT}"))
    if access.trial_allow is not None:
        found.append(("dry_run_allow_policy", f"{TRIAL_ALLOW_NOTES}{_POLICY}"))
        found.append(("dry_run_allow_result", f"{TRIAL_ALLOW_NOTES}{_RESULT}"))
    return tuple(found)


def _network_rules() -> Any:
    return network_rbac_pb2.RBAC(stat_prefix="tcp.")


def _configured(message: Any, rules: Any, noted: Any, notes: str) -> Any:
    if rules is not None:
        message.rules.CopyFrom(rules)
    if noted is not None:
        message.shadow_rules.CopyFrom(noted)
        message.shadow_rules_stat_prefix = notes
    return message


# --- conditions on HTTP where there is none --------------------------------------------------------------------------


def for_bytes(access: AccessPolicy) -> AccessPolicy:
    """The policy as it holds for plain bytes, never looser than it was written.

    A deny rule loses its conditions on HTTP and so denies more; an allow rule that has one allows nothing. What is
    asked or audited is asked and audited more. An authorizer that speaks HTTP is not asked.
    """
    return AccessPolicy(
        deny=_wider(access.deny),
        allow=_narrower(access.allow),
        external=tuple(
            ExternalCheck(check.authorizer, _wider(check.rules))
            for check in access.external
            if check.authorizer.protocol == "grpc"
        ),
        audit=_wider(access.audit),
        trial_deny=_wider(access.trial_deny),
        trial_allow=_narrower(access.trial_allow),
    )


def _wider(rules: Iterable[AccessRule]) -> tuple[AccessRule, ...]:
    return tuple(
        AccessRule(rule.name, _widened(rule.principal), _widened(rule.permission), rule.origin) for rule in rules
    )


def _narrower(rules: Iterable[AccessRule] | None) -> tuple[AccessRule, ...] | None:
    if rules is None:
        return None
    return tuple(rule for rule in rules if not (_needs_http(rule.principal) or _needs_http(rule.permission)))


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
        return condition.filter.startswith(_HTTP_FILTERS)
    return isinstance(condition, Header | UrlPath | PathTemplate)


# --- conditions ------------------------------------------------------------------------------------------------------


def principal_of(condition: Condition) -> Any:
    """A condition on the request and its caller, as Envoy's RBAC has it on the caller's side."""
    return _principal(condition)


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
        return message(sourced_metadata=_metadata(condition))
    if isinstance(condition, Header):
        if not _can_come(condition.name):
            return _permission(_NOTHING)
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
        if not _can_come(condition.name):
            return _principal(_NOTHING)
        return message(header=header_condition(condition.name, condition.match))
    if isinstance(condition, Metadata):
        return message(sourced_metadata=_metadata(condition))
    if isinstance(condition, UrlPath):
        if condition.match.kind is MatchKind.PRESENT:
            return message(not_id=_principal(UrlPath(_EMPTY)))
        return message(url_path=_path(condition))
    raise TypeError(f"{type(condition).__name__} says what is asked for, not who calls")


def _can_come(header: str) -> bool:
    """Whether a request can have a header of this name. Envoy takes some of the others, and refuses the rest."""
    return is_read_header(header)


def _metadata(condition: Metadata) -> Any:
    """What filters found out. A text of claims may have line breaks, which a pattern for presence has to take."""
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
    return rbac_pb2.SourcedMetadata(metadata_matcher=message)


def _any_value(matchers: list[Any]) -> Any:
    return value_pb2.ValueMatcher(or_match=value_pb2.OrMatcher(value_matchers=matchers))


def _text(match: StringMatcher) -> Any:
    return wire.string_matcher(_NOT_EMPTY if match.kind is MatchKind.PRESENT else match)


def _path(condition: UrlPath) -> Any:
    return path_pb2.PathMatcher(path=wire.string_matcher(condition.match))
