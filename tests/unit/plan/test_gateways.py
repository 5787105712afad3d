"""Which servers a gateway runs, on which sockets, and what is left out with a finding."""

from __future__ import annotations

import pytest
from msgspec import structs

from lateen.mesh.gateways import GatewayWorkload, gateway_sockets
from lateen.mesh.model import WorkloadPort
from lateen.values.protocol import Protocol
from tests.unit.plan.building import gateway, snapshot

LABELS = (("istio", "ingressgateway"),)


def edge(name, servers, namespace="default", created="", selector="{istio: ingressgateway}", annotations="{}"):
    time = f", creationTimestamp: '{created}'" if created else ""
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}, annotations: {annotations}{time}}}
spec: {{selector: {selector}, servers: [{servers}]}}
---
"""


def server(port, protocol="HTTP", hosts='["*"]', name="", tls="", bind=""):
    more = (f", tls: {tls}" if tls else "") + (f", bind: '{bind}'" if bind else "")
    return f"{{port: {{number: {port}, protocol: {protocol}, name: '{name or protocol}'}}, hosts: {hosts}{more}}}"


def sockets(text, namespace="default", **settings):
    who = GatewayWorkload("ingress-0", namespace, LABELS, "240.241.0.1", "0.0.0.0")
    found, findings = gateway_sockets(snapshot(text, gateway(namespace), **settings), who)
    kept = {f"{socket.bind}:{socket.port}": [placed.resource.key.name for placed in socket.servers] for socket in found}
    return kept, [(finding.code, finding.origin.name, finding.origin.field) for finding in findings]


def test_plain_http_servers_share_a_port():
    text = edge("a", server(80, "HTTP")) + edge("b", server(80, "GRPC"))
    assert sockets(text) == ({"0.0.0.0:80": ["a", "b"]}, [])


def test_the_older_gateway_has_the_port_that_two_cannot_share():
    text = edge("a", server(80, "HTTP"), created="2024-01-02T00:00:00Z")
    text += edge("b", server(80, "TCP"), created="2024-01-01T00:00:00Z")
    assert sockets(text) == ({"0.0.0.0:80": ["b"]}, [("conflicting-server", "a", "spec.servers[0].port")])


@pytest.mark.parametrize(("first", "second"), [("HTTP", "HTTPS"), ("TLS", "TCP"), ("TCP", "TCP"), ("MONGO", "TCP")])
def test_what_cannot_share_a_port(first, second):
    tls = {"HTTPS": "{mode: PASSTHROUGH}", "TLS": "{mode: PASSTHROUGH}"}
    text = edge("a", server(80, first, tls=tls.get(first, "")))
    text += edge("b", server(80, second, tls=tls.get(second, "")))
    kept, findings = sockets(text)
    assert kept == {"0.0.0.0:80": ["a"]}
    assert [code for code, *_ in findings] == ["conflicting-server"]


def test_one_port_at_two_addresses_is_two_sockets_but_for_any_address():
    text = edge("a", server(80, "TCP", bind="10.0.0.1")) + edge("b", server(80, "TCP", bind="10.0.0.2"))
    assert sockets(text)[0] == {"10.0.0.1:80": ["a"], "10.0.0.2:80": ["b"]}
    kept, findings = sockets(text + edge("c", server(80, "TCP")))
    assert (len(kept), findings) == (2, [("conflicting-server", "c", "spec.servers[0].port")])


def test_a_name_in_tls_is_the_first_ones():
    text = edge("a", server(443, "HTTPS", "[a.com, b.com]", tls="{mode: PASSTHROUGH}"))
    text += edge("b", server(443, "TLS", "[b.com, other/c.com]", tls="{mode: PASSTHROUGH}"))
    text += edge("c", server(443, "TLS", "[a.com]", tls="{mode: PASSTHROUGH}"))
    kept, findings = sockets(text)
    assert kept == {"0.0.0.0:443": ["a", "b"]}
    assert findings == [
        ("duplicate-tls-host", "b", "spec.servers[0].hosts[0]"),
        ("duplicate-tls-host", "c", "spec.servers[0].hosts[0]"),
    ]


def test_selection_is_by_label_in_every_namespace_unless_the_mesh_says_otherwise():
    text = edge("a", server(80), namespace="other")
    text += edge("b", server(81), selector="{istio: egressgateway}") + edge("c", server(82), selector="{}")
    assert set(sockets(text)[0]) == {"0.0.0.0:80", "0.0.0.0:82"}
    assert set(sockets(text, scope_gateways=True)[0]) == {"0.0.0.0:82"}


SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: NAME, namespace: default, labels: {LABELS}}
spec: {selector: {istio: ingressgateway}, ports: [{name: http, port: 80, targetPort: TARGET}]}
---
"""


def gateway_service(name, target, labels=""):
    return SERVICE.replace("NAME", name).replace("TARGET", str(target)).replace("LABELS", labels)


def test_a_server_listens_where_the_services_of_the_gateway_lead():
    text = edge("a", server(80)) + edge("b", server(81))
    assert set(sockets(text + gateway_service("in", 8080))[0]) == {"0.0.0.0:8080", "0.0.0.0:81"}
    two = gateway_service("in", 8080) + gateway_service("again", 8081)
    assert set(sockets(text + two)[0]) == {"0.0.0.0:8080", "0.0.0.0:8081", "0.0.0.0:81"}


def test_a_service_may_leave_the_ports_of_gateways_alone():
    off = gateway_service("in", 8080, "experimental.istio.io/disable-gateway-port-translation: 'true'")
    assert set(sockets(edge("a", server(80)) + off)[0]) == {"0.0.0.0:80"}


def test_a_gateway_that_names_its_service_has_no_ports_but_those():
    named = "{internal.istio.io/gateway-service: in.default.svc.cluster.local}"
    text = edge("a", f"{server(80, name='a')}, {server(81, name='b')}", annotations=named, selector="{}")
    assert set(sockets(text + gateway_service("in", 8080))[0]) == {"0.0.0.0:8080"}
    assert sockets(text)[0] == {}
    elsewhere = edge("a", server(80), namespace="other", annotations=named, selector="{}")
    assert sockets(elsewhere + gateway_service("in", 8080))[0] == {}


def test_a_port_of_the_gateway_itself_may_have_another_target():
    who = gateway()
    who = structs.replace(who, ports=(WorkloadPort("http", 80, 8080, Protocol.HTTP),))
    asking = GatewayWorkload(who.id, who.namespace, LABELS, who.address, "0.0.0.0")
    found, findings = gateway_sockets(snapshot(edge("a", server(80)) + edge("b", server(81)), who), asking)
    assert ([socket.port for socket in found], findings) == ([81, 8080], [])
    assert found[1].servers[0].port == 80
