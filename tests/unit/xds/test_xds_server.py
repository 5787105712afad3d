"""The shell: who gets in, what a stream may not do, and that it does it alone."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import grpc.aio
import pytest
from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, SECRET
from lateen.xds.cache import ResourceCache
from lateen.xds.server import ADS_SERVICE, SDS_SERVICE, AdsServer, ServerLimits, bearer_token, serve_secrets
from lateen.xds.session import SessionOptions
from lateen.xds.status import StatusBoard
from tests.unit.xds.exchange import resource, resources

DELTA = f"/{ADS_SERVICE}/DeltaAggregatedResources"
WORLD = f"/{ADS_SERVICE}/StreamAggregatedResources"
TOKENS = {"token-p": "p", "token-q": "q"}


class Shell:
    """A running server and a channel to it."""

    def __init__(self, cache: ResourceCache, status: StatusBoard, channel: Any) -> None:
        self.cache = cache
        self.status = status
        self.channel = channel

    def call(self, token: str | None = "token-p", method: str = DELTA) -> Any:
        metadata = (("authorization", f"Bearer {token}"),) if token is not None else ()
        return self.channel.stream_stream(method)(metadata=metadata)


@pytest.fixture
def folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="lx") as name:
        yield Path(name)


@asynccontextmanager
async def shell(folder: Path, **more: Any) -> AsyncIterator[Shell]:
    cache, status = ResourceCache(), StatusBoard()
    server = AdsServer(cache, TOKENS.get, status, **more)
    await server.start(folder / "x.sock")
    async with grpc.aio.insecure_channel(f"unix:{folder / 'x.sock'}") as channel:
        yield Shell(cache, status, channel)
    await server.stop()


def run(folder: Path, story: Callable[[Shell], Awaitable[None]], **more: Any) -> None:
    async def whole() -> None:
        async with asyncio.timeout(20), shell(folder, **more) as made:
            await story(made)

    asyncio.run(whole())


def request(kind: str = CLUSTER, *names: str, node: str = "") -> bytes:
    message = discovery_pb2.DeltaDiscoveryRequest(type_url=kind, resource_names_subscribe=names)
    message.node.id = node
    return bytes(message.SerializeToString())


async def read(call: Any) -> Any:
    return discovery_pb2.DeltaDiscoveryResponse.FromString(await call.read())


async def refusal(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError):
        while await call.read() is not grpc.aio.EOF:
            pass
        raise AssertionError("it was not refused")
    code: grpc.StatusCode = await call.code()
    return code


@pytest.mark.parametrize("token", [None, "", "wrong", "token-p "])
@pytest.mark.parametrize("method", [DELTA, WORLD])
def test_nobody_without_a_token(folder: Path, token: str | None, method: str) -> None:
    async def story(made: Shell) -> None:
        assert await refusal(made.call(token, method)) is grpc.StatusCode.UNAUTHENTICATED

    run(folder, story)


def test_the_token_tells_who_it_is_and_the_node_does_not(folder: Path) -> None:
    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("of-p")]))
        made.cache.put("q", resources(clusters=[resource("of-q")]))
        call = made.call("token-p")
        await call.write(request(node="q"))
        assert [found.name for found in (await read(call)).resources] == ["of-p"]
        assert made.status.connected() == {"p"}

    run(folder, story)


def test_the_socket_is_its_owners(folder: Path) -> None:
    async def story(_: Shell) -> None:
        assert (folder / "x.sock").stat().st_mode & 0o777 == 0o600

    run(folder, story)


def test_a_change_reaches_an_open_stream(folder: Path) -> None:
    async def story(made: Shell) -> None:
        call = made.call()
        await call.write(request())
        await asyncio.sleep(0.05)
        made.cache.put("p", resources(clusters=[resource("a")]))
        assert [found.name for found in (await read(call)).resources] == ["a"]
        made.cache.put("p", resources())
        assert list((await read(call)).removed_resources) == ["a"]

    run(folder, story)


def test_the_state_of_the_world(folder: Path) -> None:
    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("a")]))
        call = made.call(method=WORLD)
        await call.write(discovery_pb2.DiscoveryRequest(type_url=CLUSTER).SerializeToString())
        response = discovery_pb2.DiscoveryResponse.FromString(await call.read())
        assert [found.value for found in response.resources] == [b"a=1"]

    run(folder, story)


@pytest.mark.parametrize(
    ("message", "code"),
    [
        (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
        (request(ENDPOINT, *(str(number) for number in range(20))), grpc.StatusCode.RESOURCE_EXHAUSTED),
        (request(CLUSTER, "x" * 20_000), grpc.StatusCode.RESOURCE_EXHAUSTED),
    ],
    ids=["not-a-request", "too-many-names", "too-large"],
)
def test_a_bad_stream_ends_alone(folder: Path, message: bytes, code: grpc.StatusCode) -> None:
    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("a")]))
        good, bad = made.call(), made.call()
        await good.write(request())
        await bad.write(message)
        assert await refusal(bad) is code
        await read(good)
        made.cache.put("p", resources(clusters=[resource("a", "2")]))
        assert (await read(good)).resources[0].resource.value == b"a=2"

    run(folder, story, options=SessionOptions(max_names=10), limits=ServerLimits(max_request=10_000))


def test_one_proxy_may_not_take_all_streams(folder: Path) -> None:
    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("a")]))
        made.cache.put("q", resources(clusters=[resource("a")]))
        calls = [made.call() for _ in range(2)]
        for call in calls:
            await call.write(request())
            await read(call)
        assert await refusal(made.call()) is grpc.StatusCode.RESOURCE_EXHAUSTED
        other = made.call("token-q")
        await other.write(request())
        await read(other)
        calls[0].cancel()
        await asyncio.sleep(0.1)
        again = made.call()
        await again.write(request())
        await read(again)

    run(folder, story, limits=ServerLimits(streams_per_proxy=2))


def test_a_client_that_does_not_read_ends_alone(folder: Path) -> None:
    """Its own stream is ended, also while it holds the only leave to send much."""

    async def story(made: Shell) -> None:
        large = [resource(f"{number:04}", "x" * 20_000) for number in range(200)]
        for proxy in "pq":
            made.cache.put(proxy, resources(clusters=large))
        deaf = made.call("token-p")
        await deaf.write(request())
        await asyncio.sleep(0.1)
        async with grpc.aio.insecure_channel(
            f"unix:{folder / 'x.sock'}", options=[("grpc.use_local_subchannel_pool", 1)]
        ) as channel:
            call = channel.stream_stream(DELTA)(metadata=(("authorization", "Bearer token-q"),))
            await call.write(request())
            received = 0
            while received < len(large):
                received += len((await read(call)).resources)

    run(folder, story, limits=ServerLimits(large_writes=1, write_timeout=0.5))


def test_a_client_that_ends_leaves_nothing(folder: Path) -> None:
    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("a")]))
        call = made.call()
        await call.write(request())
        await read(call)
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert made.status.connected() == frozenset()

    run(folder, story)


def test_a_socket_left_behind_is_replaced(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left_behind:
        left_behind.bind(str(folder / "x.sock"))

    async def story(made: Shell) -> None:
        made.cache.put("p", resources(clusters=[resource("a")]))
        call = made.call()
        await call.write(request())
        await read(call)

    run(folder, story)


def test_many_secret_servers_in_one_loop(folder: Path) -> None:
    """Each gives the secrets of its own proxy, and nothing else than secrets."""

    async def whole() -> None:
        cache = ResourceCache()
        servers = []
        for number in range(30):
            cache.put(str(number), resources(clusters=[resource("c")], secrets=[resource("default", str(number))]))
            servers.append(await serve_secrets(folder / f"{number}.sock", cache, str(number)))
        for number in range(30):
            async with grpc.aio.insecure_channel(f"unix:{folder / f'{number}.sock'}") as channel:
                call = channel.stream_stream(f"/{SDS_SERVICE}/DeltaSecrets")()
                await call.write(request(CLUSTER))
                await call.write(request(SECRET, "default"))
                response = await read(call)
                assert response.type_url == SECRET
                assert response.resources[0].resource.value == f"default={number}".encode()
        await asyncio.gather(*(server.stop() for server in servers))

    asyncio.run(whole())


@pytest.mark.parametrize(
    ("metadata", "token"),
    [
        ((("authorization", "Bearer abc"),), "abc"),
        ((("Authorization", "Bearer abc"),), "abc"),
        ((("authorization", "Bearer a"), ("authorization", "Bearer b")), ""),
        ((("authorization", "Basic abc"),), ""),
        ((("authorization", b"Bearer abc"),), ""),
        ((), ""),
        (None, ""),
    ],
)
def test_bearer_token(metadata: Any, token: str) -> None:
    assert bearer_token(metadata) == token
