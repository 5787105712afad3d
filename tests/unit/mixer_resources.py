"""Resources of Mixer that tests write alike: a list that callers are held against, a quota that is charged."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

HEAD = "apiVersion: config.istio.io/v1alpha2\n"


def document(kind: str, name: str, spec: Any, annotations: Mapping[str, str] | None = None) -> str:
    """Any resource of Mixer."""
    metadata = {"name": name, **({"annotations": annotations} if annotations else {})}
    found = {"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": metadata, "spec": spec}
    return json.dumps(found, ensure_ascii=False)


def _joined(*resources: tuple[str, str, str]) -> str:
    return "---\n".join(
        f"{HEAD}kind: {kind}\nmetadata: {{name: {name}}}\nspec: {spec}\n" for kind, name, spec in resources
    )


def listed(params: str, value: str) -> str:
    """A listchecker, what is looked for in its list, and the rule that asks it."""
    return _joined(
        ("listchecker", "names", params),
        ("listentry", "caller", f"{{value: {value}}}"),
        ("rule", "known", "{actions: [{handler: names.listchecker, instances: [caller.listentry]}]}"),
    )


def counted(quotas: str, dimensions: str, charged: str) -> str:
    """A memquota, what it counts apart, and what all requests are charged."""
    return _joined(
        ("memquota", "counter", f"{{quotas: [{quotas}]}}"),
        ("quota", "calls", f"{{dimensions: {dimensions}}}"),
        ("rule", "count", "{actions: [{handler: counter.memquota, instances: [calls.quota]}]}"),
        ("QuotaSpec", "calls", f"{{rules: [{charged}]}}"),
        ("QuotaSpecBinding", "calls", '{services: [{service: "*"}], quotaSpecs: [{name: calls}]}'),
    )
