"""How many workers a proxy has.

Comes in: ProxyConfigs and the mesh configuration. Goes out: rules in order of precedence, which are few and small, so
that whoever starts a proxy can be handed them and ask for any workload. A workload's own ProxyConfig comes first, then
its namespace's, then the mesh's (root namespace, no selector), then ``defaultConfig``; in each level the oldest stands.
A ProxyConfig that does not say it leaves it to the next. It holds from a proxy's next start on, as threads are Envoy's
for life.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from lateen.mesh.model import Labels, MeshSnapshot
from lateen.mesh.visibility import selects
from lateen.resources.proxy_config import ProxyConfigSpec
from lateen.resources.resource import Resource


class ConcurrencyRule(msgspec.Struct, frozen=True):
    """``workers`` for the workloads of a namespace (empty: of all) with these labels; 0 means one for each core."""

    workers: int
    namespace: str = ""
    labels: Labels = ()


def concurrency_rules(snapshot: MeshSnapshot) -> tuple[ConcurrencyRule, ...]:
    """All rules of the mesh, the first that fits a workload holds for it."""
    found = sorted(_rules(snapshot.proxy_configs, snapshot.settings.root_namespace), key=_level)
    default = snapshot.mesh_config.default_config
    if default is not None and default.concurrency is not None:
        found.append(ConcurrencyRule(default.concurrency))
    return tuple(found)


def concurrency(rules: Iterable[ConcurrencyRule], namespace: str, labels: Labels) -> int | None:
    """What holds for a workload; None: nobody says."""
    fitting = (rule for rule in rules if rule.namespace in ("", namespace) and selects(rule.labels, labels))
    return next((rule.workers for rule in fitting), None)


def _rules(resources: Iterable[Resource], root: str) -> Iterator[ConcurrencyRule]:
    for resource in resources:
        spec: ProxyConfigSpec = resource.spec
        if spec.concurrency is None:
            continue
        labels = tuple(sorted(spec.selector.match_labels.items())) if spec.selector is not None else ()
        namespace = resource.key.namespace
        yield ConcurrencyRule(spec.concurrency, "" if namespace == root and not labels else namespace, labels)


def _level(rule: ConcurrencyRule) -> int:
    return 0 if rule.labels else (1 if rule.namespace else 2)
