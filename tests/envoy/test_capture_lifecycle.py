"""Traffic of real Envoys while what made their network ends: a supervisor that is killed, a holder that is killed."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from lateen.local.links import Link
from tests.envoy.capture_support import (
    APP_PORT,
    DOMAIN,
    NAMES,
    PEER,
    POD,
    VIP,
    Runtime,
    address,
    cluster,
    gateway,
    http,
    namespaces,
    original,
    sidecar,
)
from tests.envoy.harness import eventually, free_port, get
from tests.envoy.test_capture_namespaces import WAYS, machine_address
from tests.machine import marked

ROOT = Path(__file__).parents[2]
pytestmark = [
    pytest.mark.xdist_group("capture"),
    pytest.mark.parametrize("rootless", WAYS, ids=lambda way: "user" if way else "root"),
]
SUPERVISOR = """
import asyncio, json, sys
from pathlib import Path
import msgspec
from lateen.local.links import LinkRequest
from lateen.local.network.namespaces import NamespaceNetwork
async def main():
    folder, rootless, domain, pods, environment = json.loads(sys.argv[1])
    network = NamespaceNetwork(Path(folder), environment, rootless=rootless, domain=domain)
    await network.start()
    links = {}
    for name, address in pods.items():
        link = await network.add(LinkRequest(name, "default", address, is_gateway=name == "gateway"))
        links[name] = msgspec.to_builtins(link)
    print(json.dumps({"holder": network.pid, "links": links}), flush=True)
    await asyncio.sleep(3600)
asyncio.run(main())
"""


class NoNetwork:
    """What a test has of a network that another process made."""

    async def close(self):
        pass


@contextlib.contextmanager
def supervised(rootless):
    """Workloads and a gateway in a network whose supervisor is a process of its own; yields all three."""
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        environment = {"PATH": os.environ["PATH"], "TEST_MARK": folder}
        (Path(folder) / "names.json").write_text(json.dumps({"names": NAMES}))
        pods = {name: POD[name] for name in ("a", "b", "gateway")}
        words = json.dumps([folder, rootless, DOMAIN, pods, environment])
        command = [sys.executable, "-c", SUPERVISOR, words]
        runtime = Runtime(NoNetwork(), Path(folder))
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as supervisor:
            try:
                told = json.loads(supervisor.stdout.readline())
                for name, link in told["links"].items():
                    runtime.links[name] = Link(**link)
                yield runtime, supervisor, told["holder"]
            finally:
                supervisor.kill()
                runtime.close()
                with contextlib.suppress(OSError):
                    os.kill(told["holder"], signal.SIGTERM)
        eventually(lambda: not marked("TEST_MARK", folder))


def test_traffic_goes_on_without_the_supervisor_and_ends_with_the_holder(rootless):
    with supervised(rootless) as (runtime, supervisor, holder):
        for name in PEER:
            runtime.serve(name)
            runtime.envoy(name, sidecar(name, runtime.registry(name)))
        config, port, _ = gateway(runtime.registry("gateway"))
        first = runtime.envoy("gateway", config)
        assert runtime.fetch("a", "b")[0] == "200"
        supervisor.send_signal(signal.SIGKILL)
        supervisor.wait(5)
        for _ in range(20):
            assert get(port).status == 200
        assert runtime.fetch("a", VIP["b"])[1]["app"] == "b"
        first.process.kill()
        first.process.wait(5)
        runtime.envoy("gateway", config)
        assert get(port).status == 200
        os.kill(holder, signal.SIGTERM)
        eventually(lambda: not Path(f"/proc/{holder}").exists() or is_zombie(holder))
        eventually(lambda: not os.path.exists(runtime.registry("a")["workload_netns"]))  # noqa: PTH110 - not there or not ours


def is_zombie(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_holder_that_is_gone_is_told(rootless):
    with namespaces(rootless) as runtime:
        runtime.add("a")
        os.kill(runtime.network.pid, signal.SIGKILL)
        with pytest.raises(OSError, match="the network's holder"):
            eventually(lambda: runtime.network.probe_socket("a").close())
        with pytest.raises(OSError, match="the network's holder"):
            runtime.add("b")
        with pytest.raises(OSError, match="the network's holder"):
            runtime.call(runtime.network.remove("a"))
        del runtime.links["a"]


def test_one_binding_for_all_clusters_may_stand_in_the_bootstrap(rootless):
    """Clusters to workloads take it; those that leave the machine set it aside, those over Unix sockets ignore it."""
    with namespaces(rootless) as runtime:
        runtime.add("b")
        runtime.add("gateway")
        runtime.serve("b")
        runtime.envoy("b", sidecar("b", runtime.registry("b")))
        ports = {"mesh": free_port(), "machine": free_port(), "pipe": free_port()}
        own = address(POD["gateway"], 0, runtime.registry("gateway")["mesh_netns"])["socket_address"]
        machine = cluster("machine", "127.0.0.1", ports["mesh"]) | {"upstream_bind_config": {}}
        pipe = cluster("pipe", "127.0.0.1", 1)
        admin = {"pipe": {"path": str(runtime.folder / "proxies" / "b" / "admin.sock")}}
        pipe["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] = admin
        config = {
            "cluster_manager": {"upstream_bind_config": {"source_address": own}},
            "static_resources": {
                "listeners": [
                    {"name": name, "address": address("127.0.0.1", port), "filter_chains": [http(name, name)]}
                    for name, port in ports.items()
                ],
                "clusters": [cluster("mesh", POD["b"], APP_PORT), machine, pipe, original("unused")],
            },
        }
        runtime.envoy("gateway", config)
        eventually(lambda: get(ports["mesh"]).status == 200)
        assert get(ports["mesh"]).seen["app"] == "b"
        assert get(ports["machine"]).seen["app"] == "b"
        assert get(ports["pipe"], "/ready").body == b"LIVE\n"
        log = runtime.folder / "proxies" / "b" / "access.log"
        eventually(lambda: f"inbound {POD['gateway']}:" in log.read_text())


@pytest.mark.skipif(not machine_address(), reason="this machine has no address beside its loopback")
def test_a_gateway_listens_at_any_address_of_the_machine(rootless):
    with namespaces(rootless) as runtime:
        runtime.add("gateway")
        port = free_port()
        answer = {"name": "all", "address": address("0.0.0.0", port), "filter_chains": [http("none", "all")]}
        config = {"static_resources": {"listeners": [answer], "clusters": [cluster("none", "127.0.0.1", 1)]}}
        runtime.envoy("gateway", config)
        done = subprocess.run(
            [sys.executable, "-c", "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 3)",
             machine_address(), str(port)], check=False,
        )  # fmt: skip
        assert done.returncode == 0
