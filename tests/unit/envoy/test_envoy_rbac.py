"""Access policies as RBAC: above all that nothing becomes looser than it was written."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given, strategies as st

from lateen.envoy.rbac import ALLOW, DENY, for_bytes, network_filters, principal_of, rule_set
from lateen.plan.access.model import (
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
    ServerName,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.names import BUILT_IN

MATCH = StringMatcher(MatchKind.EXACT, "x")
LEAVES: tuple[Condition, ...] = (
    PeerIdentity(MATCH),
    DirectAddress("10.0.0.0/8"),
    RemoteAddress("192.0.2.1"),
    DestinationPort(80),
    Header("a", MATCH),
    UrlPath(MATCH),
    ServerName(MATCH),
)
ON_HTTP = (Header, UrlPath)
conditions: st.SearchStrategy[Condition] = st.recursive(
    st.sampled_from(LEAVES),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda terms: All(tuple(terms))),
        st.lists(inner, max_size=3).map(lambda terms: AnyOf(tuple(terms))),
        inner.map(Not),
    ),
    max_leaves=12,
)
facts = st.dictionaries(st.sampled_from(LEAVES), st.booleans())


def holds(condition: Condition, found: dict[Condition, bool]) -> bool:
    if isinstance(condition, All):
        return all(holds(term, found) for term in condition.terms)
    if isinstance(condition, AnyOf):
        return any(holds(term, found) for term in condition.terms)
    if isinstance(condition, Not):
        return not holds(condition.term, found)
    return found.get(condition, False)


def rule(principal: Condition, permission: Condition = All(), name: str = "r") -> AccessRule:  # noqa: B008
    return AccessRule(name, principal, permission, BUILT_IN)


def uses_http(condition: Condition) -> bool:
    if isinstance(condition, All | AnyOf):
        return any(uses_http(term) for term in condition.terms)
    if isinstance(condition, Not):
        return uses_http(condition.term)
    return isinstance(condition, ON_HTTP)


@given(conditions, facts)
def test_a_deny_rule_on_plain_bytes_denies_all_that_it_denied(
    condition: Condition, found: dict[Condition, bool]
) -> None:
    (plain,) = for_bytes(AccessPolicy(deny=(rule(condition),))).deny
    assert not uses_http(plain.principal)
    assert holds(plain.principal, found) or not holds(condition, found)


@given(conditions)
def test_a_deny_rule_without_http_stays_as_it_is(condition: Condition) -> None:
    (plain,) = for_bytes(AccessPolicy(deny=(rule(condition),))).deny
    assert uses_http(condition) or plain.principal == condition


@given(conditions, conditions)
def test_an_allow_rule_on_plain_bytes_stays_or_goes(principal: Condition, permission: Condition) -> None:
    allowing = rule(principal, permission)
    plain = for_bytes(AccessPolicy(allow=(allowing,))).allow
    assert plain == (() if uses_http(principal) or uses_http(permission) else (allowing,))


def test_only_the_field_is_dropped() -> None:
    """Istio's rule: a deny rule on a path and a port denies the port."""
    deny = rule(PeerIdentity(MATCH), AnyOf((All((AnyOf((UrlPath(MATCH),)), AnyOf((DestinationPort(80),)))),)))
    (plain,) = for_bytes(AccessPolicy(deny=(deny,))).deny
    assert holds(plain.permission, {DestinationPort(80): True})
    assert not holds(plain.permission, {})
    assert plain.principal == deny.principal


def test_an_allow_policy_whose_rules_all_go_allows_nothing() -> None:
    filters = network_filters(AccessPolicy(allow=(rule(Header("a", MATCH)),)))
    assert len(filters) == 1
    assert b"tcp." in filters[0].typed_config.value


@pytest.mark.parametrize("name", ["x\n", "x y", "", ":", ":a b", "\u00fc"])
def test_a_header_that_no_request_has_is_never_there(name: str) -> None:
    never = rule(AnyOf(), AnyOf())
    assert rule_set(ALLOW, [rule(Header(name, MATCH), Header(name, MATCH))]) == rule_set(ALLOW, [never])
    assert principal_of(Not(Header(name, StringMatcher(MatchKind.PRESENT)))) == principal_of(Not(AnyOf()))
    assert for_bytes(AccessPolicy(allow=(rule(Header(name, MATCH)),))).allow == ()


def test_an_open_policy_needs_no_filter() -> None:
    assert network_filters(AccessPolicy()) == []


def test_denials_come_first() -> None:
    filters = network_filters(AccessPolicy((rule(All()),), (rule(All()),)))
    assert [found.typed_config.value for found in filters] != [filters[0].typed_config.value] * 2
    assert DENY == 1
    assert ALLOW == 0


def test_rules_of_one_name_do_not_replace_each_other() -> None:
    rules = rule_set(DENY, [rule(PeerIdentity(MATCH)), rule(DirectAddress("10.0.0.0/8"))])
    assert set(rules.policies) == {"r", "r'"}


def test_nothing_is_said_of_the_wrong_side() -> None:
    for principal, permission in ((DestinationPort(80), All()), (All(), PeerIdentity(MATCH))):
        try:
            rule_set(DENY, [rule(principal, permission)])
        except TypeError:
            continue
        raise AssertionError("a rule that Envoy cannot check must not pass for one that it does")


def test_presence_is_not_a_pattern() -> None:
    present = StringMatcher(MatchKind.PRESENT)
    rules = rule_set(DENY, [rule(All(), All((UrlPath(present), ServerName(present), Header("a", present))))])
    assert "regex" not in str(rules)


def test_literals_stand_for_themselves() -> None:
    """Names of any characters are matched as they are, never as patterns."""
    rules = rule_set(ALLOW, [rule(PeerIdentity(StringMatcher(MatchKind.EXACT, "spiffe://a.b/ns/c.d/sa/*+[")))])
    assert 'exact: "spiffe://a.b/ns/c.d/sa/*+["' in str(rules)


def test_conditions_are_frozen() -> None:
    assert all(isinstance(leaf, msgspec.Struct) and hash(leaf) for leaf in LEAVES)
