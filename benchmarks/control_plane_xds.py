"""How the xDS server stands many services and many proxies.

    python benchmarks/control_plane_xds.py [--services 1000] [--clients 500] [--rounds 40] [-o FILE.json]

Everything runs in one process and one event loop: the server, on a Unix socket, and delta clients that answer at once,
ask for endpoints as Envoy does and keep no bodies. Each client sees all services: a cluster and an endpoint set for
each, one listener, one route table with a virtual host for each. Beside it, in the same run and with the same clients,
a bare grpc.aio server hands out the very same bytes without knowing what they are: the floor for any server in Python.

Figures are milliseconds unless a column says otherwise; "last ACK" runs from the call of ``put`` for the first proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.xds.cache import ResourceCache
from lateen.xds.server import ADS_SERVICE, AdsServer
from lateen.xds.status import StatusBoard

METHOD = f"/{ADS_SERVICE}/DeltaAggregatedResources"
ALL_TYPES = (CLUSTER, ENDPOINT, LISTENER, ROUTE)
TABLE = "9080"
LONGEST = 90.0


def resource(name: str, message: Any, references: tuple[tuple[str, str], ...] = ()) -> EnvoyResource:
    body = message.SerializeToString(deterministic=True)
    return EnvoyResource(name, blake2b(body, digest_size=16).hexdigest(), body, None, references)


def cluster_name(number: int) -> str:
    return f"outbound|9080||service-{number}.default.svc.cluster.local"


def cluster(number: int) -> EnvoyResource:
    name = cluster_name(number)
    message = cluster_pb2.Cluster(name=name, type=cluster_pb2.Cluster.EDS)
    message.eds_cluster_config.eds_config.ads.SetInParent()
    message.connect_timeout.FromSeconds(10)
    message.circuit_breakers.thresholds.add().max_requests.value = 4_294_967_295
    message.transport_socket.name = "envoy.transport_sockets.tls"
    message.transport_socket.typed_config.value = b"x" * 220
    return resource(name, message, ((ENDPOINT, name),))


def endpoints(number: int, change: int = 0) -> EnvoyResource:
    name = cluster_name(number)
    message = endpoint_pb2.ClusterLoadAssignment(cluster_name=name)
    group = message.endpoints.add()
    for replica in range(3):
        address = group.lb_endpoints.add().endpoint.address.socket_address
        address.address = f"240.241.{number % 250}.{1 + (replica + change) % 250}"
        address.port_value = 15006
    return resource(name, message)


def route_table(services: int, change: int = 0) -> EnvoyResource:
    message = route_pb2.RouteConfiguration(name=TABLE)
    for number in range(services):
        host = message.virtual_hosts.add(name=f"service-{number}:9080")
        short = f"service-{number}.default"
        host.domains.extend([f"service-{number}", short, f"{short}.svc", f"{short}.svc.cluster.local"])
        entry = host.routes.add()
        entry.match.prefix = "/"
        entry.route.cluster = cluster_name(number)
        entry.route.timeout.FromSeconds(change)
    return resource(TABLE, message, tuple((CLUSTER, cluster_name(number)) for number in range(services)))


def everything(services: int) -> EnvoyResources:
    listener = listener_pb2.Listener(name="0.0.0.0_9080")
    return EnvoyResources(
        {
            CLUSTER: {(made := cluster(number)).name: made for number in range(services)},
            ENDPOINT: {(made := endpoints(number)).name: made for number in range(services)},
            LISTENER: {listener.name: resource(listener.name, listener, ((ROUTE, TABLE),))},
            ROUTE: {TABLE: route_table(services)},
        }
    )


class Requests:
    """The requests of clients that all have the same: made once."""

    def __init__(self, resources: EnvoyResources) -> None:
        names = sorted(resources.by_type[ENDPOINT])
        self.start = [self._request(CLUSTER), self._request(LISTENER)]
        self.follow = {CLUSTER: self._request(ENDPOINT, names), LISTENER: self._request(ROUTE, [TABLE])}
        versions = {
            kind: {name: found.version for name, found in named.items()} for kind, named in resources.by_type.items()
        }
        self.resume = [
            self._request(CLUSTER, versions=versions[CLUSTER]),
            self._request(ENDPOINT, names, versions[ENDPOINT]),
            self._request(LISTENER, versions=versions[LISTENER]),
            self._request(ROUTE, [TABLE], versions[ROUTE]),
        ]

    @staticmethod
    def _request(kind: str, names: Any = (), versions: Any = None) -> bytes:
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=kind, resource_names_subscribe=names, initial_resource_versions=versions
        )
        return bytes(request.SerializeToString())


class Client:
    """One stream: parses everything that comes, answers at once."""

    def __init__(self, number: int, requests: Requests) -> None:
        self.number = number
        self._requests = requests
        self.received = 0
        self.resources = 0
        self._task: asyncio.Task[None] | None = None
        self._channel: grpc.aio.Channel | None = None

    async def connect(self, socket: str, *, resume: bool) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.client_id", self.number),
        ]
        self._channel = grpc.aio.insecure_channel(f"unix:{socket}", options=options)
        call = self._channel.stream_stream(METHOD)(metadata=(("authorization", f"Bearer {self.number}"),))
        for request in self._requests.resume if resume else self._requests.start:
            await call.write(request)
        self._task = asyncio.create_task(self._run(call, set(ALL_TYPES) if resume else set()))

    async def _run(self, call: Any, asked: set[str]) -> None:
        while (data := await call.read()) is not grpc.aio.EOF:
            response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
            self.received += len(data)
            self.resources += len(response.resources)
            kind = response.type_url
            if kind in self._requests.follow and kind not in asked:
                asked.add(kind)
                await call.write(self._requests.follow[kind])
            answer = discovery_pb2.DeltaDiscoveryRequest(type_url=kind, response_nonce=response.nonce)
            await call.write(answer.SerializeToString())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self._channel is not None:
            await self._channel.close()


class BareServer:
    """Hands out given bytes in a given order, counts what comes back, knows nothing."""

    def __init__(self) -> None:
        self.queues: list[asyncio.Queue[bytes]] = []
        self.answers = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, socket: str) -> None:
        bare = self

        class Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
            def service(self, call: Any) -> Any:
                return grpc.stream_stream_rpc_method_handler(bare._stream)

        self._server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
        self._server.add_generic_rpc_handlers((Handler(),))
        self._server.add_insecure_port(f"unix:{socket}")
        await self._server.start()

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(None)

    async def _stream(self, _: Any, context: Any) -> None:
        queue: asyncio.Queue[bytes] = asyncio.Queue()
        self.queues.append(queue)

        async def read() -> None:
            while (await context.read()) is not grpc.aio.EOF:
                self.answers += 1

        reader = asyncio.create_task(read())
        try:
            while True:
                await context.write(await queue.get())
        finally:
            reader.cancel()

    async def push(self, data: list[bytes], answers: int) -> float:
        """Seconds until every client has answered all of it."""
        self.answers = 0
        started = time.perf_counter()
        for queue in self.queues:
            for message in data:
                queue.put_nowait(message)
        await wait_for(lambda: self.answers >= answers)
        return time.perf_counter() - started


class Run:
    """One measurement, with all that it needs."""

    def __init__(self, services: int, clients: int, rounds: int, folder: Path) -> None:
        self.services = services
        self.rounds = rounds
        self.folder = folder
        self.deadline = time.monotonic() + LONGEST
        self.resources = everything(services)
        self.requests = Requests(self.resources)
        self.clients = [Client(number, self.requests) for number in range(clients)]
        self.ids = [str(number) for number in range(clients)]
        self.cache = ResourceCache()
        self.status = StatusBoard()
        self.server: AdsServer | None = None
        self.figures: dict[str, Any] = {"services": services, "clients": clients}
        self.memory_before = memory()

    async def measure(self) -> dict[str, Any]:
        figures = self.figures
        figures["full_push_s"] = await self.full_push()
        figures["full_push_bytes"] = sum(client.received for client in self.clients)
        gc.collect()
        figures["memory_mib"] = memory()
        figures["memory_of_server_and_clients_mib"] = figures["memory_mib"] - self.memory_before
        figures["endpoint_change_ms"] = summary([await self.endpoint_change(n + 1) for n in range(self.enough())])
        figures["route_change_ms"] = summary([await self.route_change(n + 1) for n in range(min(5, self.enough()))])
        figures["reconnect_s"] = await self.reconnect()
        figures["memory_at_the_end_mib"] = memory()
        figures["peak_memory_mib"] = peak_memory()
        await self.disconnect()
        await self.bare()
        for name in ("full_push", "endpoint_change", "route_change"):
            figures[f"{name}_to_bare"] = round(middle(figures, name) / middle(figures, f"bare_{name}"), 2)
        return figures

    def enough(self) -> int:
        """Rounds that still fit into the time."""
        return self.rounds if time.monotonic() < self.deadline - 40 else min(self.rounds, 5)

    async def full_push(self) -> float:
        await self._serve("a.sock")
        for client in self.clients:
            await client.connect(str(self.folder / "a.sock"), resume=False)
        await wait_for(lambda: len(self._subscriptions(LISTENER)) == len(self.clients))
        started = time.perf_counter()
        for proxy in self.ids:
            self.cache.put(proxy, EnvoyResources(dict(self.resources.by_type)))
        await self._all_accepted(ROUTE, self.resources.by_type[ROUTE][TABLE])
        await self._all_accepted(ENDPOINT, self.resources.by_type[ENDPOINT][cluster_name(0)])
        return time.perf_counter() - started

    async def endpoint_change(self, change: int) -> float:
        """As the coordinator does it: one new set, and a new mapping for each proxy."""
        fresh = endpoints(change % self.services, change)
        started = time.perf_counter()
        await self._put_all(ENDPOINT, fresh)
        return (time.perf_counter() - started) * 1000

    async def route_change(self, change: int) -> float:
        fresh = route_table(self.services, change)
        started = time.perf_counter()
        await self._put_all(ROUTE, fresh)
        return (time.perf_counter() - started) * 1000

    async def reconnect(self) -> float:
        """The server goes, another one comes that has to be told everything, and all clients come at once."""
        assert self.server is not None
        current = {proxy: self.cache.get(proxy) for proxy in self.ids}
        await self.disconnect()
        self.cache, self.status = ResourceCache(), StatusBoard()
        started = time.perf_counter()
        await self._serve("b.sock")
        for proxy, resources in current.items():
            self.cache.put(proxy, resources)
        await asyncio.gather(*(client.connect(str(self.folder / "b.sock"), resume=True) for client in self.clients))
        await wait_for(self._all_settled)
        return time.perf_counter() - started

    async def disconnect(self) -> None:
        assert self.server is not None
        await asyncio.gather(*(client.close() for client in self.clients))
        await self.server.stop()

    async def bare(self) -> None:
        """The same bytes to the same clients, from a server that does nothing else."""
        server = BareServer()
        await server.start(str(self.folder / "c.sock"))
        for client in self.clients:
            await client.connect(str(self.folder / "c.sock"), resume=False)
        count = len(self.clients)
        await wait_for(lambda: server.answers >= count * 2)
        push = [self._bytes(kind, list(self.resources.by_type[kind].values())) for kind in ALL_TYPES]
        self.figures["bare_full_push_s"] = await server.push(push, count * (len(push) + len(self.requests.follow)))
        small = [self._bytes(ENDPOINT, [endpoints(0, 1)])]
        times = [await server.push(small, count) * 1000 for _ in range(self.enough())]
        self.figures["bare_endpoint_change_ms"] = summary(times)
        table = [self._bytes(ROUTE, [route_table(self.services, 1)])]
        self.figures["bare_route_change_ms"] = summary([await server.push(table, count) * 1000 for _ in range(5)])
        await asyncio.gather(*(client.close() for client in self.clients))
        await server.stop()

    async def _serve(self, socket: str) -> None:
        self.server = AdsServer(self.cache, lambda token: token, self.status)
        await self.server.start(self.folder / socket)

    async def _put_all(self, kind: str, fresh: EnvoyResource) -> None:
        for proxy in self.ids:
            before = self.cache.get(proxy)
            assert before is not None
            named = {**before.by_type[kind], fresh.name: fresh}
            self.cache.put(proxy, EnvoyResources({**before.by_type, kind: named}))
        await self._all_accepted(kind, fresh)

    async def _all_accepted(self, kind: str, wanted: EnvoyResource) -> None:
        left: list[Any] = []

        def done() -> bool:
            """Looks at a client again only until it has answered, so that looking costs little."""
            if not left:
                left.extend(self._subscriptions(kind))
                if len(left) < len(self.clients):
                    left.clear()
                    return False
            while left:
                have = left[-1].accepted(wanted.name)
                if have is None or have.version != wanted.version:
                    return False
                left.pop()
            return True

        await wait_for(done)

    def _all_settled(self) -> bool:
        endpoints_seen = self._subscriptions(ENDPOINT)
        return len(endpoints_seen) == len(self.clients) and all(
            found.was_sent and not found.unanswered and not found.todo for found in endpoints_seen
        )

    def _subscriptions(self, kind: str) -> list[Any]:
        sessions = [session for of_proxy in self.status._sessions.values() for session in of_proxy]
        return [found for session in sessions if (found := session.subscriptions.get(kind)) is not None]

    def _bytes(self, kind: str, resources: list[EnvoyResource]) -> bytes:
        head = discovery_pb2.DeltaDiscoveryResponse(type_url=kind, nonce="1")
        return b"".join((head.SerializeToString(), *(self.cache.frame(kind, found) for found in resources)))


async def wait_for(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Look every millisecond."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError("the clients did not get there")
        await asyncio.sleep(0.001)


def memory() -> float:
    """Resident memory of this process in MiB."""
    return round(psutil.Process().memory_info().rss / 2**20, 1)


def peak_memory() -> float:
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    return next((round(int(line.split()[1]) / 1024, 1) for line in lines if line.startswith("VmHWM")), memory())


def summary(values: list[float]) -> dict[str, float]:
    ordered = sorted(values)
    return {
        "p50": round(statistics.median(ordered), 2),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 2),
        "max": round(ordered[-1], 2),
        "rounds": len(ordered),
    }


def middle(figures: dict[str, Any], name: str) -> float:
    """The median of a figure, whichever its unit."""
    if f"{name}_s" in figures:
        return float(figures[f"{name}_s"])
    return float(figures[f"{name}_ms"]["p50"])


def table(figures: dict[str, Any]) -> str:
    lines = [f"{figures['services']} services, {figures['clients']} delta clients, one process"]

    def row(label: str, value: str, bare: str = "", ratio: str = "") -> None:
        lines.append(f"{label:<38}{value:>22}{bare:>22}{ratio:>8}")

    def spread(name: str) -> str:
        found = figures[name]
        return f"{found['p50']:.1f} / {found['p99']:.1f} ms"

    row("", "Lateen", "bare grpc.aio", "ratio")
    row(
        f"full push ({figures['full_push_bytes'] / 2**20:.0f} MiB)",
        f"{figures['full_push_s']:.2f} s",
        f"{figures['bare_full_push_s']:.2f} s",
        str(figures["full_push_to_bare"]),
    )
    for name, label in (("endpoint_change", "one endpoint set"), ("route_change", "one route table")):
        row(
            f"{label} to last ACK, p50 / p99",
            spread(f"{name}_ms"),
            spread(f"bare_{name}_ms"),
            str(figures[f"{name}_to_bare"]),
        )
    row("all reconnect to a new server", f"{figures['reconnect_s']:.2f} s")
    row("memory of server and clients", f"{figures['memory_of_server_and_clients_mib']:.0f} MiB")
    row("peak memory of the process", f"{figures['peak_memory_mib']:.0f} MiB")
    return "\n".join(lines)


async def run(services: int, clients: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="lx") as folder:
        async with asyncio.timeout(LONGEST):
            return await Run(services, clients, rounds, Path(folder)).measure()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--services", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("-o", "--output", type=Path, help="also write the figures as JSON")
    given = parser.parse_args()
    figures = asyncio.run(run(given.services, given.clients, given.rounds))
    sys.stdout.write(table(figures) + "\n")
    if given.output is not None:
        given.output.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
