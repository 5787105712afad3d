"""Whether resources are accepted, each by itself, and what the real Envoy says against what is made of them."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

from lateen.control.offline import OfflineProxy, configure
from lateen.control.store import ResourceStore
from lateen.settings import Settings
from lateen.sources.files import read_file
from tests.envoy.harness import Authority, Pem, validate
from tests.properties.smaller import smallest

SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: {name}}}
spec:
  selector: {{app: {name}}}
  ports: [{{name: http, port: 80}}, {{name: tcp, port: 9000}}, {{name: auto, port: 8080}}]
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {{name: {name}}}
spec: {{address: 10.1.0.1, labels: {{app: {name}, version: v1}}}}
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: g}
spec:
  servers:
  - {port: {number: 80, name: http, protocol: HTTP}, hosts: ["*"]}
  - {port: {number: 443, name: tls, protocol: TLS}, hosts: ["*"], tls: {mode: PASSTHROUGH}}
  - {port: {number: 9000, name: tcp, protocol: TCP}, hosts: ["*"]}
"""
BASE = "---".join((SERVICE.format(name="a"), SERVICE.format(name="b"), GATEWAY))
PROXIES = (
    OfflineProxy("sidecar", "default", (("app", "a"),), "10.1.0.1", "a"),
    OfflineProxy("gateway", "default", (("istio", "ingressgateway"),), "10.1.0.9", "gw"),
)


@functools.cache
def files() -> Pem:
    """What stands in the files that resources name."""
    return Authority().mesh("a")


def accepted(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those that are not refused, each judged by itself."""
    kept = []
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        path = Path(folder) / "one.yaml"
        for number, document in enumerate(found):
            named = {"metadata": {"name": f"r{number}"}, **document}
            path.write_text(json.dumps(named, ensure_ascii=False))
            store = ResourceStore("default")
            store.apply(read_file(path))
            findings = store.findings()
            assert "internal-error" not in [finding.code for finding in findings], (named, findings)
            if not any(finding.is_error for finding in findings):
                kept.append(named)
    return kept


def refused(kept: list[dict[str, Any]]) -> str:
    """What Envoy says against the configuration of a mesh with these resources."""
    pem = files()
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        for name, content in (("certificate", pem.certificate), ("key", pem.key), ("roots", pem.roots)):
            (Path(folder) / f"{name}.pem").write_bytes(content)
        path = Path(folder) / "mesh.yaml"
        path.write_text("\n---\n".join([BASE, *(json.dumps(one, ensure_ascii=False) for one in kept)]))
        for proxy in PROXIES:
            result = configure([path], proxy, Settings())
            if broken := [finding.message for finding in result.findings if finding.code == "internal-error"]:
                return f"{proxy.type}: {broken}"
            if problem := validate(result.bootstrap().encode(), Path(folder)):
                return f"{proxy.type}: {problem}"
    return ""


def assert_taken(found: list[dict[str, Any]]) -> None:
    """Envoy takes what is made of those that are accepted."""
    kept = accepted(found)
    if refused(kept):
        least = smallest(kept, lambda less: accepted(less) == less and bool(refused(less)))
        raise AssertionError(f"{refused(least)}\n{json.dumps(least, indent=1)}")
