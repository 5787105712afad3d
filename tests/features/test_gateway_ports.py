"""What is said of a gateway's ports is what its Envoy listens on."""

import os
import signal
import socket
import time

import pytest

from tests.features.running import running_mesh, until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("gateway-ports"), pytest.mark.timeout(120)]
PLAIN = "{port: {number: %d, name: http, protocol: HTTP}, hosts: ['*']}"


def gateway_text(port):
    return (
        "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: ingress}\n"
        f"spec: {{selector: {{istio: ingressgateway}}, servers: [{PLAIN % port}]}}\n"
    )


def ingress(mesh):
    return mesh.status()["gateways"][0]


def told_of(mesh, code):
    return [one for one in mesh.status()["findings"] if one["code"] == code]


def opened_by(mesh):
    """The file of the project that has its Gateway."""
    return next(file for file in mesh.project.glob("*.yaml") if "kind: Gateway" in file.read_text())


def test_a_url_is_shown_for_a_port_that_is_open_and_for_no_other():
    with running_mesh("loopback") as mesh:
        url = f"http://127.0.0.1:{mesh.port}"
        assert url in ingress(mesh)["urls"]
        file = opened_by(mesh)
        before = file.read_text()
        file.unlink()
        until(lambda: ingress(mesh)["urls"] == [], "no port is open any more")
        found = told_of(mesh, "port-not-opened")
        assert {one["severity"] for one in found} == {"warning"}
        told = next(one for one in found if f"opens port {mesh.port} of the gateway ingress" in one["message"])
        lines = (mesh.project / "lateen.yaml").read_text().splitlines()
        assert str(mesh.port) in lines[told["line"] - 1]
        assert told["field"] == "gateways.ingress.ports.http"
        assert told["resource"] == "Project features"
        assert f"number: {mesh.port}" in told["remedy"]
        assert "istio: ingressgateway" in told["remedy"]
        secure = next(one for one in found if one is not told)
        assert "protocol: HTTPS" in secure["remedy"]
        assert "tls: {mode: SIMPLE" in secure["remedy"]
        text = mesh.lateen("status", check=False).stdout
        assert "ready" not in next(line for line in text.splitlines() if line.startswith("gateway ingress"))
        file.write_text(before)
        until(lambda: url in ingress(mesh)["urls"], "the port is open again")
        until(lambda: len(told_of(mesh, "port-not-opened")) == 1, "the other port alone is not opened")


def test_a_port_that_another_process_has_is_told_and_tried_until_it_is_free():
    with running_mesh("loopback") as mesh:
        file = opened_by(mesh)
        before = file.read_text()
        with socket.create_server(("127.0.0.1", 0)) as taken:
            number = taken.getsockname()[1]
            mesh.write(file.name, before + "---\n" + gateway_text(number).replace("name: ingress}", "name: other}"))
            told = until(lambda: told_of(mesh, "port-taken"), "the clash is told")
            assert f"127.0.0.1:{number}" in told[0]["message"]
            until(lambda: not ingress(mesh)["ready"], "the gateway is not ready")
            assert f"port {number} is not open" in ingress(mesh)["detail"]
            assert f"http://127.0.0.1:{mesh.port}" in ingress(mesh)["urls"]
            assert mesh.get().status == 200
            end = time.monotonic() + 2.5
            while time.monotonic() < end:
                assert told_of(mesh, "port-taken")
        until(lambda: ingress(mesh)["ready"], "it is ready once the port is free")
        until(lambda: not told_of(mesh, "port-taken"), "nothing is wrong any more")
        assert mesh.control("/v1/gateways")["gateways"]["ingress-0"]


def test_a_port_taken_after_the_start_was_allowed():
    """As between the look before the start and Envoy's own: here while the proxy is away."""
    with running_mesh("loopback") as mesh:
        held = mesh.record["processes"]["ingress-0/envoy"]["pid"]
        taken = socket.socket()
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        os.kill(held, signal.SIGKILL)
        until(lambda: try_bind(taken, mesh.port), "the port is taken")
        taken.listen()
        until(lambda: not ingress(mesh)["ready"] and "cannot bind" in ingress(mesh)["detail"], "it is not ready")
        assert ingress(mesh)["urls"] == [] or f":{mesh.port}" not in str(ingress(mesh)["urls"])
        taken.close()
        until(lambda: ingress(mesh)["ready"] and mesh.get().status == 200, "it is back")


def try_bind(one, number):
    try:
        one.bind(("127.0.0.1", number))
    except OSError:
        return False
    return True
