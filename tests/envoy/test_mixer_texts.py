"""Texts of Mixer's rules that go into expressions of Envoy's: it takes the configuration, whatever they hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lateen.control.offline import OfflineProxy, configure
from lateen.settings import Settings
from tests.envoy.harness import validate
from tests.unit.mixer_resources import document

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec: {selector: {app: a}, ports: [{name: http, port: 80}]}
"""
TEXTS = ["\U0001f600", "\u00fc", "'", '"', "\\", "\\u0041", "a)%b", "100%", "\t", "\u2028", "'); ("]


@pytest.mark.parametrize("text", TEXTS)
def test_a_header_is_set_to_any_text_where_a_header_has_any_text(text: str, tmp_path: Path) -> None:
    quoted = json.dumps(text, ensure_ascii=False)
    takes(f'request.headers["x-a"] == {quoted}', quoted, tmp_path)


@pytest.mark.parametrize(
    "pattern", ["[^/]{12}", "[^/]{40}", "\u00fc{30}", "a{96}", "a{101}", "(?i)\u017f{20}", "\\C{40}"]
)
def test_a_pattern_of_any_size(pattern: str, tmp_path: Path) -> None:
    takes(f"{json.dumps(f'^{pattern}$')}.matches(request.path)", '"b"', tmp_path)


LARGEST = {
    "amounts": ({"maxAmount": 2**32 - 1, "validDuration": "8589934592s"}, "/", 10**9),
    "texts": ({"maxAmount": 1, "validDuration": "50ms"}, "\x01" * 5400, 1),
}


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_quota_that_a_proxy_counts(name: str, tmp_path: Path) -> None:
    limit, text, charge = LARGEST[name]
    charged = {"match": [{"clause": {"request.path": {"exact": text}}}], "quotas": [{"quota": "q", "charge": charge}]}
    accepted(
        tmp_path,
        document("memquota", "h", {"quotas": [{"name": "q", **limit}]}, {"lateen.io/counted-by": "proxy"}),
        document("quota", "q", {"dimensions": {"a": f'request.headers["x-a"] | {json.dumps(text[:1000])}'}}),
        document("rule", "r", {"actions": [{"handler": "h.memquota", "instances": ["q.quota"]}]}),
        document("QuotaSpec", "s", {"rules": [charged]}),
        document("QuotaSpecBinding", "b", {"services": [{"name": "a"}], "quotaSpecs": [{"name": "s"}]}),
    )
    assert "mixer:r.default/q.quota.default" in (tmp_path / "envoy.json").read_text()


def test_the_longest_match_of_a_rate_limit(tmp_path: Path) -> None:
    match = {"paths": [{"exact": "/" + "\x01" * 7900}, {"prefix": "/" + "\x01" * 7900}], "ports": [80]}
    spec = {"rules": [{"match": match, "limit": {"requests": 1, "per": "1s"}}]}
    head = {"apiVersion": "lateen.io/v1alpha1", "kind": "RateLimit", "metadata": {"name": "a"}}
    accepted(tmp_path, json.dumps({**head, "spec": spec}))


def takes(match: str, value: str, tmp_path: Path) -> None:
    spec = {
        "match": match,
        "requestHeaderOperations": [{"name": "x-b", "values": [value]}],
        "responseHeaderOperations": [{"name": "x-c", "values": [value]}],
    }
    accepted(tmp_path, document("rule", "changed", spec))


def accepted(tmp_path: Path, *documents: str) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("\n---\n".join((SERVICE, *documents)))
    proxy = OfflineProxy("sidecar", "default", (("app", "a"),), "10.1.0.1", "a")
    result = configure([path], proxy, Settings())
    assert not [finding for finding in result.findings if finding.is_error], result.findings
    assert validate(result.bootstrap().encode(), tmp_path) == ""
