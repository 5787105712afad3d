"""Certificates and roots are exchanged under constant load, and cost no request."""

import datetime
import json
import os
import re
import signal
import socket
import ssl
import stat
import textwrap

import pytest

from lateen.identity.authority import Authority
from lateen.identity.certificate import build_request, key_pem, new_key
from lateen.values.names import SpiffeId
from tests.features.running import until
from tests.features.test_robustness import VIA, process, traffic_goes_on

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("identity"), pytest.mark.timeout(300)]


def ca_status(mesh):
    return json.loads(mesh.lateen("ca", "status", "-o", "json").stdout)


def roots(mesh):
    return {root for held in ca_status(mesh)["workloads"] for root in held["roots"]}


def serials(mesh):
    return {held["instance_id"]: held["serial"] for held in ca_status(mesh)["workloads"]}


def test_a_root_is_exchanged(mesh):
    before, leaves = roots(mesh), serials(mesh)
    assert len(before) == 1
    with mesh.load(VIA) as load:
        traffic_goes_on(mesh)
        said = mesh.lateen("ca", "rotate", timeout=280).stdout
        traffic_goes_on(mesh)
    assert load.failures == []
    assert [line.partition(":")[0] for line in said.splitlines()] == ["trusted", "issuing", "stable"]
    after = roots(mesh)
    assert len(after) == 1
    assert after != before
    assert not set(serials(mesh).values()) & set(leaves.values())


def test_a_rotation_goes_on_where_a_control_plane_was_killed_and_is_undone(mesh):
    before = roots(mesh)
    with mesh.load(VIA) as load:
        mesh.lateen("ca", "rotate", "--step", timeout=280)
        assert ca_status(mesh)["authority"]["phase"] == "trusted"
        pid = process(mesh, "control")
        os.kill(pid, signal.SIGKILL)
        until(lambda: process(mesh, "control") not in (0, pid), "the control plane is started again")
        until(lambda: mesh.status()["control_plane"]["ready"], "the control plane is ready")
        assert ca_status(mesh)["authority"]["phase"] == "trusted"
        mesh.lateen("ca", "rotate", "--step", timeout=280)
        assert len(roots(mesh)) == 2
        mesh.lateen("ca", "rotate", "--back", timeout=280)
        traffic_goes_on(mesh)
    assert load.failures == []
    assert ca_status(mesh)["authority"]["phase"] == "stable"
    assert roots(mesh) == before


def test_the_authority_is_seen_in_metrics_and_rehearsed(mesh):
    text = mesh.text("api.sock", "/metrics")
    assert "citadel_server_root_cert_expiry_timestamp" in text
    assert "citadel_server_success_cert_issuance_count" in text
    left = re.findall(r'istio_agent_cert_expiry_seconds\{pod="([^"]+)".*resource_name="default"\} (\d+)', text)
    assert {pod for pod, _ in left} == set(serials(mesh))
    assert all(80_000 < int(seconds) <= 86_400 for _, seconds in left)
    said = mesh.lateen("ca", "rehearse", "--for", "12y", check=False)
    assert said.returncode == 1
    assert "every new connection of the mesh fails" in said.stdout
    assert mesh.lateen("ca", "rehearse", "--for", "7d").returncode == 0


def guarded(account):
    return f"""
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: echo}}
spec:
  selector: {{matchLabels: {{app: echo}}}}
  rules:
  - {{from: [{{source: {{principals: [cluster.local/ns/default/sa/{account}, cluster.local/ns/default/sa/client]}}}}]}}
"""


def status_of(folder, place):
    """What a client with the files of ``lateen ca issue`` is answered; 0 where the handshake fails."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "root-cert.pem")
    context.load_cert_chain(folder / "cert-chain.pem", folder / "key.pem")
    try:
        with socket.create_connection(place, timeout=20) as plain, context.wrap_socket(plain) as connection:
            connection.sendall(b"GET /echo HTTP/1.1\r\nhost: echo\r\nconnection: close\r\n\r\n")
            return int(connection.recv(65536).split()[1])
    except OSError:
        return 0


def inbound(mesh):
    """Where a sidecar without namespaces takes calls."""
    listeners = json.loads(mesh.lateen("proxy", "config", "echo-v1-0", "-o", "json").stdout)["listeners"]
    places = [one["address"]["socketAddress"] for one in listeners if one["trafficDirection"] == "INBOUND"]
    return next((one["address"], one["portValue"]) for one in places if one["portValue"] == 8000)


def test_a_workload_elsewhere_is_known_by_its_certificate(mesh, tmp_path):
    for account in ("guest", "stranger"):
        mesh.lateen("ca", "issue", "-s", account, "--out", str(tmp_path / account))
        files = sorted((tmp_path / account).iterdir())
        assert [file.name for file in files] == ["cert-chain.pem", "key.pem", "root-cert.pem"]
        assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert (tmp_path / "guest" / "root-cert.pem").read_text() == mesh.lateen("ca", "root").stdout
    if mesh.capture != "loopback":
        return  # the sidecars stand in namespaces of their own, which nothing from outside reaches
    place = inbound(mesh)
    with mesh.applied(guarded("guest")):
        assert status_of(tmp_path / "guest", place) == 200
        assert status_of(tmp_path / "stranger", place) == 403


def federated(roots):
    return f"""
kind: MeshConfig
caCertificates:
- trustDomains: [far.example]
  pem: |
{textwrap.indent(roots, "    ")}
"""


def foreign(folder, trust_domain):
    """An authority of another mesh, and a workload that it says is of this trust domain."""
    authority = Authority(folder / "ca", trust_domain, lambda: datetime.datetime.now(datetime.UTC))
    key, identity = new_key(), SpiffeId(trust_domain, "default", "guest")
    chain = authority.sign(build_request(key, identity), identity)
    (folder / "cert-chain.pem").write_bytes(chain[0])
    (folder / "key.pem").write_bytes(bytes(key_pem(key)))
    return authority.root_pem.decode()


@pytest.mark.covers("MeshConfig caCertificates[].pem", "MeshConfig caCertificates[].trustDomains")
def test_another_mesh_is_trusted_for_its_own_trust_domain_alone(mesh, tmp_path):
    for name, domain in (("friend", "far.example"), ("liar", "cluster.local")):
        (tmp_path / name).mkdir()
        roots = foreign(tmp_path / name, domain)
        mesh.write("extra.yaml", federated(roots))
        mesh.settled()
        assert mesh.get("/echo").status == 200
        (tmp_path / name / "root-cert.pem").write_text(mesh.lateen("ca", "root").stdout)
        if mesh.capture == "loopback":
            place = inbound(mesh)
            if name == "friend":
                until(lambda place=place: status_of(tmp_path / "friend", place) == 200, "the other mesh is trusted")
            else:
                until(lambda place=place: status_of(tmp_path / "friend", place) == 0, "its roots are exchanged")
                assert status_of(tmp_path / "liar", place) == 0
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()
    assert mesh.get("/echo").status == 200


def test_a_join_token_is_told_once_and_used_once(mesh, tmp_path):
    token = mesh.lateen("ca", "token", "-s", "guest", "--ttl", "1h").stdout.strip()
    kept = (mesh.run_dir / "join-tokens.json").read_text()
    assert token not in kept
    logs = "".join(path.read_text(errors="replace") for path in mesh.run_dir.rglob("*.log"))
    assert token not in logs
    assert "PRIVATE KEY" not in logs
    too_long = mesh.lateen("ca", "token", "-s", "guest", "--ttl", "10y", check=False)
    assert too_long.returncode == 2
    assert "7d at most" in too_long.stderr
