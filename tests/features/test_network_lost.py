"""The process that owns the network namespaces dies: the mesh says so, and makes itself anew."""

import os
import signal

import pytest

from tests.features.running import running_mesh, until

pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("network-lost"), pytest.mark.timeout(120)]
VIA = "/via/echo"


def lost(mesh):
    return [one for one in mesh.status()["findings"] if one["code"] == "network-lost"]


def test_the_namespaces_are_made_anew_and_traffic_comes_back():
    with running_mesh("auto") as mesh:
        if mesh.status()["capture"]["mode"] != "namespaces":
            pytest.skip("there are no namespaces here")
        for _ in range(2):
            owner, application = mesh.record["processes"]["network"]["pid"], mesh.workload("echo-v1-0")["pid"]
            os.kill(owner, signal.SIGKILL)
            told = until(lambda: lost(mesh), "the loss is told")
            assert "ended by signal 9" in told[0]["text"]
            until(lambda: mesh.status()["ready"] and not lost(mesh), "all is ready again", 30)
            assert mesh.get(VIA).status == 200
            assert {mesh.get(VIA).version for _ in range(10)} == {"v1", "v2"}
            assert mesh.workload("echo-v1-0")["pid"] != application
            assert mesh.record["processes"]["network"]["pid"] != owner
        log = (mesh.run_dir / "supervisor.log").read_text()
        assert log.count(" network-lost ") == log.count(" network-restored ") == 2
