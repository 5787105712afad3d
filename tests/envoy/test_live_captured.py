"""What a sidecar does with redirected traffic: to services at any address, and to what the mesh does not know.

Three workloads call the same things under three policies: ALLOW_ANY, REGISTRY_ONLY, ALLOW_ANY_DYNAMIC_DNS.
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
from lateen.mesh.model import MeshSnapshot, Workload
from lateen.plan.planner import Planner, proxy_of
from lateen.settings import Settings
from lateen.sources.files import read_file
from tests.envoy.capture_support import POD, Runtime, namespaces
from tests.envoy.harness import Application, Authority
from tests.envoy.test_capture_namespaces import is_possible, machine_address
from tests.envoy.test_live_outbound import entry
from tests.envoy.tls_support import Echo

pytestmark = [
    pytest.mark.xdist_group("capture"),
    pytest.mark.skipif(not machine_address(), reason="this machine has no address beside its loopback"),
]
ROOTLESS = os.geteuid() != 0
POLICIES = {"a": "ALLOW_ANY", "b": "REGISTRY_ONLY", "c": "ALLOW_ANY_DYNAMIC_DNS"}
DETECTION = 0.5
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

    def __init__(self, runtime: Runtime, snapshot: MeshSnapshot, ports: dict[str, int]) -> None:
        self._runtime, self._snapshot, self.ports = runtime, snapshot, ports

    def address(self, host: str) -> str:
        return self._snapshot.services[host].address

    def get(self, client: str, address: str, port: int, host: str) -> str:
        """Status and application, or the error's kind."""
        return self._runtime.run(client, HTTP, address, port, host)

    def greeted(self, client: str, address: str, port: int, server_name: str = "") -> str:
        return self._runtime.run(client, BYTES, address, port, server_name)


def started(runtime: Runtime, text: str, client: str) -> MeshSnapshot:
    """Run the sidecar of one client under its policy."""
    registry = runtime.add(client).registry
    workload = Workload(
        client, "default", client, (("app", client),), client, POD[client], ready=True, network="namespaces",
        workload_netns=str(registry["workload_netns"]), mesh_netns=str(registry["mesh_netns"]),
    )  # fmt: skip
    path = Path(runtime.folder) / f"{client}.yaml"
    path.write_text(text)
    store = ResourceStore("default")
    store.apply(read_file(path))
    published: dict[str, EnvoyResources | None] = {}
    settings = Settings(outbound_policy=POLICIES[client], protocol_detection_timeout=DETECTION)
    coordinator = Coordinator(settings, published.__setitem__)
    coordinator.update(store.resources(), [workload])
    assert not (*store.findings(), *coordinator.findings)
    snapshot, resources = coordinator.snapshot, published[client]
    assert snapshot is not None and resources is not None
    plan = Planner(snapshot).plan(proxy_of(workload)).plan
    pem = Authority().mesh(client)
    config = static_bootstrap(plan, resources, certificate=pem.certificate, key=pem.key, roots=pem.roots)
    runtime.envoy(client, json.loads(config), concurrency=1)
    return snapshot


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
                "block.example", {"tcp": (9001, "TCP")}, known.port, address=machine_address(), block="198.51.100.0/24"
            )
        )
        runtime = stack.enter_context(namespaces(ROOTLESS))
        snapshots = [started(runtime, text, client) for client in POLICIES]
        ports = {"app": app.port, "unknown": unknown.port, "elsewhere": elsewhere.port}
        yield Site(runtime, snapshots[0], ports)


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


@pytest.mark.parametrize(("client", "answer"), [("a", "elsewhere"), ("b", "closed"), ("c", "elsewhere")])
def test_tls_to_a_name_that_nobody_knows_on_a_port_that_is_known(site: Site, client: str, answer: str) -> None:
    assert site.greeted(client, machine_address(), site.ports["elsewhere"], "elsewhere.example") == answer


@ALL
def test_what_is_not_http_does_not_leave_by_a_virtual_address(site: Site, client: str) -> None:
    assert site.greeted(client, site.address("app.example"), site.ports["app"], "app.example") == "closed"
    assert site.greeted(client, "240.240.99.99", site.ports["app"], "app.example") == "closed"
