"""Quotas that a proxy is asked to count and cannot: the mixer does, and it is told why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from lateen.plan.mixer.decisions import BY_EACH, MIXER, PROXY, decisions
from tests.unit.mixer_resources import document
from tests.unit.plan.building import snapshot

HERE = {
    "destination.namespace": "default",
    "destination.service.host": "echo.default.svc.cluster.local",
    "destination.labels": {"app": "echo"},
}
FOUND = document(
    "kubernetes", "found", {"source_uid": "source.uid", "attribute_bindings": {"source.owner": "$out.source_owner"}}
)
BY_PROXY = {"lateen.io/counted-by": "proxy"}


def quota(
    dimensions: Mapping[str, str],
    limit: Mapping[str, Any],
    match: str = "",
    clause: Mapping[str, Any] | None = None,
    annotations: Mapping[str, str] | None = BY_PROXY,
    charges: Sequence[int] = (1,),
) -> str:
    actions = [{"handler": "counter.memquota", "instances": ["calls.quota"]}]
    rule = {"actions": actions, **({"match": match} if match else {})}
    quotas = [{"quota": "calls", "charge": charge} for charge in charges]
    rules = [{"match": [{"clause": clause}] if clause else [], "quotas": quotas}]
    limits = {"quotas": [{"name": "calls", "maxAmount": 5, "validDuration": "1s", **limit}]}
    return "\n---\n".join(
        (
            document("memquota", "counter", limits, annotations),
            document("quota", "calls", {"dimensions": dimensions}),
            document("rule", "count", rule),
            document("QuotaSpec", "calls", {"rules": rules}),
            document("QuotaSpecBinding", "calls", {"services": [{"service": "*"}], "quotaSpecs": [{"name": "calls"}]}),
        )
    )


def override(**dimensions: str) -> dict[str, Any]:
    return {"dimensions": dimensions, "maxAmount": 1}


def decided(text: str) -> list[tuple[str, str]]:
    made = snapshot(text)
    assert not [finding for finding in made.findings if finding.is_error], made.findings
    return [(one.where, one.why) for one in decisions(made.mixer, HERE) if "quota" in one.what]


HEADER = {"who": 'request.headers["x"]'}
MANY = [override(who=f"{number}") for number in range(8)]


@pytest.mark.parametrize(
    ("dimensions", "more", "why"),
    [
        ({"a": 'request.headers["x"] | request.headers["y"] | "z"'}, {}, "the first of several parts of a request"),
        ({"a": "source.namespace"}, {}, "a part of the client's name"),
        ({"a": 'request.headers["x y"]'}, {}, "a header that there cannot be"),
        ({"a": 'source.labels["app"]'}, {}, "a map that the mixer has"),
        ({"a": "request.size"}, {}, "request.size is known to the mixer alone"),
        ({}, {"limit": {"validDuration": "0s"}}, "nothing of it comes back"),
        ({}, {"limit": {"validDuration": "0.01s"}}, "counts 0.05 to 8589934592 s"),
        ({}, {"limit": {"validDuration": "2500000h"}}, "counts 0.05 to 8589934592 s"),
        ({}, {"charges": [1, 10**9 + 1]}, "at most 1000000000 at once"),
        ({}, {"clause": {"request.path": {"exact": "a" * 33_000}}}, "more than 32768 characters"),
        (HEADER, {"limit": {"overrides": MANY}, "charges": [1] * 40}, "more than 1000 conditions"),
        ({}, {"match": 'request.headers["Host"] == "a"'}, "host is :authority to a proxy"),
        ({}, {"limit": {"maxAmount": 2**32}}, "up to 4294967295"),
        (HEADER, {"limit": {"overrides": [override(who=f"{number}") for number in range(9)]}}, "8 overrides"),
        ({"a": "source.ip"}, {"limit": {"overrides": [override(a="::1")]}}, "no text"),
        ({}, {"match": 'source.ip == ip("10.0.0.1")'}, "the address of the client"),
        ({}, {"match": "size(request.path) > 3"}, "worked out"),
        ({}, {"clause": {"source.ip": {"exact": "10.0.0.1"}}}, "source.ip is known to the mixer alone"),
        ({}, {"clause": {"request.useragent": {"regex": "a"}}}, "against a header that may come twice"),
        ({}, {"clause": {"request.url_path": {"regex": "a{200}"}}}, "too large for Envoy"),
    ],
)
def test_what_a_proxy_cannot_count_the_mixer_does(dimensions: dict[str, str], more: dict[str, Any], why: str) -> None:
    ((where, said),) = decided(quota(dimensions, more.pop("limit", {}), **more))
    assert (where, why in said) == (MIXER, True), said


def test_it_is_not_done_unasked() -> None:
    together = [(MIXER, "what all proxies use is counted in one place")]
    assert decided(quota(HEADER, {}, annotations=None)) == together
    assert decided(quota(HEADER, {}, annotations={"lateen.io/counted-by": "mixer"})) == together
    assert decided(quota(HEADER, {})) == [(PROXY, BY_EACH)]


def test_one_that_several_rules_count_is_the_mixers() -> None:
    other = document("rule", "other", {"actions": [{"handler": "counter.memquota", "instances": ["calls.quota"]}]})
    found = decided(f"{quota({}, {})}\n---\n{other}")
    assert found == [(MIXER, "several rules may count it")] * 2
    elsewhere = other.replace('"actions"', '"match": "destination.namespace == \\"b\\"", "actions"')
    assert (PROXY, BY_EACH) in decided(f"{quota({}, {})}\n---\n{elsewhere}")


def test_what_others_may_find_is_the_mixers() -> None:
    finds = document(
        "rule", "finds", {"actions": [{"handler": "pods.kubernetesenv", "instances": ["found.kubernetes"]}]}
    )
    text = "\n---\n".join((quota({"a": "source.owner"}, {}), FOUND, document("kubernetesenv", "pods", {}), finds))
    ((where, why),) = decided(text)
    assert (where, why) == (MIXER, "source.owner may be found by pods.kubernetesenv.default")


@pytest.mark.parametrize(
    "more",
    [
        {"dimensions": {"a": 'request.headers["X"] | "b"'}},
        {"match": 'request.headers["x"] == "b"'},
        {"clause": {"request.useragent": {"exact": "b"}}},
    ],
)
def test_what_a_rule_may_change_before_is_the_mixers(more: dict[str, Any]) -> None:
    """The mixer counts by requests as they came; what it changes stands in them when a proxy counts."""
    name = "User-Agent" if "clause" in more else "X"
    operation = {"name": name, "operation": "REPLACE", "values": ["source.uid"]}
    rule = document("rule", "changes", {"requestHeaderOperations": [operation]})
    counted = quota(more.pop("dimensions", {}), {}, **more)
    assert decided(counted) == [(PROXY, BY_EACH)]
    ((where, why),) = decided(f"{counted}\n---\n{rule}")
    assert (where, "before it is counted" in why) == (MIXER, True)
