"""Ingress and IngressClass, as Kubernetes' own validation judges them."""

from __future__ import annotations

from lateen.resources.checks import Report, check_port
from lateen.resources.ingress import IngressBackend, IngressClassSpec, IngressSpec
from lateen.values.network import is_label, is_partial_wildcard, is_wildcard_host

PATH_TYPES = ("Exact", "Prefix", "ImplementationSpecific")
CLASS_ANNOTATION = "kubernetes.io/ingress.class"


def check_ingress(report: Report) -> None:
    spec: IngressSpec = report.resource.spec
    if not spec.rules and spec.default_backend is None:
        report.error("spec", "an Ingress needs rules or a defaultBackend", "give rules", "missing-field")
    if spec.ingress_class_name is not None and CLASS_ANNOTATION in report.resource.annotations:
        message = f"ingressClassName and the annotation {CLASS_ANNOTATION} exclude each other"
        report.error("spec.ingressClassName", message, "keep one of them")
    if spec.default_backend is not None:
        _check_backend(report, "spec.defaultBackend", spec.default_backend)
    for index, tls in enumerate(spec.tls):
        for place, host in enumerate(tls.hosts):
            _check_host(report, f"spec.tls[{index}].hosts[{place}]", host)
    for index, rule in enumerate(spec.rules):
        field = f"spec.rules[{index}]"
        if rule.host:
            _check_host(report, f"{field}.host", rule.host)
        if rule.http is not None and not rule.http.paths:
            report.error(f"{field}.http", "http needs paths", code="missing-field")
        for place, path in enumerate(rule.http.paths if rule.http is not None else ()):
            at = f"{field}.http.paths[{place}]"
            if path.path_type not in PATH_TYPES:
                message = f"{path.path_type!r} is no type of a path" if path.path_type else "the path needs a pathType"
                report.error(f"{at}.pathType", message, f"write {', '.join(PATH_TYPES[:2])} or {PATH_TYPES[2]}")
            elif path.path_type != "ImplementationSpecific" and not path.path.startswith("/"):
                report.error(f"{at}.path", f"the path {path.path!r} does not begin with /")
            _check_backend(report, f"{at}.backend", path.backend)


def _check_host(report: Report, field: str, host: str) -> None:
    if not is_wildcard_host(host) or is_partial_wildcard(host) or host == "*":
        report.error(field, f"{host!r} is no host name", "such as shop.example.com or *.example.com")


def _check_backend(report: Report, field: str, backend: IngressBackend) -> None:
    service = backend.service
    if (service is None) == (backend.resource is None):
        report.error(field, "a backend is a service or a resource", "name a service", "missing-field")
    if service is None:
        return
    if not is_label(service.name):
        report.error(f"{field}.service.name", f"{service.name!r} is no name of a Service")
    if (service.port.number is None) == (not service.port.name):
        report.error(f"{field}.service.port", "the port needs a number or a name, and not both")
    check_port(report, f"{field}.service.port.number", service.port.number)


def check_ingress_class(report: Report) -> None:
    spec: IngressClassSpec = report.resource.spec
    if not spec.controller:
        report.error("spec.controller", "an IngressClass needs a controller", code="missing-field")
