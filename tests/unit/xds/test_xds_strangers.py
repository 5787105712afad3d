"""A proxy that asks for what is another's gets none of it: by name, as whom it likes, before and after."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc.aio
import pytest
from envoy.config.core.v3 import base_pb2
from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResources
from lateen.xds.cache import ResourceCache
from lateen.xds.server import ADS_SERVICE, SDS_SERVICE, AdsServer, SecretServer
from lateen.xds.status import StatusBoard
from tests.unit.xds.exchange import resource, resources

KINDS = (CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET)
TOKENS = {"token-thief": "thief", "token-gateway": "gateway"}
FORGED = {
    "id": lambda node: setattr(node, "id", "gateway"),
    "router": lambda node: setattr(node, "id", "router~127.0.0.1~gateway.istio-system~istio-system.svc.cluster.local"),
    "cluster": lambda node: setattr(node, "cluster", "gateway.istio-system"),
    "metadata": lambda node: node.metadata.update(
        {
            "NAMESPACE": "istio-system",
            "SERVICE_ACCOUNT": "gateway",
            "LABELS": {"istio": "ingressgateway"},
            "WORKLOAD_NAME": "gateway",
        }
    ),
}


def held(by: str, change: str = "1") -> EnvoyResources:
    """One resource of each type that both have under the same name, and one that is this proxy's alone."""

    def both() -> tuple[Any, Any]:
        return resource("shared", f"of-{by}-{change}"), resource(f"{by}-only", f"of-{by}-{change}")

    return resources(clusters=both(), endpoints=both(), listeners=both(), routes=both(), secrets=both())


class Stream:
    """A delta or state-of-the-world stream, and all that came over it."""

    def __init__(self, call: Any, delta: bool, node: Any) -> None:
        self._call, self._delta, self._node = call, delta, node
        self.seen = b""

    async def ask(self, kind: str, *names: str) -> None:
        if self._delta:
            message = discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=names)
        else:
            message = discovery_pb2.DiscoveryRequest(type_url=kind, resource_names=names)
        message.node.CopyFrom(self._node)
        await self._call.write(message.SerializeToString())

    async def until(self, text: bytes) -> None:
        """Read, and acknowledge, until this has come."""
        kind = discovery_pb2.DeltaDiscoveryResponse if self._delta else discovery_pb2.DiscoveryResponse
        while text not in self.seen:
            response = kind.FromString(await self._call.read())
            for found in response.resources:
                self.seen += found.resource.value if self._delta else found.value
            answer: Any = discovery_pb2.DeltaDiscoveryRequest if self._delta else discovery_pb2.DiscoveryRequest
            message = answer(type_url=response.type_url, response_nonce=response.nonce)
            if not self._delta:
                message.version_info = response.version_info
                message.resource_names.extend(["shared", "gateway-only", "thief-only"])
            await self._call.write(message.SerializeToString())


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="lx") as name:
        yield Path(name)


@asynccontextmanager
async def channel_to(server: Any, folder: Path) -> Any:
    await server.start(folder / "x.sock")
    try:
        async with grpc.aio.insecure_channel(f"unix:{folder / 'x.sock'}") as channel:
            yield channel
    finally:
        await server.stop()


def run(story: Callable[[], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60):
            await story()

    asyncio.run(whole())


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "world"])
@pytest.mark.parametrize("forgery", FORGED)
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
def test_another_proxys_resources_are_not_to_be_had(folder: Path, delta: bool, forgery: str, warm: bool) -> None:
    async def story() -> None:
        cache, node = ResourceCache(), base_pb2.Node()
        FORGED[forgery](node)
        server = AdsServer(cache, TOKENS.get, StatusBoard())
        method = f"/{ADS_SERVICE}/{'Delta' if delta else 'Stream'}AggregatedResources"
        async with channel_to(server, folder) as channel:
            cache.put("gateway", held("gateway"))
            if warm:
                own = Stream(channel.stream_stream(method)(metadata=bearer("token-gateway")), delta, base_pb2.Node())
                await own.ask(SECRET, "gateway-only")
                await own.until(b"gateway-only=of-gateway-1")
            thief = Stream(channel.stream_stream(method)(metadata=bearer("token-thief")), delta, node)
            for kind in KINDS:
                await thief.ask(kind, "gateway-only", "shared", "thief-only")
            cache.put("thief", held("thief"))
            await thief.until(b"thief-only=of-thief-1")
            cache.put("gateway", held("gateway", "2"))  # what was asked for in vain is not pushed later either
            cache.put("thief", held("thief", "2"))
            await thief.until(b"thief-only=of-thief-2")
            assert b"gateway" not in thief.seen
            assert b"shared=of-thief" in thief.seen

    run(story)


@pytest.mark.parametrize("delta", [True, False], ids=["delta", "world"])
@pytest.mark.parametrize("forgery", FORGED)
def test_a_workloads_socket_gives_this_workloads_secrets(folder: Path, delta: bool, forgery: str) -> None:
    async def story() -> None:
        cache, node = ResourceCache(), base_pb2.Node()
        FORGED[forgery](node)
        cache.put("gateway", held("gateway"))
        cache.put("thief", held("thief"))
        async with channel_to(SecretServer(cache, "thief"), folder) as channel:
            method = f"/{SDS_SERVICE}/{'DeltaSecrets' if delta else 'StreamSecrets'}"
            stream = Stream(channel.stream_stream(method)(metadata=bearer("token-gateway")), delta, node)
            await stream.ask(SECRET, "gateway-only", "shared", "thief-only")
            await stream.until(b"thief-only=of-thief-1")
            assert b"gateway" not in stream.seen

    run(story)


def test_a_workloads_socket_gives_nothing_but_secrets(folder: Path) -> None:
    async def story() -> None:
        cache = ResourceCache()
        cache.put("thief", held("thief"))
        async with channel_to(SecretServer(cache, "thief"), folder) as channel:
            for method in (f"/{ADS_SERVICE}/DeltaAggregatedResources", f"/{ADS_SERVICE}/StreamAggregatedResources"):
                call = channel.stream_stream(method)(metadata=bearer("token-thief"))
                assert await call.code() is grpc.StatusCode.UNIMPLEMENTED

    run(story)


def bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)
