"""``lateen test`` as a user meets it."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from lateen.cli.main import cli

CASE = """
name: stars
proxy: {type: sidecar, namespace: default}
kubernetes: |
  apiVersion: v1
  kind: Service
  metadata: {name: reviews}
  spec: {selector: {app: reviews}, ports: [{name: http, port: 9080}]}
config: |
  apiVersion: networking.istio.io/v1
  kind: VirtualService
  metadata: {name: reviews}
  spec:
    hosts: [reviews]
    http:
    - name: jason
      match: [{headers: {end-user: {exact: jason}}}]
      route: [{destination: {host: reviews, subset: v2}}]
    - route:
      - {destination: {host: reviews, subset: v1}, weight: 90}
      - {destination: {host: reviews, subset: v3}, weight: 10}
calls:
- name: jason
  call: {mode: outbound, port: 9080, protocol: http, host: "reviews:9080", headers: {end-user: jason}}
  expect: {cluster: outbound|9080|v2|reviews.default.svc.cluster.local, route: jason}
- name: everybody
  call: {mode: outbound, port: 9080, protocol: http, host: reviews}
  expect: {cluster: outbound|9080|v1|reviews.default.svc.cluster.local}
"""


def run(tmp_path, text, *options):
    path = tmp_path / "case.yaml"
    path.write_text(text)
    return CliRunner().invoke(cli, ["test", *options, str(path)])


def test_a_case_passes_and_says_why(tmp_path):
    result = run(tmp_path, CASE, "-v")
    assert result.exit_code == 0, result.output
    assert "2 calls: 2 passed" in result.output
    assert "route jason matches" in result.output


def test_a_call_that_ends_elsewhere_fails_with_its_trail(tmp_path):
    result = run(tmp_path, CASE.replace("route: jason", "route: other"))
    assert result.exit_code == 1
    assert "route is jason, expected other" in result.output
    assert "virtual host reviews.default.svc.cluster.local:9080" in result.output


def test_json_for_programs(tmp_path):
    result = run(tmp_path, CASE, "-o", "json")
    calls = json.loads(result.output)["cases"][0]["calls"]
    assert calls[1]["clusters"] == {
        "outbound|9080|v1|reviews.default.svc.cluster.local": 90,
        "outbound|9080|v3|reviews.default.svc.cluster.local": 10,
    }
    assert calls[0]["actual"]["error"] is None


def test_what_is_no_case_is_told_with_its_line(tmp_path):
    result = run(tmp_path, CASE.replace("port: 9080, protocol", "prot: 9080, protocol", 1))
    assert result.exit_code == 2
    assert "case.yaml:24" in result.output
    assert "a call has no field prot" in result.output


def test_wrong_configuration_is_told_at_its_line_in_the_file(tmp_path):
    result = run(
        tmp_path, CASE.replace("  spec:\n    hosts: [reviews]", "  spec:\n    hosts: [reviews]\n    nosuch: 1")
    )
    assert "case.yaml:15" in result.output


@pytest.mark.parametrize("calls", ["calls: {}", "calls: []", "calls:", ""])
def test_a_test_without_calls_shows_nothing_and_is_no_test(tmp_path, calls):
    result = run(tmp_path, CASE.partition("calls:")[0] + calls + "\n")
    assert result.exit_code == 2
    assert "calls is a list" in result.output or "the test has no calls" in result.output
