"""What a proxy reports: the metrics and the log of one side of it.

Comes in: the snapshot and the proxy. Goes out: ``Telemetry`` of its chains. A gateway reports as a client.
"""

from __future__ import annotations

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.telemetry_policy import CLIENT, SERVER, log_policy, metric_changes
from lateen.plan.model import MetricRule, Telemetry
from lateen.plan.proxy import Proxy

SOURCE = "source"
DESTINATION = "destination"


def reported(
    snapshot: MeshSnapshot, proxy: Proxy, reporter: str, tags: tuple[tuple[str, str], ...], access_log: str
) -> Telemetry:
    """The telemetry of a proxy as ``source`` or ``destination``; ``access_log`` is where its log would be written."""
    if not snapshot.telemetries:
        return Telemetry(reporter, tags, access_log)
    mode = CLIENT if reporter == SOURCE else SERVER
    changes = metric_changes(snapshot, proxy.namespace, proxy.labels, mode)
    log = log_policy(snapshot, proxy.namespace, proxy.labels, mode)
    return Telemetry(
        reporter,
        tags,
        access_log if log.enabled else "",
        metrics=tuple(MetricRule(change.metric, change.disabled, change.labels) for change in changes),
        log_expression=log.expression,
    )
