"""Which requests a limit counts: what the explainer says, and what the real Envoy does, for any conditions."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, strategies as st

from lateen.explain.facts import Facts
from lateen.explain.limits import counts, taken
from lateen.explain.request import Request
from lateen.plan.access.model import All, AnyOf, Condition, Header, Not, PeerIdentity, UrlPath
from lateen.plan.limits.model import Charged, LimitRule
from lateen.plan.limits.rules import rules_of
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.model import HttpChain, ProxyPlan
from lateen.plan.routes import DirectResponse, Route, RouteMatch, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN
from tests.envoy.from_yaml import sidecar
from tests.envoy.gateways import ANSWERS, gateway, gateway_workload, serves, virtual_service
from tests.envoy.harness import Authority, Envoy, free_port, get, listening, running
from tests.golden.plan_to_envoy.cases import PROXY
from tests.properties.length import examples

pick = st.sampled_from
PRESENT = StringMatcher(MatchKind.PRESENT)
HOSTS = ("a.example", "A.Example", "*.example", "a*", "b.other", "*")
PATHS = (
    {"exact": "/a"},
    {"exact": "/a/b.c"},
    {"prefix": "/a"},
    {"prefix": "/"},
    {"regex": "/a|/b"},
    {"regex": "/a/.+"},
    {"regex": "(?i)/A/B\\.C"},
    {"regex": "/[^x]"},
    {"template": "/a/{*}"},
    {"template": "/a/{**}"},
    {"template": "/{*}/{*}"},
    {"template": "/a"},
)
HEADERS = ({"exact": "v"}, {"prefix": "v"}, {"regex": "v+"}, {})
matches = st.fixed_dictionaries(
    {},
    optional={
        "methods": st.lists(pick(("GET", "POST", "PURGE")), min_size=1, max_size=2),
        "hosts": st.lists(pick(HOSTS), min_size=1, max_size=2),
        "paths": st.lists(pick(PATHS), min_size=1, max_size=3),
        "headers": st.dictionaries(pick(("x-a", "X-B")), pick(HEADERS), min_size=1),
        "ports": st.lists(pick((1, 0)), min_size=1, max_size=2),
    },
)
requests = st.fixed_dictionaries(
    {
        "method": pick(("GET", "POST", "PURGE")),
        "host": pick(("a.example", "a.example:8080", "A.EXAMPLE", "b.other", "x.a.example", "example")),
        "path": pick(("/a", "/a/", "/b", "/ab", "/a/b.c", "/A/b.c", "/a/b.c/d", "/x", "/", "/c/bxc")),
        "query": pick(("", "?", "?a=/b", "?/a")),
        "headers": st.dictionaries(pick(("x-a", "x-b")), pick(("v", "vv", "w", "")), max_size=2),
    }
)


def counted_by_envoy(proxy: Envoy, port: int, one: dict[str, Any]) -> set[str]:
    """The rules that count a request: of two, at least the second finds its bucket empty."""
    before = limited(proxy)
    for _ in range(2):
        headers = {"host": one["host"], **one["headers"]}
        answer = get(port, one["path"] + one["query"], headers, one["method"])
        assert answer.status == 200
    return {name for name, value in limited(proxy).items() if value > before.get(name, 0)}


def limited(proxy: Envoy) -> dict[str, float]:
    found = proxy.metrics("http_local_rate_limit_rate_limited")
    return {labels["envoy_local_http_ratelimit_prefix"]: value for labels, value in found}


def facts(one: dict[str, Any], port: int) -> Facts:
    path, query = one["path"], one["query"].removeprefix("?")
    own = ((":method", one["method"]), (":authority", one["host"]), (":path", path + one["query"]))
    return Facts(port=port, request=Request(one["host"], path, query, (*own, *one["headers"].items())))


@given(st.lists(matches, min_size=8, max_size=24), st.lists(requests, min_size=10, max_size=20))
@examples(4, 150)
def test_a_limit_counts_what_the_explainer_says(found: list[dict[str, Any]], asked: list[dict[str, Any]]) -> None:
    port = free_port()
    for match in found:
        if "ports" in match:
            match["ports"] = sorted({port + number for number in match["ports"]})
    rules = [{"match": match, "limit": {"requests": 1, "per": "24h"}} for match in found]
    head = {"apiVersion": "lateen.io/v1alpha1", "kind": "RateLimit", "metadata": {"name": "all"}}
    limit = json.dumps({**head, "spec": {"dryRun": True, "rules": rules}})
    text = gateway(serves(port)) + virtual_service(ANSWERS) + f"---\n{limit}"
    with sidecar(text, workload=gateway_workload()) as proxy:
        planned = rules_of(proxy.snapshot.rate_limits[0].spec, proxy.snapshot.rate_limits[0])
        chains = [chain.action for listener in proxy.plan.listeners for chain in listener.chains]
        assert any(isinstance(chain, HttpChain) and chain.limits == tuple(planned) for chain in chains)
        for one in asked:
            said = {rule.name for rule in planned if counts(rule.counted, facts(one, port))}
            assert counted_by_envoy(proxy, port, one) == said, one


texts = st.builds(
    StringMatcher, pick((MatchKind.EXACT, MatchKind.PREFIX, MatchKind.SUFFIX)), pick(("v", "/a", "c", ""))
)
patterns = st.builds(StringMatcher, st.just(MatchKind.REGEX), pick(("v+", ".*", "/[^x]", "v|/a/b.c")))
known = st.one_of(
    st.builds(Header, pick(("x-a", "x-b", ":method", ":path")), st.one_of(texts, patterns, st.just(PRESENT))),
    st.builds(UrlPath, st.one_of(texts, patterns)),
    st.builds(PeerIdentity, st.one_of(texts, patterns)),
)


def joined(parts: st.SearchStrategy[Condition]) -> st.SearchStrategy[Condition]:
    several = st.lists(parts, max_size=3).map(tuple)
    return st.one_of(st.builds(All, several), st.builds(AnyOf, several), st.builds(Not, parts))


conditions = st.recursive(known, joined, max_leaves=6)


@given(st.lists(conditions, min_size=8, max_size=24), st.lists(requests, min_size=10, max_size=20))
@examples(4, 150)
def test_a_charge_is_taken_where_the_explainer_says(found: list[Condition], asked: list[dict[str, Any]]) -> None:
    """Conditions in Envoy's own language: so a proxy counts quotas of Mixer, and changes headers for its rules."""
    port = free_port()
    rules = tuple(
        LimitRule(f"a/b/{number}", BUILT_IN, 1, 86400.0, 1, charged=(Charged(condition),), on_trial=True)
        for number, condition in enumerate(found)
    )
    answer = Route("all", RouteMatch(), DirectResponse(200, b""), BUILT_IN)
    table = RouteTable("all", (VirtualHost("all", ("*",), (answer,), BUILT_IN),))
    chain = listening(port, HttpChain("inbound", inline=table, limits=rules), "inbound")
    plan = ProxyPlan(PROXY, (chain,), (), (), ())
    with running(plan, Authority().mesh("a")) as proxy:
        for one in asked:
            said = {rule.name for rule in rules if taken(rule, facts(one, port))}
            assert counted_by_envoy(proxy, port, one) == said, one
