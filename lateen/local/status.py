"""What a running mesh says of itself: the JSON of ``/v1/status`` and of ``lateen status -o json``."""

from __future__ import annotations

import msgspec

from lateen.findings import Finding
from lateen.local.project import Port, Workload
from lateen.values.protocol import Protocol


class PortStatus(msgspec.Struct, frozen=True):
    """One port of a gateway. ``ready``: its Envoy listens there; ``detail`` says why not, ``url`` what to open."""

    name: str
    number: int
    ready: bool
    url: str
    detail: str


class InstanceStatus(msgspec.Struct, frozen=True):
    """One replica or gateway. ``pid`` is the application's, ``proxy_pid`` its Envoy's; 0 where none runs.

    ``stage`` says where it is in its life, ``detail`` why it is not ready or what else is wrong with it. A gateway has
    ``ports``, and ``urls`` for those that are open.
    """

    name: str
    workload: str
    service: str
    version: str
    namespace: str
    ready: bool
    stage: str
    detail: str
    restarts: int
    proxy_restarts: int
    pid: int
    proxy_pid: int
    address: str
    labels: dict[str, str]
    urls: tuple[str, ...] = ()
    ports: tuple[PortStatus, ...] = ()


class CaptureStatus(msgspec.Struct, frozen=True):
    """How traffic is captured, and why so."""

    mode: str = ""
    reason: str = ""


class ServiceStatus(msgspec.Struct, frozen=True):
    """A process of Lateen's own: the control plane's, or the mixer's."""

    pid: int = 0
    ready: bool = False
    restarts: int = 0
    detail: str = ""


class FindingStatus(msgspec.Struct, frozen=True):
    """One finding; ``text`` is the line that a terminal shows."""

    code: str
    severity: str
    message: str
    remedy: str
    path: str
    line: int
    field: str
    resource: str
    text: str


def finding_status(finding: Finding) -> FindingStatus:
    """A finding as the API tells it."""
    origin = finding.origin
    return FindingStatus(
        code=finding.code,
        severity=finding.severity.value,
        message=finding.message,
        remedy=finding.remedy,
        path=origin.path,
        line=origin.line,
        field=origin.field,
        resource=f"{origin.kind} {origin.namespace + '/' if origin.namespace else ''}{origin.name}",
        text=finding.render(),
    )


class MeshStatus(msgspec.Struct, frozen=True):
    """A whole mesh on this machine. ``ready``: every gateway and workload is. ``mixer``: None until needed."""

    name: str
    run_id: str
    run_dir: str
    project: str
    pid: int
    started_at: float
    ready: bool
    stopping: bool
    gateways: tuple[InstanceStatus, ...]
    workloads: tuple[InstanceStatus, ...]
    findings: tuple[FindingStatus, ...]
    capture: CaptureStatus
    control_plane: ServiceStatus
    mixer: ServiceStatus | None = None


_SCHEMES = {
    Protocol.HTTP: "http",
    Protocol.HTTP2: "http",
    Protocol.GRPC: "http",
    Protocol.GRPC_WEB: "http",
    Protocol.HTTPS: "https",
    Protocol.TLS: "tls",
}


def port_url(gateway: Workload, port: Port, address: str, number: int) -> str:
    """What to open on this machine to reach a gateway's port, which listens at ``address`` as ``number``."""
    place = address or gateway.bind
    host = "127.0.0.1" if place == "0.0.0.0" else place  # noqa: S104 - not a bind, a comparison
    scheme = _SCHEMES.get(port.protocol, "tcp")
    standard = {"http": 80, "https": 443}.get(scheme)
    return f"{scheme}://{host}" if number == standard else f"{scheme}://{host}:{number}"
