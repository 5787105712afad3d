"""WorkloadGroup (networking.istio.io), and the probe of the proxies' own configuration, which has the same shape."""

from __future__ import annotations

from lateen.resources.base import Int32, Spec, Uint32
from lateen.resources.workload_entry import WorkloadEntrySpec


class ProbeHeader(Spec, frozen=True):
    name: str = ""
    value: str = ""


class HttpGetProbe(Spec, frozen=True):
    path: str = ""
    port: Uint32 = 0
    host: str = ""
    scheme: str = ""
    http_headers: tuple[ProbeHeader, ...] = ()


class TcpSocketProbe(Spec, frozen=True):
    host: str = ""
    port: Uint32 = 0


class ExecProbe(Spec, frozen=True):
    command: tuple[str, ...] = ()


class GrpcProbe(Spec, frozen=True):
    port: Uint32 = 0
    service: str = ""


class ReadinessProbe(Spec, frozen=True):
    initial_delay_seconds: Int32 = 0
    timeout_seconds: Int32 = 0
    period_seconds: Int32 = 0
    success_threshold: Int32 = 0
    failure_threshold: Int32 = 0
    http_get: HttpGetProbe | None = None
    tcp_socket: TcpSocketProbe | None = None
    exec: ExecProbe | None = None
    grpc: GrpcProbe | None = None


class WorkloadMetadata(Spec, frozen=True):
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}


class WorkloadGroupSpec(Spec, frozen=True):
    metadata: WorkloadMetadata | None = None
    template: WorkloadEntrySpec | None = None
    probe: ReadinessProbe | None = None
