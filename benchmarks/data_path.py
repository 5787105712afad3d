"""What Lateen's own sidecars cost: beside hand-written ones with the least that does the work, in one interleaved run.

    python benchmarks/data_path.py --rate 1000 --connections 4

Direct, one sidecar, two sidecars with mutual TLS, each hand-written and as Lateen configures it: routes, identity
checks, telemetry, access log and all. The load is open-loop (see ``load.py``). The last lines are ratios.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import sys
from collections.abc import Iterator

from benchmarks.handwritten import Measured, Way, measure, paths
from benchmarks.load import Load
from benchmarks.upstream import direct_response_config, free_port, run_envoy
from lateen.envoy.static import static_bootstrap
from lateen.envoy.translate import translate
from lateen.identity.certificate import (
    build_request,
    build_root,
    build_workload,
    certificate_pem,
    key_pem,
    new_key,
    read_request,
)
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.plan.planner import Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings
from lateen.values.names import SpiffeId
from lateen.values.protocol import Protocol

CLIENT_PREFIX, SERVER_PREFIX = 241, 242
NAMES = ("direct", "one sidecar", "two sidecars")


def _service(port: int) -> str:
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: server}}
spec: {{selector: {{app: server}}, ports: [{{name: http, port: {port}}}]}}
"""


def _workload(name: str, prefix: int, port: int) -> Workload:
    return Workload(
        id=name,
        namespace="default",
        name=name,
        labels=(("app", name),),
        service_account=name,
        address="",
        ports=(WorkloadPort("http", port, port, Protocol.HTTP),) if name == "server" else (),
        ready=True,
        network="loopback",
        prefix=prefix,
    )


class _Authority:
    """Certificates of one run."""

    def __init__(self) -> None:
        self._now = datetime.datetime.now(datetime.UTC)
        self._key = new_key()
        self._root = build_root(self._key, "cluster.local", self._now)

    def issue(self, name: str) -> tuple[bytes, bytes, bytes]:
        key, identity = new_key(), SpiffeId("cluster.local", "default", name)
        public = read_request(build_request(key, identity))
        leaf = build_workload(public, identity, self._root, self._key, self._now, datetime.timedelta(days=1))
        return certificate_pem(leaf), bytes(key_pem(key)), certificate_pem(self._root)


def _sidecar(planner: Planner, workload: Workload, authority: _Authority, log: str) -> dict[str, object]:
    plan = planner.plan(proxy_of(workload), access_log=log).plan
    certificate, key, roots = authority.issue(workload.name)
    text = static_bootstrap(plan, translate(plan), certificate=certificate, key=key, roots=roots)
    config: dict[str, object] = json.loads(text)
    return config


@contextlib.contextmanager
def mesh_paths(size: int, log: str) -> Iterator[dict[str, Way]]:
    """The same two ways through sidecars as Lateen configures them."""
    authority = _Authority()
    with contextlib.ExitStack() as stack:
        ways = {}
        for name, mode, offset in (("one sidecar", "DISABLE", 0), ("two sidecars", "STRICT", 2)):
            port = free_port()
            client = _workload("client", CLIENT_PREFIX + offset, port)
            server = _workload("server", SERVER_PREFIX + offset, port)
            documents, _ = parse_documents(_service(port).encode(), "benchmark")
            resources = [found for found, _ in map(decode, documents) if found is not None]
            snapshot = build_snapshot(Settings(default_mtls=mode), resources, [client, server])
            planner = Planner(snapshot)
            app = f"127.{server.prefix}.255.1"
            stack.enter_context(run_envoy(direct_response_config(port, size, app), port, app))
            inbound = f"127.{server.prefix}.255.2"
            pids = [stack.enter_context(run_envoy(_sidecar(planner, server, authority, log), port, inbound))]
            url = f"http://{inbound}:{port}/"
            if name == "two sidecars":
                _, _, third, fourth = snapshot.services["server.default.svc.cluster.local"].address.split(".")
                outbound = f"127.{client.prefix}.{third}.{fourth}"
                pids.append(stack.enter_context(run_envoy(_sidecar(planner, client, authority, log), port, outbound)))
                url = f"http://{outbound}:{port}/"
            ways[f"lateen {name}"] = Way(url, tuple(pids))
        yield ways


def ratios(results: dict[str, Measured]) -> dict[str, dict[str, float]]:
    """Lateen's figures over the hand-written ones, for each way through sidecars."""
    found: dict[str, dict[str, float]] = {}
    for name in NAMES[1:]:
        ours, theirs = results[f"lateen {name}"].summary(), results[name].summary()
        found[name] = {
            key: round(ours["latency_ms"][key] / theirs["latency_ms"][key], 3)  # type: ignore[index]
            for key in ("p50", "p90", "p99")
        }
        found[name]["rate"] = round(float(ours["rate"]) / float(theirs["rate"]), 3)  # type: ignore[arg-type]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Latency of Lateen's sidecars beside hand-written ones.")
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second; 0: closed loop (1000)")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each round (5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1024, help="bytes of a response (1024)")
    parser.add_argument("--access-log", default="/dev/null", help="where the sidecars log; empty for no log")
    options = parser.parse_args()
    load = Load("", rate=options.rate, duration=options.seconds, connections=options.connections, warmup=0.5)
    with paths(options.size) as theirs, mesh_paths(options.size, options.access_log) as ours:
        results = measure({**theirs, **ours}, load, options.rounds)
    json.dump({name: measured.summary() for name, measured in results.items()}, sys.stdout, indent=2)
    print()
    json.dump({"lateen over hand-written": ratios(results)}, sys.stdout, indent=2)
    print()
    return 1 if any(measured.result.errors for measured in results.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
