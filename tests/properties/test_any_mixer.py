"""Resources of Mixer with anything in their texts: what validation accepts, Envoy accepts, and planning goes on."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, strategies as st

from tests.properties.judged import assert_taken
from tests.properties.length import examples
from tests.properties.odd_leaves import HEADERS, ODD

pick = st.sampled_from
PLAIN = ("request.path", "request.host", "source.principal", "source.namespace", "request.useragent", "request.method")
LITERALS = tuple(json.dumps(text, ensure_ascii=False) for text in (*ODD, "%REQ(a)%", "'", "\\", ")%", "a\tb", "\x7f"))
PATTERNS = ("^a", "a.b$", "[", "(a{9}){99}", "\\C", "(?i)\u00fc", "%", "a'b", "", "\\d+")
texts = st.one_of(
    pick(PLAIN),
    pick((*HEADERS, *ODD)).map(lambda name: f"request.headers[{json.dumps(name, ensure_ascii=False)}]"),
    pick(ODD).map(lambda name: f"request.auth.claims[{json.dumps(name, ensure_ascii=False)}]"),
)
conditions = st.one_of(
    st.tuples(texts, pick(("==", "!=")), pick(LITERALS)).map(" ".join),
    st.tuples(texts, pick(("startsWith", "endsWith")), pick(LITERALS)).map(lambda one: f"{one[0]}.{one[1]}({one[2]})"),
    st.tuples(pick(PATTERNS), texts).map(lambda one: f"{json.dumps(one[0], ensure_ascii=False)}.matches({one[1]})"),
    st.tuples(texts, pick(LITERALS)).map(lambda one: f"match({one[0]}, {one[1]})"),
    pick(("connection.mtls", 'source.ip == ip("10.0.0.1")', 'context.protocol == "http"', "true")),
)
matches = st.recursive(
    conditions,
    lambda inner: st.one_of(
        st.tuples(inner, pick(("&&", "||")), inner).map(lambda one: f"({one[0]}) {one[1]} ({one[2]})"),
        inner.map(lambda one: f"!({one})"),
    ),
    max_leaves=4,
)
values = st.one_of(texts, pick(LITERALS), st.tuples(texts, pick(LITERALS)).map(" | ".join))
named = st.dictionaries(pick(("a", "b c", "\u00fc", "a\nb", "")), values, max_size=2)
changed_names = pick(("x-a", "x-b", "X_C", "cookie", "a~b", *HEADERS))
operations = st.lists(
    st.one_of(
        st.fixed_dictionaries({"name": changed_names, "operation": st.just("REMOVE")}),
        st.fixed_dictionaries(
            {"name": changed_names, "values": st.lists(values | pick(LITERALS), min_size=1, max_size=2)},
            optional={"operation": st.just("APPEND")},
        ),
    ),
    min_size=1,
    max_size=2,
)


def document(
    kind: str, name: str, spec: st.SearchStrategy[Any], **annotations: str
) -> st.SearchStrategy[dict[str, Any]]:
    metadata = {"name": name, "annotations": {f"lateen.io/{key}": value for key, value in annotations.items()}}
    head = {"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": metadata}
    return spec.map(lambda content: {**head, "spec": content})


def mapping(wanted: dict[str, Any], **optional: Any) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries(wanted, optional=optional)


def rule(name: str, *actions: tuple[str, str], **wanted: Any) -> st.SearchStrategy[dict[str, Any]]:
    if actions:
        wanted["actions"] = st.just([{"handler": handler, "instances": [instance]} for handler, instance in actions])
    return document("rule", name, mapping({**wanted, "match": matches}))


status = mapping({"code": pick((0, 1, 7, 10, 16, 17))}, message=pick(ODD))
listed = st.lists(pick((*ODD, *PATTERNS, "10.0.0.0/8", "::1")), min_size=1, max_size=3)
kinds = pick(("STRINGS", "CASE_INSENSITIVE_STRINGS", "IP_ADDRESSES", "REGEX"))
api_keys = st.lists(
    st.one_of(*(mapping({kind: pick((*HEADERS, *ODD))}) for kind in ("header", "query", "cookie"))),
    min_size=1,
    max_size=2,
)
clauses = st.dictionaries(pick(("request.path", "api.operation")), mapping({"regex": pick(PATTERNS)}), min_size=1)
charged = mapping(
    {"quotas": st.just([{"quota": "calls.quota", "charge": 1}])},
    match=st.lists(mapping({"clause": clauses}), max_size=1),
)
limit = {"name": "calls.quota", "maxAmount": 5, "validDuration": "1s"}
bound = {"services": st.just([{"service": "*"}])}
resources = (
    document("denier", "no", mapping({}, status=status, validDuration=pick(("0s", "5s", "87600h")))),
    document("checknothing", "nothing", st.just({})),
    document("listchecker", "names", mapping({"overrides": listed}, entryType=kinds, blacklist=st.booleans())),
    document("listentry", "caller", mapping({"value": st.one_of(values, st.just("source.ip"))})),
    document("stdio", "out", st.just({})),
    document("logentry", "line", mapping({"variables": named}, severity=values)),
    document("memquota", "counter", st.just({"quotas": [limit]}), **{"counted-by": "proxy"}),
    document("memquota", "mixer", st.just({"quotas": [limit]})),
    document("quota", "calls", mapping({"dimensions": named | st.just({"a": "request.path"})})),
    document("QuotaSpec", "charged", mapping({"rules": st.lists(charged, min_size=1, max_size=1)})),
    document("QuotaSpecBinding", "charged", mapping({**bound, "quotaSpecs": st.just([{"name": "charged"}])})),
    document("HTTPAPISpec", "api", mapping({"apiKeys": api_keys})),
    document("HTTPAPISpecBinding", "api", mapping({**bound, "apiSpecs": st.just([{"name": "api"}])})),
    rule("refused", ("no.denier", "nothing.checknothing")),
    rule("known", ("names.listchecker", "caller.listentry")),
    rule("told", ("out.stdio", "line.logentry")),
    rule("counted", ("counter.memquota", "calls.quota")),
    rule("counted-there", ("mixer.memquota", "calls.quota")),
    rule("changed", requestHeaderOperations=operations, responseHeaderOperations=operations),
    rule("more", requestHeaderOperations=operations, responseHeaderOperations=operations),
)
meshes = st.tuples(*resources).map(list)


@given(meshes)
@examples(5, 300, shrinks=False)
def test_envoy_takes_what_rules_make_of_any_text(found: list[dict[str, Any]]) -> None:
    assert_taken(found)
