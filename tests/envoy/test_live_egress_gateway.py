"""Out of the mesh through an egress gateway: a sidecar calls it in the mesh's own TLS, and it calls the outside."""

from __future__ import annotations

import msgspec
import pytest

from lateen.mesh.model import Workload
from tests.envoy.from_yaml import sidecar
from tests.envoy.harness import Application, free_port
from tests.envoy.tls_support import EdgeAuthority

GATEWAY = Workload(
    "egress-0", "default", "egress", (("istio", "egressgateway"),), "egress", "", is_gateway=True, ready=True,
    network="loopback",
)  # fmt: skip
TEXT = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: outside}}
spec:
  hosts: [outside.example]
  ports: [{{name: http, number: 8080, protocol: HTTP}}]
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{http: {application}}}}}]
---
apiVersion: v1
kind: Service
metadata: {{name: egress}}
spec: {{selector: {{istio: egressgateway}}, ports: [{{name: http, port: 8443, targetPort: {port}}}]}}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress}}
spec:
  selector: {{istio: egressgateway}}
  servers:
  - {{port: {{number: 8443, name: https, protocol: HTTPS}}, hosts: [outside.example], tls: {{mode: ISTIO_MUTUAL}}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egress}}
spec:
  host: egress
  subsets: [{{name: outside, trafficPolicy: {{tls: {{mode: ISTIO_MUTUAL, sni: outside.example}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: outside}}
spec:
  hosts: [outside.example]
  gateways: [mesh, egress]
  http:
  - match: [{{gateways: [mesh]}}]
    route: [{{destination: {{host: egress, subset: outside, port: {{number: 8443}}}}}}]
  - match: [{{gateways: [egress]}}]
    route: [{{destination: {{host: outside.example, port: {{number: 8080}}}}}}]
"""


@pytest.mark.covers("Gateway servers[].tls.mode", "DestinationRule subsets[].trafficPolicy.tls.sni")
def test_a_sidecar_calls_out_through_an_egress_gateway() -> None:
    authority = EdgeAuthority()
    with Application("outside") as application:
        text = TEXT.format(application=application.port, port=free_port())
        with sidecar(text, workload=GATEWAY, authority=authority) as egress:
            beside = msgspec.structs.replace(GATEWAY, prefix=egress.prefix)
            with sidecar(text, others=[beside], authority=authority) as client:
                seen = client.get("outside.example", 8080, "/path").seen
                assert seen["path"] == "/path"
                assert "URI=spiffe://cluster.local/ns/default/sa/client" in seen["headers"]["x-forwarded-client-cert"]
