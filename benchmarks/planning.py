"""How long the coordinator takes from a change to ready bytes in the cache, without the network.

    python benchmarks/planning.py --services 1000 --proxies 500

Every proxy sees every service. Three changes: the first plan of all, one endpoint that comes or goes, one edit of a
route. The yardstick of the same run is decoding the same YAML once: the ratios say what planning adds to reading.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable

import msgspec

from lateen.control.coordinator import Coordinator
from lateen.envoy.resources import EnvoyResources
from lateen.mesh.model import Workload, WorkloadPort
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.protocol import Protocol
from lateen.xds.cache import ResourceCache


def _timed(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1000


def _text(services: int, timeout: int) -> bytes:
    parts = [
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: s{number}}}\n"
        f"spec: {{selector: {{app: s{number}}}, ports: [{{name: http, port: 80}}]}}\n"
        for number in range(services)
    ]
    parts.append(
        "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: s0}\n"
        f"spec: {{hosts: [s0], http: [{{timeout: {timeout}s, route: [{{destination: {{host: s0}}}}]}}]}}\n"
    )
    return "---\n".join(parts).encode()


def _read(data: bytes) -> tuple[Resource, ...]:
    return tuple(found for found, _ in map(decode, parse_documents(data, "benchmark")[0]) if found is not None)


def _workload(number: int, services: int) -> Workload:
    name = f"s{number % services}"
    return Workload(
        id=f"{name}-{number}",
        namespace="default",
        name=name,
        labels=(("app", name),),
        service_account=name,
        address=f"240.241.{number // 250}.{number % 250 + 1}",
        ports=(WorkloadPort("http", 80, 8080, Protocol.HTTP),),
        ready=True,
        network="namespaces",
        workload_netns=f"/proc/1/fd/{number}",
        mesh_netns="/proc/1/fd/0",
    )


def measure(services: int, proxies: int, rounds: int) -> dict[str, object]:
    """Milliseconds for each change, their ratio to decoding, and the process's largest memory."""
    cache = ResourceCache()

    def publish(proxy: str, found: EnvoyResources | None) -> None:
        cache.put(proxy, found)

    coordinator = Coordinator(Settings(), publish)
    data = _text(services, 1)
    reading = statistics.median(_timed(lambda: _read(data)) for _ in range(3))
    resources = _read(data)
    running = [_workload(number, services) for number in range(proxies)]
    first = _timed(lambda: coordinator.update(resources, running))
    endpoint, edit = [], []
    for number in range(rounds):
        running[0] = msgspec.structs.replace(running[0], ready=not running[0].ready)
        endpoint.append(_timed(lambda present=resources: coordinator.update(present, running)))  # type: ignore[misc]
        edited = _read(_text(services, 2 + number))
        edit.append(_timed(lambda edited=edited: coordinator.update(edited, running)))  # type: ignore[misc]
        resources = edited
    times = {"first": first, "endpoint": statistics.median(endpoint), "edit": statistics.median(edit)}
    return {
        "decode_ms": round(reading, 1),
        "change_ms": {name: round(value, 1) for name, value in times.items()},
        "over_decode": {name: round(value / reading, 2) for name, value in times.items()},
        "memory_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="From a change to ready bytes.")
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--proxies", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    json.dump(measure(options.services, options.proxies, options.rounds), sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
