"""Time and memory to plan and translate one proxy, from resources to ready bytes.

    python benchmarks/control_plane.py

Sidecars with 100 services of one protocol, alone and with a VirtualService or an AuthorizationPolicy for each; a
gateway with 1,000 hosts; endpoints as services x members. ``cold``: nothing is remembered from before. ``warm``: again
after an edit of one resource. ``endpoint``: one member of a service has become ready or not.
The yardstick of the same run is protobuf alone: parsing and serialising the very bytes that come out.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import msgspec
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2

from lateen.envoy import routes, telemetry, translate
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, EnvoyResources
from lateen.envoy.translate import translate_endpoints
from lateen.mesh.build import build_snapshot, with_workloads
from lateen.mesh.model import MeshSnapshot, Workload, WorkloadPort
from lateen.plan.planner import Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.protocol import Protocol

MESSAGES = {
    CLUSTER: cluster_pb2.Cluster,
    ENDPOINT: endpoint_pb2.ClusterLoadAssignment,
    LISTENER: listener_pb2.Listener,
    ROUTE: route_pb2.RouteConfiguration,
}
PORTS = {"http": "http", "tcp": "tcp", "tls": "tls", "auto": "any"}
SERVICE = """
apiVersion: v1
kind: Service
metadata: {{name: s{number}}}
spec: {{selector: {{app: s{number}}}, ports: [{{name: {name}, port: {port}}}]}}
"""
VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: s{number}}}
spec:
  hosts: [s{number}]
  http:
  - match: [{{uri: {{prefix: /a}}}}]
    timeout: {edit}s
    route: [{{destination: {{host: s{number}}}, weight: 90}}, {{destination: {{host: s{other}}}, weight: 10}}]
  - route: [{{destination: {{host: s{number}}}}}]
"""
POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: p{number}}}
spec:
  rules:
  - from: [{{source: {{principals: [cluster.local/ns/default/sa/s{number}]}}}}]
    to: [{{operation: {{methods: [GET], paths: [/a{edit}/*]}}}}]
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {app: edge}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
HOST = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: h{number}}}
spec:
  hosts: [h{number}.example]
  gateways: [edge]
  http: [{{timeout: {edit}s, route: [{{destination: {{host: s{other}}}}}]}}]
"""
Parts = Callable[[int], list[str]]


class Case(msgspec.Struct, frozen=True):
    """``parts`` gives the texts of all resources after a number of edits of the first; ``members`` for each service."""

    parts: Parts
    services: int = 100
    members: int = 1
    gateway: bool = False


def _services(count: int, kind: str) -> list[str]:
    """Ports that are not HTTP differ, as each of them takes a listener of its own."""
    return [
        SERVICE.format(number=number, name=PORTS[kind], port=80 if kind == "http" else 2000 + number)
        for number in range(count)
    ]


def _with(template: str, count: int, base: Parts) -> Parts:
    def parts(edit: int) -> list[str]:
        own = [
            template.format(number=number, other=(number + 1) % 100, edit=edit if number == 0 else 1)
            for number in range(count)
        ]
        return [*base(edit), *own]

    return parts


def _plain(kind: str, count: int = 100) -> Parts:
    """Without other resources, an edit is one of a service: its last, which is called in turn by another port name."""

    def parts(edit: int) -> list[str]:
        found = _services(count, kind)
        found[-1] = found[-1].replace("metadata: {", f"metadata: {{labels: {{edit: e{edit}}}, ")
        return found

    return parts


CASES: Mapping[str, Case] = {
    **{f"100 services, {kind}": Case(_plain(kind)) for kind in PORTS},
    "100 services with VirtualServices": Case(_with(VIRTUAL_SERVICE, 100, _plain("http"))),
    "100 services with AuthorizationPolicies": Case(_with(POLICY, 100, _plain("http"))),
    "gateway with 1,000 hosts": Case(_with(HOST, 1000, lambda edit: [*_services(100, "http"), GATEWAY]), gateway=True),
    **{
        f"endpoints {services} x {members}": Case(_plain("http", services), services, members)
        for services, members in ((1, 100), (10, 10), (100, 10), (1000, 1))
    },
}


def _read(texts: list[str]) -> tuple[Resource, ...]:
    documents = parse_documents("---".join(texts).encode(), "benchmark")[0]
    return tuple(found for found, _ in map(decode, documents) if found is not None)


def _member(number: int, replica: int, kind: str = "http") -> Workload:
    name, place = f"s{number}", number * 16 + replica if replica < 16 else replica
    return Workload(
        id=f"{name}-{replica}",
        namespace="default",
        name=name,
        labels=(("app", name),),
        service_account=name,
        address=f"240.{241 + place // 62_500}.{place // 250 % 250}.{place % 250 + 1}",
        ports=(WorkloadPort(kind, 80, 8080, Protocol.HTTP),),
        ready=True,
        network="namespaces",
    )


def _forget() -> None:
    """What the translation remembers is a matter of the process; a cold build has none of it."""
    for module in (translate, routes, telemetry):
        for value in vars(module).values():
            if hasattr(value, "cache_clear"):
                value.cache_clear()


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _protobuf(resources: EnvoyResources) -> tuple[Callable[[], None], int]:
    """Parsing and serialising all of a proxy's bytes, and how many these are."""
    found = [
        (MESSAGES[kind], resource.body)
        for kind, named in resources.by_type.items()
        if kind in MESSAGES
        for resource in named.values()
    ]

    def work() -> None:
        for message, data in found:
            message.FromString(data).SerializeToString(deterministic=True)

    return work, sum(len(data) for _, data in found)


def _endpoint(planner: Planner, running: list[Workload]) -> Callable[[], None]:
    """What happens as one member changes: the snapshot, and the endpoints of its service."""
    proxy, state = proxy_of(running[0]), {workload.id: workload for workload in running}
    last = running[-1].id

    def work() -> None:
        before = planner.snapshot
        state[last] = msgspec.structs.replace(state[last], ready=not state[last].ready)
        snapshot = with_workloads(before, state)
        changed = frozenset(host for host in snapshot.services if snapshot.members[host] != before.members[host])
        planner.move_to(snapshot)
        for found in planner.endpoints_of(proxy, changed):
            translate_endpoints(found)

    return work


def _memory(work: Callable[[], object]) -> int:
    """Bytes that are still held after it, of what it allocated."""
    gc.collect()
    tracemalloc.start()
    kept = work()
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    del kept
    return held


def _index(into: list[MeshSnapshot], declared: tuple[Resource, ...], running: list[Workload]) -> None:
    into.append(build_snapshot(Settings(), declared, running))


def measure(case: Case, rounds: int) -> dict[str, Any]:
    """Milliseconds of each step for one proxy, kilobytes, and ratios to protobuf alone."""
    own = Workload(
        "own-0", "default", "own", (("app", "edge"),), "own", "240.240.0.9", is_gateway=case.gateway, ready=True
    )
    running = [own, *(_member(n, replica) for n in range(case.services) for replica in range(case.members))]
    snapshots: list[MeshSnapshot] = []
    indexing = []
    for edit in range(1, rounds + 2):
        declared = _read(case.parts(edit))
        indexing.append(_timed(partial(_index, snapshots, declared, running)))
    proxy = proxy_of(own)

    def build(snapshot: MeshSnapshot) -> tuple[Planner, EnvoyResources]:
        planner = Planner(snapshot)
        return planner, translate.translate(planner.plan(proxy).plan)

    cold = []
    for _ in range(rounds):
        _forget()
        cold.append(_timed(lambda: build(snapshots[0])))
    warm = [_timed(lambda edited=snapshot: build(edited)) for snapshot in snapshots[1:]]  # type: ignore[misc]
    planner, translated = build(snapshots[-1])
    bare_work, size = _protobuf(translated)
    bare = statistics.median(_timed(bare_work) for _ in range(rounds))
    one = _endpoint(planner, running)
    times = {
        "index": statistics.median(indexing),
        "cold": statistics.median(cold),
        "warm": statistics.median(warm),
        "endpoint": statistics.median(_timed(one) for _ in range(rounds)),
        "protobuf": bare,
    }
    _forget()
    return {
        "ms": {name: round(value, 2) for name, value in times.items()},
        "over_protobuf": {name: round(times[name] / bare, 1) for name in ("cold", "warm", "endpoint")},
        "output_kb": round(size / 1000),
        "held_kb": round(_memory(lambda: build(snapshots[0])) / 1000),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Plan and translate one proxy.")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default="", help="a part of the names of the cases to run")
    options = parser.parse_args()
    found = {name: measure(case, options.rounds) for name, case in CASES.items() if options.only in name}
    json.dump(found, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
