"""Capture on loopback addresses, judged by real Envoys: two workloads on the same ports, nothing redirected."""

import contextlib
import json
import tempfile
from pathlib import Path

import pytest

from lateen.local.network.loopback import LoopbackNetwork
from tests.envoy.capture_support import APP_PORT, DOMAIN, NAMES, PEER, SERVICE_PORT, Runtime, address, cluster, http
from tests.envoy.harness import eventually, free_port, get

pytestmark = pytest.mark.xdist_group("capture")


@contextlib.contextmanager
def loopback():
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        (folder / "names.json").write_text(json.dumps({"names": NAMES}))
        runtime = Runtime(LoopbackNetwork(folder, domain=DOMAIN), folder)
        try:
            runtime.call(runtime.network.start())
            yield runtime
        finally:
            runtime.close()


def host(runtime, name, service):
    """Where a workload is told that a service is."""
    return runtime.links[name].app_environment[f"{service.upper()}_SERVICE_HOST"]


def sidecar(runtime, name):
    """A service's address in the workload's own prefix leads to the peer's inbound listener, and that to the peer."""
    peer, link = PEER[name], runtime.links[name]
    listeners = [
        ("outbound", host(runtime, name, peer), SERVICE_PORT + 8000, "peer"),
        ("inbound", link.address, APP_PORT, "app"),
    ]
    return {
        "static_resources": {
            "listeners": [
                {"name": kind, "address": address(at, port), "filter_chains": [http(to, kind)]}
                for kind, at, port, to in listeners
            ],
            "clusters": [
                cluster("peer", runtime.links[peer].address, APP_PORT),
                cluster("app", link.probe_address, APP_PORT),
            ],
        }
    }


@pytest.fixture(scope="module")
def mesh():
    with loopback() as runtime:
        for name in ("a", "b", "gateway"):
            runtime.add(name)
        for name in PEER:
            runtime.serve(name)
            runtime.envoy(name, sidecar(runtime, name))
        yield runtime


@pytest.mark.parametrize("name", ["a", "b"])
def test_a_service_is_reached_where_the_environment_says(mesh, name):
    eventually(lambda: mesh.fetch(name, host(mesh, name, PEER[name]), SERVICE_PORT + 8000)[0] == "200")
    _, seen = mesh.fetch(name, host(mesh, name, PEER[name]), SERVICE_PORT + 8000)
    assert seen["app"] == PEER[name]
    assert seen["local"] == mesh.links[PEER[name]].app_environment["LATEEN_BIND_ADDRESS"]


def test_each_workload_sees_a_service_at_an_address_of_its_own(mesh):
    seen = {host(mesh, name, service) for name in PEER for service in PEER}
    assert len(seen) == 4
    prefixes = {name: mesh.registry(name)["prefix"] for name in PEER}
    assert host(mesh, "a", "b") == f"127.{prefixes['a']}.7.2"
    assert host(mesh, "b", "b") == f"127.{prefixes['b']}.7.2"


def test_a_probe_reaches_the_application_beside_its_sidecar(mesh):
    with mesh.network.probe_socket("a") as one:
        one.settimeout(2)
        one.connect((mesh.links["a"].probe_address, APP_PORT))
        one.sendall(b"GET / HTTP/1.0\r\n\r\n")
        head = one.recv(1000)
    assert head.startswith(b"HTTP/1.1 200")
    assert b"envoy" not in head


def test_the_gateway_stands_on_the_machine(mesh):
    port = free_port()
    config = {
        "static_resources": {
            "listeners": [
                {"name": "b", "address": address("127.0.0.1", port), "filter_chains": [http("b", "gateway")]}
            ],
            "clusters": [cluster("b", mesh.links["b"].address, APP_PORT)],
        }
    }
    mesh.envoy("gateway", config)
    assert get(port).seen["app"] == "b"


def test_a_second_mesh_has_prefixes_of_its_own(mesh):
    with loopback() as other:
        other.add("a")
        assert other.registry("a")["prefix"] not in {mesh.registry(name)["prefix"] for name in mesh.links}
