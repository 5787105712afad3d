"""How an Envoy of the mesh is started: its bootstrap file and its command line."""

from __future__ import annotations

import resource
from pathlib import Path

import msgspec

from lateen.envoy.bootstrap import bootstrap
from lateen.local.links import Link
from lateen.local.project import Workload
from lateen.local.rundir import RunDir, write_atomically
from lateen.mesh.proxy_config import ConcurrencyRule, concurrency
from lateen.plan.proxy import Bind, node_metadata

LOG_FORMAT = "%Y-%m-%dT%T.%e %l %n %v"
DRAIN_TIME_S = 45
LOG_FLUSH_MS = 500
"""How long a line of an access log may wait in Envoy, whose own default is ten seconds."""
ANY_ADDRESS = "0.0.0.0"  # noqa: S104 - a source address, not a listener
SIDECAR_CONCURRENCY = 1
GATEWAY_CONCURRENCY = 2


def write_bootstrap(run: RunDir, instance_id: str, workload: Workload, link: Link, token: str) -> Path:
    """Write ``proxies/<id>/bootstrap.json``, which holds the token: readable for the user alone."""
    folder = run.proxy(instance_id)
    data = bootstrap(
        instance_id,
        node_cluster=f"{workload.service}.{workload.namespace}",
        xds_socket=str(run.xds_socket),
        sds_socket=str(folder / "sds.sock"),
        admin_socket=str(folder / "admin.sock"),
        token=token,
        node_metadata=node_metadata(workload.namespace, workload.service_account, workload.name),
        upstream_source=_upstream_source(workload, link),
        open_files=_open_files(),
    )
    path = folder / "bootstrap.json"
    write_atomically(path, data)
    return path


def _open_files() -> int:
    """How many files an Envoy may have open; 0 where nothing limits them. It raises the softer limit itself."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    return 0 if hard == resource.RLIM_INFINITY else hard


def _upstream_source(workload: Workload, link: Link) -> Bind | None:
    """Where connections into the mesh leave from: with namespaces the mesh's own, as the workload's address there."""
    mesh_netns = str(link.registry.get("mesh_netns", ""))
    if not mesh_netns:
        return None
    return Bind(ANY_ADDRESS if workload.is_gateway else link.address, 0, mesh_netns)


def workers(run: RunDir, workload: Workload) -> int:
    """How many workers a proxy starts with, by what the control plane wrote down; 0: one for each core."""
    usual = GATEWAY_CONCURRENCY if workload.is_gateway else SIDECAR_CONCURRENCY
    try:
        rules = msgspec.json.decode(run.concurrency.read_bytes(), type=tuple[ConcurrencyRule, ...])
    except (FileNotFoundError, msgspec.DecodeError):
        return usual
    said = concurrency(rules, workload.namespace, tuple(workload.labels))
    return usual if said is None else said


def envoy_argv(envoy: Path, folder: Path, concurrency: int) -> list[str]:
    """The command line. Connections of a listener that was replaced are given 45 seconds to end.

    Without ``--concurrency`` (``concurrency`` is 0) Envoy has a worker for each core.

    ``misc`` logs a warning with each use of a deprecated field, many a second and all alike: only its errors are kept.
    """
    return [
        str(envoy),
        "-c",
        str(folder / "bootstrap.json"),
        *(("--concurrency", str(concurrency)) if concurrency else ()),
        "--disable-hot-restart",
        "--drain-time-s",
        str(DRAIN_TIME_S),
        "--drain-strategy",
        "immediate",
        "--file-flush-interval-msec",
        str(LOG_FLUSH_MS),
        "-l",
        "warn",
        "--component-log-level",
        "misc:error",
        "--log-format",
        LOG_FORMAT,
    ]
