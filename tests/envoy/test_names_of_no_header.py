"""Names that no header can have, where they are taken: Envoy takes the configuration, and they match nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lateen.control.offline import OfflineProxy, configure
from lateen.settings import Settings
from tests.envoy.harness import validate
from tests.unit.mixer_resources import listed

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: a}
spec:
  selector: {app: a}
  ports: [{name: http, port: 80}, {name: tcp, port: 9000}]
"""
REPORTED = """
apiVersion: config.istio.io/v1alpha2
kind: stdio
metadata: {name: out}
spec: {}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: told}
spec: {actions: [{handler: out.stdio, instances: [line.logentry]}]}
"""


def document(version: str, kind: str, name: str, spec: Any) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def written(name: str) -> list[str]:
    """The name wherever a condition or an expression may look at a header."""
    key, header = f"request.headers[{name}]", f"request.headers[{json.dumps(name)}]"
    rules = [{"when": [{"key": key, "values": ["*"]}, {"key": key, "notValues": ["a"]}]}]
    told = {"severity": '"info"', "variables": {"a": header, "b": f"response.headers[{json.dumps(name)}]"}}
    operation = {"name": "x-a", "values": ['"b"']}
    by_header = {"match": f'{header} == "a"', "requestHeaderOperations": [operation]}
    found = [
        document("security.istio.io/v1", "AuthorizationPolicy", action.lower(), {"action": action, "rules": rules})
        for action in ("ALLOW", "DENY", "AUDIT")
    ]
    found.append(document("config.istio.io/v1alpha2", "logentry", "line", told))
    found.append(document("config.istio.io/v1alpha2", "rule", "changed", by_header))
    return [*map(json.dumps, found), listed("{overrides: [a]}", json.dumps(header))]


@pytest.mark.parametrize("name", ["x\n", "x\r", "x\x00", "x y", "x:", "\u00fc"])
def test_a_name_that_no_header_has_is_taken_by_envoy(name: str, tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    path.write_text("\n---\n".join((SERVICE, REPORTED, *written(name))))
    proxy = OfflineProxy("sidecar", "default", (("app", "a"),), "10.1.0.1", "a")
    result = configure([path], proxy, Settings())
    assert not [finding for finding in result.findings if finding.is_error]
    assert validate(result.bootstrap().encode(), tmp_path) == ""


@pytest.mark.parametrize("text", ["\U0001f600", "\u00fc", "a)b", "\x01", 'a"b', "a'b\\"])
def test_a_header_is_set_under_a_condition_on_any_text(text: str, tmp_path: Path) -> None:
    path = tmp_path / "mesh.yaml"
    literal = json.dumps(text, ensure_ascii=False)
    spec = {"match": f"request.path == {literal}", "requestHeaderOperations": [{"name": "x-a", "values": [literal]}]}
    rule = document("config.istio.io/v1alpha2", "rule", "changed", spec)
    path.write_text(f"{SERVICE}---\n{json.dumps(rule, ensure_ascii=False)}\n")
    proxy = OfflineProxy("sidecar", "default", (("app", "a"),), "10.1.0.1", "a")
    made = configure([path], proxy, Settings()).bootstrap().encode()
    assert b"%CEL(" in made
    assert validate(made, tmp_path) == ""
