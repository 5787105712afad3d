"""RateLimit: what is refused, where, and what is taken."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from lateen.resources.judge import judge

LIMIT = {"requests": 1, "per": "1s"}


def errors(spec: Any) -> list[str]:
    document = {"apiVersion": "lateen.io/v1alpha1", "kind": "RateLimit", "metadata": {"name": "a"}, "spec": spec}
    (verdict,) = judge(yaml.safe_dump(document, sort_keys=False).encode(), "file.yaml")
    return [finding.origin.field for finding in verdict.findings if finding.is_error]


def rule(**more: Any) -> dict[str, Any]:
    return {"rules": [{"limit": LIMIT, **more}]}


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({}, "spec.rules"),
        ({"rules": [{"limit": LIMIT}] * 33}, "spec.rules"),
        ({"rules": [{}]}, "spec.rules[0]"),
        (rule(limit={"requests": 0, "per": "1s"}), "spec.rules[0].limit.requests"),
        (rule(limit={"requests": 1, "per": "1s", "burst": 0}), "spec.rules[0].limit.burst"),
        (rule(limit={"requests": 1, "per": "10ms"}), "spec.rules[0].limit.per"),
        (rule(limit={"requests": 1, "per": "48h"}), "spec.rules[0].limit.per"),
        (rule(name="a b"), "spec.rules[0].name"),
        ({"rules": [{"limit": LIMIT, "name": "1"}, {"limit": LIMIT}]}, "spec.rules[1].name"),
        (rule(per=["source.principal", "source.principal"]), "spec.rules[0].per[1]"),
        (rule(per=["client"]), "spec.rules[0].per[0]"),
        (rule(per=["request.headers[:path]"]), "spec.rules[0].per[0]"),
        (rule(per=["request.headers[x"]), "spec.rules[0].per[0]"),
        (rule(per=["request.auth.claims"]), "spec.rules[0].per[0]"),
        (rule(per=["request.auth.claims[a:b]"]), "spec.rules[0].per[0]"),
        (rule(per=["request.auth.claims[a%]"]), "spec.rules[0].per[0]"),
        (rule(per=[f"request.headers[x-{number}]" for number in range(6)]), "spec.rules[0].per"),
        (rule(match={"methods": ["get"]}), "spec.rules[0].match.methods[0]"),
        (rule(match={"hosts": [""]}), "spec.rules[0].match.hosts[0]"),
        (rule(match={"hosts": ["a*b"]}), "spec.rules[0].match.hosts[0]"),
        (rule(match={"hosts": ["http://a.example"]}), "spec.rules[0].match.hosts[0]"),
        (rule(per=["request.headers[X-A]", "request.headers[x-a]"]), "spec.rules[0].per[1]"),
        (rule(match={"paths": [{}]}), "spec.rules[0].match.paths[0]"),
        (rule(match={"paths": [{"exact": "/a", "prefix": "/b"}]}), "spec.rules[0].match.paths[0]"),
        (rule(match={"paths": [{"exact": "a"}]}), "spec.rules[0].match.paths[0].exact"),
        (rule(match={"paths": [{"prefix": "/a?b"}]}), "spec.rules[0].match.paths[0].prefix"),
        (rule(match={"paths": [{"regex": "("}]}), "spec.rules[0].match.paths[0].regex"),
        (rule(match={"paths": [{"regex": "a{95}"}]}), "spec.rules[0].match.paths[0].regex"),
        (rule(match={"paths": [{"template": "/{name}"}]}), "spec.rules[0].match.paths[0].template"),
        (rule(match={"paths": [{"template": "/{*}" * 40}]}), "spec.rules[0].match.paths[0].template"),
        (rule(match={"headers": {":path": {"exact": "/"}}}), "spec.rules[0].match.headers.:path"),
        (rule(match={"headers": {"x-a": {"prefix": ""}}}), "spec.rules[0].match.headers.x-a.prefix"),
        (rule(match={"headers": {"x-a": {"regex": "a{95}"}}}), "spec.rules[0].match.headers.x-a.regex"),
        (rule(match={"ports": [0]}), "spec.rules[0].match.ports[0]"),
        (rule(match={"methods": []}), "spec.rules[0].match.methods"),
        (rule(match={"hosts": []}), "spec.rules[0].match.hosts"),
        (rule(match={"paths": []}), "spec.rules[0].match.paths"),
        (rule(match={"ports": []}), "spec.rules[0].match.ports"),
        (rule(match={"paths": [{"exact": "/" + "a" * 16_000}]}), "spec.rules[0].match"),
        (rule(match={"ports": list(range(1, 400))}), "spec.rules[0].match"),
        ({**rule(), "onFailure": "allow"}, "spec.onFailure"),
        ({**rule(), "scope": "GLOBAL"}, "spec.scope"),
        ({**rule(), "response": {"status": 200}}, "spec.response.status"),
        ({**rule(), "response": {"headers": {"x-ratelimit-limit": "1"}}}, "spec.response.headers.x-ratelimit-limit"),
        ({**rule(), "response": {"headers": {"Content-Length": "1"}}}, "spec.response.headers.Content-Length"),
        ({**rule(), "response": {"headers": {"x-a": "1\n"}}}, "spec.response.headers.x-a"),
        ({**rule(), "response": {"body": "x" * 4097}}, "spec.response.body"),
        ({**rule(), "limits": 1}, "spec.limits"),
    ],
)
def test_what_is_unclear_is_refused_where_it_stands(spec: Any, field: str) -> None:
    assert field in errors(spec)


def test_what_is_clear_is_taken() -> None:
    match = {"methods": ["M-SEARCH"], "hosts": ["*"], "headers": {"x-a": {}}, "ports": [1], "paths": [{"regex": ".*"}]}
    keys = ["source.ip", "request.auth.claims[a.example/b][c d]", "request.headers[X_Key]"]
    assert errors({**rule(match=match, per=keys, name="v1"), "scope": "local", "dryRun": True}) == []
