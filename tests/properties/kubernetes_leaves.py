"""What is said beside a spec, and leaves of Kubernetes' own kinds: above all what is likely to break."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

pick = st.sampled_from
SERVICES = ("c", "d", "a", "b")
PATHS = ("/", "/x", "/x/", "/x.*", ".*", "/x/*", "/x y", "/\u00fc", "/a\nb", "/\x00", "//", "", "/%2f", "/" + "x" * 300)
PORT_NAMES = ("http", "http-x", "tcp", "grpc-y", "h\u00fc", "a b", "", "x" * 70, "mongo", "udp-z", "a|b")
IPS = ("10.1.0.7", "2001:db8::7", "10.1.0.1", "127.0.0.1", "0.0.0.0", "::ffff:10.0.0.1", "fe80::1%eth0")
ALWAYS: dict[str, frozenset[str]] = {
    "KubernetesServicePort": frozenset({"port"}),
    "KubernetesServiceSpec": frozenset({"ports", "selector"}),
    "IngressSpec": frozenset({"rules"}),
    "IngressRule": frozenset({"http"}),
    "IngressPaths": frozenset({"paths"}),
    "IngressPath": frozenset({"path", "pathType", "backend"}),
    "IngressBackend": frozenset({"service"}),
    "IngressService": frozenset({"name", "port"}),
    "IngressTls": frozenset({"secretName"}),
    "IngressClassSpec": frozenset({"controller"}),
    "PodContent": frozenset({"spec", "status"}),
    "PodStatus": frozenset({"podIP"}),
    "PodSpec": frozenset({"containers"}),
    "EndpointSliceContent": frozenset({"addressType", "endpoints", "ports"}),
    "SliceEndpoint": frozenset({"addresses"}),
    "EndpointPort": frozenset({"port"}),
    "EndpointsContent": frozenset({"subsets"}),
    "EndpointSubset": frozenset({"addresses", "ports"}),
    "EndpointAddress": frozenset({"ip"}),
}
NEVER: dict[str, frozenset[str]] = {"IngressBackend": frozenset({"resource"})}
ONE_OF = {"IngressPort": ("number", "name")}
TEXTS: dict[tuple[str, str], tuple[str, ...]] = {
    ("KubernetesServicePort", "name"): PORT_NAMES,
    ("KubernetesServicePort", "protocol"): ("TCP", "TCP", "UDP", "SCTP"),
    ("KubernetesServicePort", "appProtocol"): ("http", "kubernetes.io/h2c", "kubernetes.io/wss", "tls", "x.example/y"),
    ("KubernetesServiceSpec", "type"): ("ClusterIP", "NodePort", "LoadBalancer", "ExternalName", "x"),
    ("KubernetesServiceSpec", "clusterIP"): ("None", "", *IPS, "x"),
    ("KubernetesServiceSpec", "externalName"): ("db.example", "a.default.svc.cluster.local", "x.", "\u00fc"),
    ("KubernetesServiceSpec", "trafficDistribution"): ("PreferClose", "PreferSameZone", "x"),
    ("KubernetesServiceSpec", "selector"): ("a", "c", "v1", ""),
    ("IngressRule", "host"): ("shop.example", "*.example", "*", "", "A.Example", "api.example", "10.0.0.1"),
    ("IngressTls", "hosts"): ("shop.example", "*.example", "A.Example", "api.example"),
    ("IngressTls", "secretName"): ("cert", "other", ""),
    ("IngressPath", "path"): PATHS,
    ("IngressPath", "pathType"): ("Exact", "Prefix", "ImplementationSpecific"),
    ("IngressService", "name"): SERVICES,
    ("IngressPort", "name"): PORT_NAMES,
    ("IngressClassSpec", "controller"): ("istio.io/ingress-controller", "x"),
    ("PodStatus", "podIP"): IPS,
    ("PodStatus", "phase"): ("Running", "Pending", "Succeeded"),
    ("ContainerPort", "name"): PORT_NAMES,
    ("PodSpec", "serviceAccountName"): ("a", "x y", "\u00fc", "x" * 300),
    ("PodSpec", "hostname"): ("h", "h h", "\u00fc"),
    ("PodSpec", "subdomain"): SERVICES,
    ("EndpointSliceContent", "addressType"): ("IPv4", "IPv6", "FQDN"),
    ("SliceEndpoint", "addresses"): (*IPS, "db.example"),
    ("SliceEndpoint", "hostname"): ("h", "h h", "\u00fc"),
    ("EndpointPort", "name"): PORT_NAMES,
    ("EndpointPort", "protocol"): ("TCP", "UDP"),
    ("EndpointAddress", "ip"): IPS,
}
KEYS: dict[tuple[str, str], tuple[str, ...]] = {("KubernetesServiceSpec", "selector"): ("app", "version")}
NAMED_AS_A_SERVICE = ("Service", "Endpoints")
LABELS = {
    "kubernetes.io/service-name": SERVICES,
    "app": ("a", "c"),
    "version": ("v1", "\u00fc", "x" * 63),
    "service.istio.io/canonical-name": ("c", "a b", "\u00fc", 'q"'),
    "topology.kubernetes.io/region": ("r1", "\u00fc/z"),
    "security.istio.io/tlsMode": ("istio", "disabled"),
}
ANNOTATIONS: dict[str, dict[str, tuple[str, ...]]] = {
    "Service": {
        "networking.istio.io/exportTo": (".", "*", "default", "~", "x y"),
        "networking.istio.io/traffic-distribution": ("PreferClose",),
    },
    "ServiceEntry": {"networking.istio.io/traffic-distribution": ("PreferClose",)},
    "Ingress": {"kubernetes.io/ingress.class": ("istio", "x")},
    "IngressClass": {"ingressclass.kubernetes.io/is-default-class": ("true",)},
    "AuthorizationPolicy": {"istio.io/dry-run": ("true",)},
    "DestinationRule": {
        "lateen.io/health-check": (
            "{http: {path: /healthz}, interval: 5s, timeout: 1s}",
            '{http: {path: "/a b", host: "x y"}}',
            '{http: {path: "/\\n", expectedStatuses: [200, 99]}}',
            "{http: {expectedStatuses: [599, 600]}, jitterPercent: 1000}",
            '{grpc: {service: "\u00fc\\n"}, interval: 0s}',
            "{tcp: {}, interval: 1ms, timeout: 87600h, unhealthyThreshold: 0}",
            "{tcp: {}, interval: 87600h, healthyThreshold: 4294967295, jitterPercent: 4294967295}",
        )
    },
}


def metadata(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Names, labels and annotations that matter to a kind."""
    names = SERVICES if kind in NAMED_AS_A_SERVICE else ("c", "d", "R_~:*", "x" * 253)
    said = ANNOTATIONS.get(kind)
    optional: dict[str, Any] = {
        "namespace": pick(("default", "default", "istio-system", "other")),
        "labels": st.fixed_dictionaries({}, optional={name: pick(values) for name, values in LABELS.items()}),
    }
    if said:
        annotations: dict[str, Any] = {name: pick(values) for name, values in said.items()}
        optional["annotations"] = st.fixed_dictionaries({}, optional=annotations)
    return st.fixed_dictionaries({"name": pick(names)}, optional=optional)
