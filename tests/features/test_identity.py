"""Certificates and roots are exchanged under constant load, and cost no request."""

import json
import os
import signal

import pytest

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
    said = mesh.lateen("ca", "rehearse", "--for", "12y", check=False)
    assert said.returncode == 1
    assert "every new connection of the mesh fails" in said.stdout
    assert mesh.lateen("ca", "rehearse", "--for", "7d").returncode == 0
