"""Envoy takes patterns that are as large as Istio's proxies take them; by itself it refuses all above 100 steps."""

from __future__ import annotations

from typing import Any

import pytest

from tests.properties.judged import accepted, refused


def document(group: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": f"{group}.istio.io/v1", "kind": kind, "spec": spec}


def routed(pattern: str) -> dict[str, Any]:
    route = {"match": [{"uri": {"regex": pattern}}], "route": [{"destination": {"host": "b", "port": {"number": 80}}}]}
    return document("networking", "VirtualService", {"hosts": ["b"], "http": [route]})


def allowed(host: str) -> dict[str, Any]:
    rule = {"to": [{"operation": {"hosts": [host]}}]}
    return document("security", "AuthorizationPolicy", {"rules": [rule]})


@pytest.mark.parametrize("one", [routed("/x{1000}"), routed("[^/]{1000}"), allowed(f"{'x' * 60}.{'y' * 60}.example")])
def test_envoy_takes_a_large_pattern(one: dict[str, Any]) -> None:
    assert accepted([one])
    assert not refused(accepted([one]))
