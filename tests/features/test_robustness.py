"""Nothing that happens to the mesh costs a request that need not fail. Each test runs under constant load."""

import http.client
import json
import os
import signal
import subprocess
import time

import pytest

from tests.features.bad_edits import BAD_EDITS
from tests.features.running import BIN, running_mesh, until

VIA = "/via/echo"
"""From the gateway to the client, and from there to echo: three sidecars and a gateway."""
BOTH = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http:
  - timeout: %ds
    route: [{destination: {host: echo, subset: v1, port: {number: 8000}}, weight: %d},
            {destination: {host: echo, subset: v2, port: {number: 8000}}, weight: %d}]
"""


SWAPS = int(os.environ.get("LATEEN_SWAPS", "30"))
pytestmark = [pytest.mark.mesh, pytest.mark.xdist_group("robustness"), pytest.mark.timeout(180 + SWAPS)]
"""1,000 show more than 30 and take minutes."""
EDITS = max(100, SWAPS // 5)
SWAPPED_ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: echo}
spec:
  hosts: [echo]
  http: [{route: [{destination: {host: echo, subset: s%d, port: {number: 8000}}}]}]
"""
SWAPPED_RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: swapped}
spec: {host: echo, subsets: [{name: s%d, labels: {version: v%d}}]}
"""


def process(mesh, name):
    """The pid of a process of the mesh; 0 while it is gone."""
    return mesh.record["processes"].get(name, {"pid": 0})["pid"]


def traffic_goes_on(mesh, seconds=1.0, target=VIA):
    """Let the load run over what has just happened."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        assert mesh.get(target).status == 200


def test_the_control_plane_killed_and_back(mesh):
    with mesh.load(VIA) as load:
        traffic_goes_on(mesh)
        before = process(mesh, "control")
        os.kill(before, signal.SIGKILL)
        until(lambda: process(mesh, "control") not in (0, before), "the control plane is started again")
        traffic_goes_on(mesh)
        until(lambda: mesh.status()["control_plane"]["ready"], "the control plane is ready")
        mesh.write("extra.yaml", BOTH % (5, 100, 0))
        until(lambda: {mesh.get(VIA).version for _ in range(6)} == {"v1"}, "the new control plane is followed")
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()
    assert load.failures == []
    assert load.summary["answered"] > 100


def test_an_edit_every_100_ms(mesh):
    with mesh.load(VIA) as load:
        for number in range(EDITS):
            mesh.write("extra.yaml", BOTH % (5 + number % 7, 1 + number % 9, 3))
            time.sleep(0.1)
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()
    assert load.failures == []


def test_subsets_swapped_with_files_in_the_wrong_order(mesh):
    def swap(number):
        rule = ("swap-rule.yaml", SWAPPED_RULE % (number, 1 + number % 2))
        route = ("extra.yaml", SWAPPED_ROUTE % number)
        first, second = (route, rule) if number % 4 < 2 else (rule, route)
        mesh.write(*first)
        time.sleep(0.08 * (number % 3))  # apart, at once, or in between
        mesh.write(*second)
        wanted = f"v{1 + number % 2}"
        until(lambda: {mesh.get(VIA).version for _ in range(3)} == {wanted}, f"swap {number} holds")

    swap(0)
    with mesh.load(VIA) as load:
        for number in range(1, SWAPS):
            swap(number)
    (mesh.project / "extra.yaml").unlink()
    (mesh.project / "swap-rule.yaml").unlink()
    mesh.settled()
    assert load.failures == []
    assert load.summary["answered"] > 100
    until(lambda: "subset" not in json.dumps(mesh.status()["findings"]), "nothing is held")


def test_a_broken_edit_changes_nothing_and_is_told(mesh):
    mesh.write("extra.yaml", BOTH % (5, 100, 0))
    mesh.settled()
    assert {mesh.get(VIA).version for _ in range(10)} == {"v1"}
    with mesh.load(VIA) as load:
        mesh.write("extra.yaml", (BOTH % (5, 0, 100)).replace("weight: 100", "wieght: 100"))
        finding = until(
            lambda: [entry for entry in mesh.status()["findings"] if "wieght" in json.dumps(entry)], "the finding"
        )[0]
        traffic_goes_on(mesh)
        assert {mesh.get(VIA).version for _ in range(10)} == {"v1"}
    assert load.failures == []
    assert "extra.yaml" in json.dumps(finding)
    assert "weight" in json.dumps(finding)
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()


def test_a_broken_edit_does_not_come_into_force_by_a_restart(mesh):
    mesh.write("extra.yaml", BOTH % (5, 100, 0))
    mesh.settled()
    assert {mesh.get(VIA).version for _ in range(10)} == {"v1"}
    with mesh.load(VIA) as load:
        mesh.write("extra.yaml", (BOTH % (5, 0, 100)).replace("timeout", "tiemout"))
        until(lambda: "tiemout" in json.dumps(mesh.status()["findings"]), "the finding")
        before = process(mesh, "control")
        os.kill(before, signal.SIGKILL)
        until(lambda: process(mesh, "control") not in (0, before), "the control plane is started again")
        until(lambda: mesh.status()["control_plane"]["ready"], "the control plane is ready")
        until(lambda: "tiemout" in json.dumps(mesh.status()["findings"]), "the new one finds it too")
        mesh.settled()
        assert {mesh.get(VIA).version for _ in range(20)} == {"v1"}
    assert load.failures == []
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()


def test_every_edit_arrives(mesh):
    for first, second in ((100, 0), (0, 100), (100, 0)):
        mesh.write("extra.yaml", BOTH % (5, first, second))
        wanted = {"v1"} if first else {"v2"}
        until(lambda wanted=wanted: {mesh.get(VIA).version for _ in range(3)} == wanted, "the edit holds")
    (mesh.project / "extra.yaml").unlink()
    mesh.settled()


def test_one_three_one_replicas(mesh):
    def pods():
        return {mesh.get(VIA).json()["pod"] for _ in range(20)}

    with mesh.load(VIA) as load:
        mesh.lateen("scale", "echo/v1", "3")
        until(lambda: {"echo-v1-0", "echo-v1-1", "echo-v1-2"} <= pods(), "all replicas answer")
        mesh.lateen("scale", "echo/v1", "1")
        until(lambda: pods() == {"echo-v1-0", "echo-v2-0"}, "the others are gone")
        traffic_goes_on(mesh)
    assert load.failures == []


def test_a_killed_envoy_costs_its_own_connections_alone_and_not_for_long(mesh):
    with mesh.load(VIA) as load:
        traffic_goes_on(mesh, 0.5)
        os.kill(process(mesh, "echo-v1-0/envoy"), signal.SIGKILL)
        traffic = time.monotonic() + 3
        while time.monotonic() < traffic:
            mesh.get(VIA)
        until(lambda: mesh.workload("echo-v1-0")["ready"], "it is ready again")
        until(lambda: {mesh.get(VIA).version for _ in range(10)} == {"v1", "v2"}, "it takes part again")
    failed = [entry["at_s"] for entry in load.failures]
    assert not failed or max(failed) - min(failed) < 2.0


PROXY_CONFIG = """
apiVersion: networking.istio.io/v1beta1
kind: ProxyConfig
metadata: {name: workers}
spec: {selector: {matchLabels: {app: echo, version: v2}}, concurrency: 3}
"""


@pytest.mark.covers("ProxyConfig concurrency", "ProxyConfig selector.matchLabels")
def test_a_proxy_config_holds_from_the_next_start_of_its_proxy_on(mesh):
    with mesh.applied(PROXY_CONFIG):
        assert [mesh.workers("echo-v1-0"), mesh.workers("echo-v2-0")] == [1, 1]
        before = process(mesh, "echo-v2-0/envoy")
        os.kill(before, signal.SIGKILL)
        until(lambda: process(mesh, "echo-v2-0/envoy") != before, "there is a new one")
        until(lambda: mesh.workload("echo-v2-0")["ready"], "it is ready again")
        assert [mesh.workers("echo-v1-0"), mesh.workers("echo-v2-0")] == [1, 3]


def test_an_application_that_dies_is_started_again(mesh):
    before = mesh.workload("echo-v1-0")
    with mesh.load(VIA) as load:
        until(lambda: _kill_one(mesh, "v1"), "v1 was told to die")
        until(lambda: mesh.workload("echo-v1-0")["restarts"] > before["restarts"], "the restart is counted")
        until(lambda: mesh.workload("echo-v1-0")["ready"], "it is ready again")
        traffic_goes_on(mesh)
    failed = [entry["at_s"] for entry in load.failures]
    assert not failed or max(failed) - min(failed) < 2.0


def _kill_one(mesh, version):
    try:
        os.kill(mesh.workload(f"echo-{version}-0")["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def test_a_supervisor_killed_leaves_traffic_and_down_clears_up():
    with running_mesh("auto") as mesh:
        os.kill(mesh.record["supervisor"]["pid"], signal.SIGKILL)
        traffic_goes_on(mesh, target="/echo")
        mesh.lateen("down")
        with pytest.raises(OSError, match="refused"):
            http.client.HTTPConnection("127.0.0.1", mesh.port, timeout=2).request("GET", "/")
        assert not mesh.run_dir.exists()


def test_a_second_up_says_that_the_first_runs(mesh):
    done = mesh.lateen("up", "--detach", check=False)
    assert done.returncode != 0
    assert "runs already" in done.stderr


def test_of_two_starts_at_once_one_brings_the_mesh_up():
    with running_mesh("loopback") as mesh:
        mesh.lateen("down")
        command = [str(BIN / "lateen"), "up", "--detach", "--capture", "loopback"]
        words = {"cwd": mesh.project, "env": mesh.environment, "stderr": subprocess.PIPE, "text": True}
        starts = [subprocess.Popen(command, stdout=subprocess.DEVNULL, **words) for _ in range(3)]
        said = [start.communicate(timeout=90)[1] for start in starts]
        assert sorted(start.returncode for start in starts) == [0, 1, 1], said
        assert sum("runs already" in text for text in said) == 2, said
        mesh.run_ids.add(mesh.record["run_id"])
        assert mesh.get("/echo").status == 200


def test_another_mesh_runs_beside(mesh):
    with running_mesh(mesh.capture) as other:
        assert other.get(VIA).status == 200
        assert mesh.get(VIA).status == 200


CHURNED = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: churned-%d}
spec:
  hosts: [churned-%d.example]
  location: MESH_INTERNAL
  ports: [{number: 8000, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: churned-%d}
spec: {action: DENY, rules: [{to: [{operation: {paths: ["/churned-%d"]}}]}]}
"""


def test_clusters_and_rules_that_come_and_go_in_numbers_end_no_proxy(mesh):
    def proxies():
        names = [name for name in mesh.record["processes"] if name.endswith("/envoy")]
        return {name: process(mesh, name) for name in names}

    text = "---".join(CHURNED % ((number,) * 4) for number in range(100))
    before = proxies()
    with mesh.load(VIA) as load:
        for _ in range(2):
            assert mesh.get("/via/churned-7").status == 200
            with mesh.applied(text):
                assert mesh.get("/via/churned-7").status != 200
                traffic_goes_on(mesh)
    assert load.failures == []
    assert before
    assert proxies() == before


def test_bad_edits_of_security_resources_are_all_told_and_cost_nothing(mesh):
    """Each in a file of its own, all at once; every one is told with its file, line, field and what to write."""
    files = {name: f"edit-{number}.yaml" for number, name in enumerate(BAD_EDITS)}
    for name, (good, _) in BAD_EDITS.items():
        mesh.write(files[name], good)
    mesh.settled()

    def told():
        errors = [found for found in mesh.control("/v1/findings")["findings"] if found["severity"] == "error"]
        return {name: [one for one in errors if one["file"].endswith(f"/{file}")] for name, file in files.items()}

    assert not any(told().values())
    with mesh.load(VIA) as load:
        for name, (_, bad) in BAD_EDITS.items():
            mesh.write(files[name], bad)
        until(lambda: all(told().values()), "every edit is told")
        for name, findings in told().items():
            assert all(one["line"] >= 4 and one["remedy"] for one in findings), (name, findings)
        traffic_goes_on(mesh)
    assert load.failures == []
    for file in files.values():
        (mesh.project / file).unlink()
    mesh.settled()
