"""Patterns that users write: bounded in length, read by RE2 alone, and never by what backtracks."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
import re2

from lateen.explain.access import text_holds
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.resources.judge import judge
from tests.unit.plan.building import plan, workload

NETWORKING = "networking.istio.io/v1"
HERE = [{"destination": {"host": "a.example"}}]


def _route(**route: Any) -> tuple[str, str, dict[str, Any]]:
    return "VirtualService", NETWORKING, {"hosts": ["a.example"], "http": [{"route": HERE, **route}]}


def _policy(**jwt: Any) -> tuple[str, str, dict[str, Any]]:
    rule = {"issuer": "a", "jwksUri": "https://a.example/keys", **jwt}
    spec = {"targets": [{"name": "a"}], "origins": [{"jwt": rule}]}
    return "Policy", "authentication.istio.io/v1alpha1", spec


PLACES: dict[str, Any] = {
    "uri": lambda text: _route(match=[{"uri": {"regex": text}}]),
    "authority": lambda text: _route(match=[{"authority": {"regex": text}}]),
    "headers": lambda text: _route(match=[{"headers": {"x-a": {"regex": text}}}]),
    "withoutHeaders": lambda text: _route(match=[{"withoutHeaders": {"x-a": {"regex": text}}}]),
    "queryParams": lambda text: _route(match=[{"queryParams": {"a": {"regex": text}}}]),
    "allowOrigins": lambda text: _route(corsPolicy={"allowOrigins": [{"regex": text}]}),
    "uriRegexRewrite": lambda text: _route(rewrite={"uriRegexRewrite": {"match": text, "rewrite": "/"}}),
    "triggerRules": lambda text: _policy(triggerRules=[{"includedPaths": [{"regex": text}]}]),
}
REFUSED = {
    "far too long": "a" * 1_000_000,
    "too long": "a" * 1025,
    "nested": "(" * 20_000 + ")" * 20_000,
    "repeated without end": "(((a{100}){100}){100}){100}",
    "no pattern": "(",
    "lookahead": "a(?=b)",
    "backreference": r"(a)\1",
}
TAKEN = ("(a+)+$", "(a|a)*b", "(.*)*x", "a" * 1024)


def errors(place: str, text: str) -> list[str]:
    kind, version, spec = PLACES[place](text)
    document = {"apiVersion": version, "kind": kind, "metadata": {"name": "a", "namespace": "default"}, "spec": spec}
    (verdict,) = judge(json.dumps(document).encode(), "a.yaml", kind="")
    return [finding.message for finding in verdict.findings if finding.is_error]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("name", REFUSED)
def test_a_pattern_that_cannot_be_is_refused_at_once(place: str, name: str) -> None:
    begun = time.process_time()
    (message,) = errors(place, REFUSED[name])
    assert time.process_time() - begun < 2
    assert "pattern" in message and len(message) < 1000


@pytest.mark.parametrize("place", PLACES)
def test_other_patterns_are_taken(place: str) -> None:
    assert [errors(place, text) for text in TAKEN] == [[]] * len(TAKEN)


@pytest.mark.parametrize("text", TAKEN[:3])
def test_no_pattern_takes_longer_than_the_text_is(text: str) -> None:
    begun = time.process_time()
    assert not text_holds(StringMatcher(MatchKind.REGEX, text), "a" * 20_000 + "!")
    assert re2.fullmatch(text, "a" * 20_000 + "!") is None
    assert time.process_time() - begun < 2


def test_versions_of_proxies_are_asked_for_within_bounds() -> None:
    """Istio takes a longer pattern with a warning; here it matches no proxy, and costs nothing."""
    filters = [
        json.dumps(
            {
                "apiVersion": "networking.istio.io/v1alpha3",
                "kind": "EnvoyFilter",
                "metadata": {"name": f"f{index}"},
                "spec": {
                    "configPatches": [
                        {
                            "applyTo": "CLUSTER",
                            "match": {"proxy": {"proxyVersion": text}},
                            "patch": {"operation": "REMOVE"},
                        }
                    ]
                },
            }
        )
        for index, text in enumerate((".*", ".*|" + "a" * 2000, ".*|" + "a" * 1_000_000))
    ]
    begun = time.process_time()
    planned = plan("\n---\n".join(filters), workload("a"))
    assert time.process_time() - begun < 2
    assert [patch.origin.name for patch in planned.patches] == ["f0"]
