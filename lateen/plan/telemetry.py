"""What a proxy reports: the metrics and the log of one side of it.

Comes in: the snapshot and the proxy. Goes out: ``Telemetry`` of its chains. A gateway reports as a client.
"""

from __future__ import annotations

import json

from lateen.mesh.model import MeshSnapshot
from lateen.mesh.telemetry_policy import CLIENT, SERVER, file_logs, log_policy, metric_changes
from lateen.plan.model import FileLog, MetricRule, Telemetry
from lateen.plan.proxy import Proxy
from lateen.resources.mesh_config import FileAccessLog, LogFormat
from lateen.resources.telemetry_support import LOG_PROVIDER

SOURCE = "source"
DESTINATION = "destination"
STDOUT = "/dev/stdout"


def reported(
    snapshot: MeshSnapshot, proxy: Proxy, reporter: str, tags: tuple[tuple[str, str], ...], access_log: str
) -> Telemetry:
    """The telemetry of a proxy as ``source`` or ``destination``; ``access_log`` is where its log would be written."""
    if not snapshot.telemetries:
        return Telemetry(reporter, tags, access_log)
    mode = CLIENT if reporter == SOURCE else SERVER
    changes = metric_changes(snapshot, proxy.namespace, proxy.labels, mode)
    log = log_policy(snapshot, proxy.namespace, proxy.labels, mode)
    files = file_logs(snapshot.mesh_config) if log.enabled else {}
    return Telemetry(
        reporter,
        tags,
        access_log if log.enabled and LOG_PROVIDER in log.providers else "",
        more_logs=tuple(_file_log(files[name]) for name in log.providers if name in files),
        metrics=tuple(MetricRule(change.metric, change.disabled, change.labels) for change in changes),
        log_expression=log.expression,
    )


def _file_log(provider: FileAccessLog) -> FileLog:
    form = provider.log_format or LogFormat()
    return FileLog(
        path=provider.path or STDOUT,
        text=form.text or "",
        labels=json.dumps(form.labels, sort_keys=True) if form.labels is not None else "",
        omits_empty=bool(provider.omit_empty_values),
    )
