"""A gateway for live tests: its workload, and the resources that most of them begin with, as YAML.

Each text begins with ``---``, so that they may stand one after the other.
"""

from __future__ import annotations

from lateen.mesh.model import Workload


def gateway_workload(namespace: str = "default", name: str = "gw", istio: str = "ingressgateway") -> Workload:
    """A workload that Gateways select by its label ``istio``."""
    return Workload(f"{name}-0", namespace, name, (("istio", istio),), name, "", is_gateway=True, ready=True)


def entry(
    name: str, port: int, protocol: str = "HTTP", *, number: int = 8080, namespace: str = "default", more: str = ""
) -> str:
    """``NAME.example`` with one endpoint, on this machine; ``more`` are further fields of the spec, one a line."""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [{name}.example]
  ports: [{{name: port, number: {number}, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{port: {port}}}}}]
  {more}
"""


def gateway(*servers: str, name: str = "edge", namespace: str = "default", istio: str = "ingressgateway") -> str:
    """A Gateway with these servers."""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{istio: {istio}}}, servers: [{", ".join(servers)}]}}
"""


def serves(port: int, protocol: str = "HTTP", hosts: str = "*", tls: str = "") -> str:
    """A server of a Gateway; ``tls`` is its mode."""
    terms = f", tls: {{mode: {tls}}}" if tls else ""
    place = f"port: {{number: {port}, name: {protocol.lower()}-{port}, protocol: {protocol}}}"
    return f'{{{place}, hosts: ["{hosts}"]{terms}}}'


def serves_mesh(port: int) -> str:
    """A server that takes workloads of the mesh alone."""
    return serves(port, "HTTPS", tls="ISTIO_MUTUAL")


def virtual_service(http: str, *, gateways: str = "edge", namespace: str = "default", more: str = "") -> str:
    """A VirtualService for all hosts of the gateway: a route in flow style, and further fields of its spec."""
    return f"""
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: all, namespace: {namespace}}}
spec: {{hosts: ["*"], gateways: [{gateways}], http: [{http}]{more}}}
"""


def to(host: str) -> str:
    """A route to a host, in flow style."""
    return f"{{route: [{{destination: {{host: {host}}}}}]}}"


ANSWERS = "{directResponse: {status: 200}}"


def request_authentication(rules: str, namespace: str = "default") -> str:
    """A RequestAuthentication for all that the namespace has; its rules in flow style or as JSON."""
    return f"""
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {{name: tokens, namespace: {namespace}}}
spec: {{jwtRules: {rules}}}
"""
