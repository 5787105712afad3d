"""What a sidecar does with redirected traffic: to services at any address, and to what the mesh does not know.

Three workloads call the same things under three policies: ALLOW_ANY, REGISTRY_ONLY, ALLOW_ANY_DYNAMIC_DNS. A fourth
has a proxy for what is unknown, and is called at its own address.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from lateen.control.coordinator import Coordinator
from lateen.control.store import ResourceStore
from lateen.envoy.resources import EnvoyResources
from lateen.envoy.static import static_bootstrap
from lateen.mesh.model import MeshSnapshot, Workload, WorkloadPort
from lateen.plan.planner import Planner, proxy_of
from lateen.plan.proxy import Bind
from lateen.settings import Settings
from lateen.sources.files import read_file
from lateen.values.protocol import Protocol
from tests.envoy.capture_support import APP_PORT, POD, Runtime, namespaces
from tests.envoy.harness import Application, Authority, free_port
from tests.envoy.test_capture_namespaces import is_possible, machine_address
from tests.envoy.test_live_outbound import entry
from tests.envoy.tls_support import Echo

pytestmark = [
    pytest.mark.xdist_group("capture"),
    pytest.mark.skipif(not machine_address(), reason="this machine has no address beside its loopback"),
]
ROOTLESS = os.geteuid() != 0
POLICIES = {"a": "ALLOW_ANY", "b": "REGISTRY_ONLY", "c": "ALLOW_ANY_DYNAMIC_DNS"}
DETECTION = 3.0
ANYWHERE = "203.0.113.5"
HTTP = """
import http.client, sys
try:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
    connection.request("GET", "/", headers={"host": sys.argv[3]})
    answer = connection.getresponse()
    answer.read()
    print(answer.status, answer.headers.get("x-app"))
except (OSError, http.client.HTTPException) as problem:
    print(type(problem).__name__)
"""
ASK = """
import socket, sys
try:
    stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
    stream.sendall(b"bytes\\r\\n\\r\\n")
    print(stream.recv(1000).decode().splitlines()[0])
except (OSError, IndexError) as problem:
    print(type(problem).__name__)
"""
BYTES = """
import socket, ssl, sys
try:
    stream = socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5)
    if sys.argv[3]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        stream = context.wrap_socket(stream, server_hostname=sys.argv[3])
    print(stream.recv(100).decode().strip() or "closed")
except TimeoutError:
    print("silence")
except OSError:
    print("closed")
"""


class Site:
    """The machine's servers, and the workloads that call."""

    def __init__(self, runtime: Runtime, snapshot: MeshSnapshot, ports: dict[str, int], app: Application) -> None:
        self._runtime, self._snapshot, self.ports, self.app = runtime, snapshot, ports, app

    def address(self, host: str) -> str:
        return self._snapshot.services[host].address

    def get(self, client: str, address: str, port: int, host: str) -> str:
        """Status and application, or the error's kind."""
        return self._runtime.run(client, HTTP, address, port, host)

    def asked(self, client: str, address: str, port: int) -> str:
        """The first line of what the application says to mere bytes; a proxy that spoke HTTP would say 400."""
        return self._runtime.run(client, ASK, address, port)

    def greeted(self, client: str, address: str, port: int, server_name: str = "") -> str:
        return self._runtime.run(client, BYTES, address, port, server_name)


PORTS = (
    WorkloadPort("tcp", APP_PORT, APP_PORT, Protocol.TCP),
    WorkloadPort("http", 9998, 9998, Protocol.HTTP),
    WorkloadPort("auto", 9999, 9999, Protocol.UNSPECIFIED),
)


def workload_of(runtime: Runtime, name: str) -> Workload:
    registry = runtime.add(name).registry
    return Workload(
        name, "default", name, (("app", name),), name, POD[name], ready=True, network="namespaces",
        is_gateway=name == "gateway", ports=PORTS if name in ("b", "d") else (),
        workload_netns=str(registry.get("workload_netns", "")), mesh_netns=str(registry["mesh_netns"]),
    )  # fmt: skip


def started(runtime: Runtime, text: str, name: str, workloads: list[Workload], authority: Authority) -> MeshSnapshot:
    """Run the proxy of one workload under its policy."""
    path = Path(runtime.folder) / f"{name}.yaml"
    path.write_text(text)
    store = ResourceStore("default")
    store.apply(read_file(path))
    published: dict[str, EnvoyResources | None] = {}
    settings = Settings(outbound_policy=POLICIES.get(name, "REGISTRY_ONLY"), protocol_detection_timeout=DETECTION)
    coordinator = Coordinator(settings, published.__setitem__)
    coordinator.update(store.resources(), workloads)
    assert not [found for found in (*store.findings(), *coordinator.findings) if found.is_error]
    snapshot, resources = coordinator.snapshot, published[name]
    assert snapshot is not None and resources is not None
    workload = snapshot.workloads[name]
    plan = Planner(snapshot).plan(proxy_of(workload)).plan
    source = Bind("0.0.0.0" if workload.is_gateway else workload.address, 0, workload.mesh_netns)
    pem = authority.mesh(name)
    config = static_bootstrap(
        plan, resources, certificate=pem.certificate, key=pem.key, roots=pem.roots, upstream_source=source
    )
    runtime.envoy(name, json.loads(config), concurrency=1)
    return snapshot


PEERS = f"""
---
apiVersion: v1
kind: Service
metadata: {{name: peers}}
spec: {{clusterIP: None, selector: {{app: b}}, ports: [{{name: tcp, port: {APP_PORT}}}, {{name: http, port: 9998}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: auto}}
spec: {{selector: {{app: b}}, ports: [{{name: auto, port: 9999}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: fourth}}
spec: {{selector: {{app: d}}, ports: [{{name: tcp, port: {APP_PORT}}}]}}
"""
FOURTH = """
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: d}
spec:
  workloadSelector: {labels: {app: d}}
  outboundTrafficPolicy:
    mode: ALLOW_ANY
    egressProxy: {host: leaving.example, subset: here, port: {number: 3128}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: leaving}
spec: {host: leaving.example, subsets: [{name: here}]}
---
apiVersion: mesh.istio.io/v1alpha1
kind: MeshConfig
inboundTrafficPolicy: {mode: PASSTHROUGH}
"""
EGRESS = """
---
apiVersion: v1
kind: Service
metadata: {{name: egress}}
spec:
  selector: {{app: gateway}}
  ports:
  - {{name: https, port: 443, targetPort: {mutual}}}
  - {{name: http, port: 80, targetPort: {plain}}}
  - {{name: tls, port: 8443, targetPort: {passing}}}
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: egress}}
spec:
  host: egress
  trafficPolicy:
    portLevelSettings: [{{port: {{number: 443}}, tls: {{mode: ISTIO_MUTUAL, sni: far.example}}}}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: egress}}
spec:
  selector: {{app: gateway}}
  servers:
  - {{port: {{number: 443, name: https, protocol: HTTPS}}, hosts: [far.example], tls: {{mode: ISTIO_MUTUAL}}}}
  - {{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [near.example]}}
  - {{port: {{number: 8443, name: tls, protocol: TLS}}, hosts: [secret.example], tls: {{mode: PASSTHROUGH}}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: far}}
spec:
  hosts: [far.example]
  gateways: [mesh, egress]
  http:
  - {{match: [{{gateways: [mesh]}}], route: [{{destination: {{host: egress, port: {{number: 443}}}}}}]}}
  - match: [{{gateways: [egress]}}]
    route: [{{destination: {{host: far.example}}, headers: {{request: {{set: {{x-left-by: gateway}}}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: near}}
spec:
  hosts: [near.example]
  gateways: [mesh, egress]
  http:
  - {{match: [{{gateways: [mesh]}}], route: [{{destination: {{host: egress, port: {{number: 80}}}}}}]}}
  - match: [{{gateways: [egress]}}]
    route: [{{destination: {{host: near.example}}, headers: {{request: {{set: {{x-left-by: gateway}}}}}}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: secret}}
spec:
  hosts: [secret.example]
  gateways: [mesh, egress]
  tls:
  - match: [{{gateways: [mesh], sniHosts: [secret.example]}}]
    route: [{{destination: {{host: egress, port: {{number: 8443}}}}}}]
  - match: [{{gateways: [egress], sniHosts: [secret.example]}}]
    route: [{{destination: {{host: secret.example}}}}]
"""


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    if not is_possible(ROOTLESS):
        pytest.skip("this machine has no network namespaces for this user")
    with ExitStack() as stack:
        app = stack.enter_context(Application("app", machine_address()))
        known, unknown = (stack.enter_context(Echo(name, host=machine_address())) for name in ("known", "unknown"))
        pem = Authority().issue("tls.example")
        secure, elsewhere = (
            stack.enter_context(Echo(name, pem, machine_address())) for name in ("secure", "elsewhere")
        )
        text = (
            entry("app.example", {"http": (app.port, "HTTP"), "auto": (8082, "")}, app.port, address=machine_address())
            + entry("tls.example", {"tls": (elsewhere.port, "TLS")}, secure.port, address=machine_address())
            + entry(
                "block.example",
                {"mysql": (9001, "MYSQL")},
                known.port,
                address=machine_address(),
                block="198.51.100.0/24",
            )
        )
        for host, port, protocol, server in (
            ("far.example", 8090, "HTTP", app.port),
            ("near.example", 8091, "HTTP", app.port),
            ("secret.example", 9443, "TLS", secure.port),
        ):
            text += entry(host, {protocol.lower(): (port, protocol)}, server, address=machine_address())
        direct = stack.enter_context(Echo("direct", host=machine_address()))
        text += entry("direct.example", {"tcp": (direct.port, "TCP")})
        text += entry("*.wild.example", {"http": (app.port, "HTTP"), "tls": (elsewhere.port, "TLS")})
        leaving = stack.enter_context(Echo("leaving", host=machine_address()))
        text += entry("leaving.example", {"tcp": (3128, "TCP")}, leaving.port, address=machine_address())
        text += PEERS + EGRESS.format(mutual=free_port(), plain=free_port(), passing=free_port())
        runtime = stack.enter_context(namespaces(ROOTLESS))
        workloads = [workload_of(runtime, name) for name in (*POLICIES, "d", "gateway")]
        for port in PORTS:
            runtime.serve("b", port.target)
        runtime.serve("d", APP_PORT, POD["d"])
        authority = Authority()
        snapshots = [
            started(runtime, text + FOURTH if workload.name == "d" else text, workload.name, workloads, authority)
            for workload in workloads
        ]
        ports = {"app": app.port, "unknown": unknown.port, "elsewhere": elsewhere.port, "direct": direct.port}
        yield Site(runtime, snapshots[0], ports, app)


ALL = pytest.mark.parametrize("client", POLICIES)


@ALL
def test_http_is_known_by_its_host_at_any_address(site: Site, client: str) -> None:
    for address in (ANYWHERE, site.address("app.example")):
        assert site.get(client, address, site.ports["app"], "app.example") == "200 app"
    assert site.get(client, ANYWHERE, 8082, "app.example") == "200 app"


@ALL
def test_tls_is_known_by_its_server_name_at_any_address(site: Site, client: str) -> None:
    for address in (ANYWHERE, site.address("tls.example")):
        assert site.greeted(client, address, site.ports["elsewhere"], "tls.example") == "secure"


@ALL
def test_bytes_are_known_by_a_block_of_addresses(site: Site, client: str) -> None:
    start = time.monotonic()
    assert site.greeted(client, "198.51.100.77", 9001) == "known"
    assert time.monotonic() - start < DETECTION, "a server that speaks first was made to wait"


@ALL
@pytest.mark.covers("ServiceEntry resolution", "ServiceEntry hosts")
def test_what_resolves_to_nothing_goes_where_the_client_meant(site: Site, client: str) -> None:
    """By port, and for wildcards by host and by server name."""
    assert site.greeted(client, machine_address(), site.ports["direct"]) == "direct"
    assert site.get(client, machine_address(), site.ports["app"], "a.wild.example") == "200 app"
    assert site.greeted(client, machine_address(), site.ports["elsewhere"], "b.wild.example") == "elsewhere"


@pytest.mark.covers("MeshConfig outboundTrafficPolicy.mode")
@pytest.mark.parametrize(("client", "answer"), [("a", "200 app"), ("b", "502 None")])
def test_http_for_a_host_that_nobody_knows(site: Site, client: str, answer: str) -> None:
    assert site.get(client, machine_address(), site.ports["app"], "unknown.example") == answer


def test_a_host_that_nobody_knows_is_looked_up(site: Site) -> None:
    """The address that the client found does not count, only the host that it asks for."""
    host = f"{machine_address()}:{site.ports['app']}"
    for port in (site.ports["app"], 8088):
        assert site.get("c", ANYWHERE, port, host) == "200 app"


@pytest.mark.parametrize(("client", "answer"), [("a", "unknown"), ("b", "closed"), ("c", "unknown")])
def test_bytes_to_an_address_that_nobody_knows(site: Site, client: str, answer: str) -> None:
    assert site.greeted(client, machine_address(), site.ports["unknown"]) == answer


@pytest.mark.covers("Sidecar outboundTrafficPolicy.egressProxy")
def test_bytes_to_an_address_that_nobody_knows_leave_by_the_sidecars_proxy(site: Site) -> None:
    assert site.greeted("d", machine_address(), site.ports["unknown"]) == "leaving"
    assert site.greeted("d", "198.51.100.77", 9001) == "known"


@pytest.mark.parametrize(("client", "answer"), [("a", "elsewhere"), ("b", "closed"), ("c", "elsewhere")])
def test_tls_to_a_name_that_nobody_knows_on_a_port_that_is_known(site: Site, client: str, answer: str) -> None:
    assert site.greeted(client, machine_address(), site.ports["elsewhere"], "elsewhere.example") == answer


@ALL
def test_what_is_not_http_does_not_leave_by_a_virtual_address(site: Site, client: str) -> None:
    assert site.greeted(client, site.address("app.example"), site.ports["app"], "app.example") == "closed"
    assert site.greeted(client, "240.240.99.99", site.ports["app"], "app.example") == "closed"


# --- within the mesh -------------------------------------------------------------------------------------------------


def test_a_member_of_a_headless_service_is_called_by_its_own_address_over_mesh_tls(site: Site) -> None:
    assert site.asked("a", POD["b"], APP_PORT) == "<!DOCTYPE HTML>"
    assert site.get("a", POD["b"], 9998, "peers") == "200 None"


@pytest.mark.covers("MeshConfig inboundTrafficPolicy.mode")
def test_an_application_at_the_workloads_own_address_alone_is_reached(site: Site) -> None:
    assert site.asked("a", site.address("fourth.default.svc.cluster.local"), APP_PORT) == "<!DOCTYPE HTML>"


def test_both_http_and_bytes_reach_a_mesh_port_that_says_nothing(site: Site) -> None:
    address = site.address("auto.default.svc.cluster.local")
    assert site.get("a", address, 9999, "auto") == "200 None"
    assert site.asked("a", address, 9999) == "<!DOCTYPE HTML>"


# --- egress gateways -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("host", "port"), [("far.example", 8090), ("near.example", 8091)])
def test_http_leaves_by_an_egress_gateway(site: Site, host: str, port: int) -> None:
    """Over mutual TLS, and as it comes."""
    assert site.get("b", site.address(host), port, host) == "200 app"
    assert site.app.seen[-1]["headers"]["x-left-by"] == "gateway"


def test_tls_leaves_by_an_egress_gateway(site: Site) -> None:
    assert site.greeted("b", site.address("secret.example"), 9443, "secret.example") == "secure"
