"""The harness itself: a ServiceEntry's endpoints are reached through a real sidecar, and so is a gateway's route."""

from __future__ import annotations

from lateen.mesh.model import Workload
from tests.envoy.from_yaml import sidecar
from tests.envoy.harness import Application, free_port

ENTRY = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: shop}}
spec:
  hosts: [shop.example]
  ports: [{{name: http, number: 8080, protocol: HTTP}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {port}}}}}]
"""


def test_a_service_entry_is_reached_through_a_sidecar() -> None:
    with Application("v1") as app, sidecar(ENTRY.format(port=app.port)) as proxy:
        assert proxy.get("shop.example", 8080, "/a").seen["path"] == "/a"


def test_a_gateway_is_reached_by_its_port() -> None:
    port = free_port()
    labels = (("istio", "ingressgateway"),)
    gateway = Workload("gw-0", "default", "gw", labels, "gw", "", is_gateway=True, ready=True)
    text = f"""
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: edge}}
spec:
  selector: {{istio: ingressgateway}}
  servers: [{{port: {{number: {port}, name: http, protocol: HTTP}}, hosts: ["*"]}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: shop}}
spec: {{hosts: ["*"], gateways: [edge], http: [{{route: [{{destination: {{host: shop.example}}}}]}}]}}
"""
    with Application("v1") as app, sidecar(ENTRY.format(port=app.port) + text, workload=gateway) as proxy:
        assert proxy.get("any.example", port, address="127.0.0.1").status == 200
