"""Kubernetes' own kinds, as far as Lateen reads them: ports of a Service, entries of a Secret."""

from __future__ import annotations

from lateen.resources.checks import Report, check_port
from lateen.resources.checks.metadata import check_distribution
from lateen.resources.kubernetes import HEADLESS, KubernetesServiceSpec, SecretSpec
from lateen.values.network import is_host, is_ip

TLS_TYPE = "kubernetes.io/tls"
TRANSPORTS = frozenset({"TCP", "UDP", "SCTP"})


def check_service(report: Report) -> None:
    spec: KubernetesServiceSpec = report.resource.spec
    if spec.is_alias and not is_host((spec.external_name or "").removesuffix(".")):
        report.error("spec.externalName", f"{spec.external_name or ''!r} is no host name", "name a host")
    if spec.cluster_ip not in (None, "", HEADLESS) and not is_ip(spec.cluster_ip or ""):
        report.error("spec.clusterIP", f"{spec.cluster_ip!r} is no address", f"leave it out, or write {HEADLESS}")
    check_distribution(report, "spec.trafficDistribution", spec.traffic_distribution)
    names: set[str] = set()
    for index, port in enumerate(spec.ports):
        field = f"spec.ports[{index}]"
        check_port(report, f"{field}.port", port.port)
        if isinstance(port.target_port, int):
            check_port(report, f"{field}.targetPort", port.target_port)
        if (port.protocol or "TCP") not in TRANSPORTS:
            report.error(f"{field}.protocol", f"{port.protocol!r} is no transport", "use TCP, or appProtocol")
        if len(spec.ports) > 1 and (not port.name or port.name in names):
            report.error(f"{field}.name", "with several ports each needs a name of its own", "give name")
        names.add(port.name)


def check_secret(report: Report) -> None:
    spec: SecretSpec = report.resource.spec
    for name in spec.data:
        try:
            spec.value(name)
        except ValueError:
            report.error(f"data.{name}", "the value is not base64", "encode it, or use stringData")
    if spec.type == TLS_TYPE:
        for name in ("tls.crt", "tls.key"):
            if name not in spec.data and name not in spec.string_data:
                report.error("data", f"a Secret of type {TLS_TYPE} needs {name}", code="missing-field")
