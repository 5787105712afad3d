"""The xDS server against the real Envoy: order, refusal, warming, coming back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from xds_live_support import (
    PROXY,
    Bench,
    bench,
    cluster,
    endpoints,
    free_port,
    listener,
    over_ads,
    over_sds_cluster,
    resources,
    route,
    secret,
    tls_cluster,
    tls_listener,
    until,
)

from lateen.envoy.resources import CLUSTER, LISTENER, ROUTE
from lateen.xds.cache import ResourceCache
from lateen.xds.server import serve_secrets
from lateen.xds.status import SyncState


@pytest.fixture
def folder() -> Iterator[Path]:
    """Short, as the paths of sockets must be."""
    with TemporaryDirectory(prefix="lx") as name:
        yield Path(name)


@pytest.fixture(params=[True, False], ids=["delta", "world"])
def delta(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def run(folder: Path, delta: bool, story: Callable[[Bench], Awaitable[None]]) -> None:
    async def whole() -> None:
        async with asyncio.timeout(60), bench(folder, delta=delta) as made:
            await story(made)

    asyncio.run(whole())


def simple(made: Bench, name: str, mark: str, timeout: float = 1.0) -> None:
    """One listener, one route, one cluster of this name."""
    made.put(
        clusters=[cluster(name, timeout)],
        endpoints=[endpoints(name, made.upstream_port)],
        listeners=[listener("l", made.port, "r")],
        routes=[route("r", name, mark)],
    )


def test_everything_arrives_and_is_accepted(folder: Path, delta: bool) -> None:
    async def story(made: Bench) -> None:
        simple(made, "a", "one")
        made.start_envoy()
        await made.until_answer(200, "one")
        await made.settled()
        row = made.state(ROUTE)
        assert row.state is SyncState.SYNCED
        assert row.sent_version == row.acked_version
        assert row.last_ack is not None

    run(folder, delta, story)


def test_make_before_break(folder: Path, delta: bool) -> None:
    """The route moves to a cluster that is new, and the old one goes, again and again: no request fails."""

    async def story(made: Bench) -> None:
        simple(made, "c0", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        async with made.load():
            for number in range(1, 25):
                simple(made, f"c{number}", str(number))
                if number % 3 or number == 24:
                    await made.until_answer(200, str(number))
            await made.settled()
        assert made.failures == []
        clusters = await made.admin("/clusters")
        assert "c24::" in clusters
        assert "c23::" not in clusters

    run(folder, delta, story)


def test_changed_cluster_does_not_stay_warming(folder: Path, delta: bool) -> None:
    """Its endpoints are the same as before, and Envoy wants them all the same."""

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        async with made.load():
            for number in range(1, 11):
                simple(made, "a", str(number), timeout=1 + number / 10)
                await made.until_answer(200, str(number))
                await made.settled()
        stats = await made.stats("cluster_manager")
        assert stats["cluster_manager.warming_clusters"] == 0
        assert made.failures == []

    run(folder, delta, story)


def test_refused_listener(folder: Path, delta: bool) -> None:
    """The good one beside it serves; the refusal names file and line; the same bytes are not sent again."""

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        other, bad_port = free_port(), free_port()

        def put(bad_address: str) -> None:
            made.put(
                clusters=[cluster("a")],
                endpoints=[endpoints("a", made.upstream_port)],
                listeners=[
                    listener("l", made.port, "r"),
                    listener("good", other, "r"),
                    listener("bad", bad_port, "r", bad_address),
                ],
                routes=[route("r", "a", "0")],
            )

        put("203.0.113.9")
        await until(lambda: made.state(LISTENER).state is SyncState.NACKED)
        row = made.state(LISTENER)
        assert [refused.name for refused in row.rejections] == ["bad"]
        assert "cannot bind" in row.error
        assert str(row.rejections[0].origin).endswith("(x.yaml:3)")
        assert (await made.get(other))[0] == 200
        before = await made.stats("listener_manager.lds")
        put("203.0.113.9")
        await asyncio.sleep(0.3)
        assert await made.stats("listener_manager.lds") == before
        put("127.0.0.1")
        await made.settled()

    run(folder, delta, story)


def test_refused_route_keeps_the_last_good_one(folder: Path, delta: bool) -> None:
    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        parts = {
            "clusters": [cluster("a"), cluster("b")],
            "endpoints": [endpoints("a", made.upstream_port), endpoints("b", made.upstream_port)],
            "listeners": [listener("l", made.port, "r")],
        }
        made.put(**parts, routes=[route("r", "b", "bad", regex="((")])
        await until(lambda: made.state(ROUTE).state is SyncState.NACKED)
        assert await made.get() == (200, "0")
        made.put(**{**parts, "clusters": [cluster("b")]}, routes=[route("r", "b", "bad", regex="((")])
        await asyncio.sleep(0.3)
        assert await made.get() == (200, "0"), "the cluster of the last good route was taken away"
        made.put(**parts, routes=[route("r", "b", "good")])
        await made.until_answer(200, "good")
        await made.settled()

    run(folder, delta, story)


def test_refused_cluster_holds_nothing_up(folder: Path, delta: bool) -> None:
    """A route that points at a cluster which Envoy refused is sent: the rest of the table matters."""

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        made.put(
            clusters=[cluster("a"), cluster("b", valid=False), cluster("c")],
            endpoints=[endpoints(name, made.upstream_port) for name in "ac"],
            listeners=[listener("l", made.port, "r")],
            routes=[route("r", "b", "broken")],
        )
        await made.until_answer(503, "broken", seconds=2)
        row = made.state(CLUSTER)
        assert [refused.name for refused in row.rejections] == ["b"]
        assert "c::" in await made.admin("/clusters")
        simple(made, "a", "repaired")
        await made.until_answer(200, "repaired", seconds=2)

    run(folder, delta, story)


def test_new_control_plane(folder: Path, delta: bool) -> None:
    """It is empty at first, then knows something else than before: nothing fails, nothing old is left.

    In the state of the world a new control plane cannot keep a cluster that it never knew until its route has moved:
    a request or two may come in between.
    """

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        await made.settled()
        async with made.load():
            for number in range(1, 4):
                await made.stop_serving()
                await made.serve()
                await until(lambda: bool(made.status.connected()), 15)
                await asyncio.sleep(0.2)
                simple(made, f"n{number}", str(number))
                await made.until_answer(200, str(number))
                await made.settled(8)
        assert len(made.failures) <= (0 if delta else 6)
        assert "n2::" not in await made.admin("/clusters")

    run(folder, delta, story)


def test_cluster_changed_while_no_control_plane_ran(folder: Path, delta: bool) -> None:
    """Envoy names its endpoints before it sees that their cluster has changed, and then waits for them."""

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        await made.stop_serving()
        await made.serve()
        simple(made, "a", "1", timeout=7)
        await made.until_answer(200, "1", 15)
        await made.settled()
        assert (await made.stats("cluster_manager"))["cluster_manager.warming_clusters"] == 0

    run(folder, delta, story)


def test_control_plane_gone_while_a_cluster_warms(folder: Path, delta: bool) -> None:
    """Envoy comes back saying that it has cluster and endpoints, although the one still waits for the other."""

    async def story(made: Bench) -> None:
        simple(made, "a", "0")
        made.start_envoy()
        await made.until_answer(200, "0")
        await made.stop_serving()
        await made.serve(types=(CLUSTER, LISTENER, ROUTE))
        simple(made, "a", "1", timeout=7)
        await made.until_answer(200, "1", 15)
        assert (await made.stats("cluster_manager"))["cluster_manager.warming_clusters"] == 1
        await made.stop_serving()
        await made.serve()
        simple(made, "a", "2", timeout=7)
        await made.until_answer(200, "2", 15)
        await made.settled()
        assert (await made.stats("cluster_manager"))["cluster_manager.warming_clusters"] == 0

    run(folder, delta, story)


def test_secrets_over_ads(folder: Path, delta: bool) -> None:
    """A secret that comes late, a rotation, and changes of what uses it.

    An Envoy that starts opens no listener until each has its secrets. A delta stream can say that there is none; in the
    state of the world there is no such answer.
    """

    async def story(made: Bench) -> None:
        tls_port = free_port()

        def put(*secrets: str, note: str, timeout: float) -> None:
            made.put(
                clusters=[cluster("a"), tls_cluster("t", "s", timeout)],
                endpoints=[endpoints("a", made.upstream_port), endpoints("t", made.upstream_port)],
                listeners=[
                    listener("l", made.port, "r"),
                    tls_listener("tls", tls_port, "r", "late", over_ads(), note),
                ],
                routes=[route("r", "a", note)],
                secrets=[*(secret("late", name) for name in secrets), secret("s", "client")],
            )

        put(*(() if delta else ("first",)), note="0", timeout=1)
        made.start_envoy()
        await made.until_answer(200, "0")
        if delta:
            assert await made.certificate(tls_port) == ""
            put("first", note="0", timeout=1)
        await made.until_certificate(tls_port, "first")
        put("second", note="0", timeout=1)
        await made.until_certificate(tls_port, "second")
        put("second", note="changed", timeout=2)
        await made.until_answer(200, "changed")
        await made.settled()
        assert await made.certificate(tls_port) == "CN=second"
        assert (await made.stats("cluster_manager"))["cluster_manager.warming_clusters"] == 0
        assert (await made.stats("listener_manager"))["listener_manager.total_listeners_warming"] == 0

    run(folder, delta, story)


def test_secrets_on_a_socket_of_their_own(folder: Path) -> None:
    """The agent's server: no token, one proxy, rotation, and a new server in the place of the old one."""

    async def story(made: Bench) -> None:
        secrets = ResourceCache()
        secrets.put(PROXY, resources(secrets=[secret("default", "first")]))
        server = await serve_secrets(folder / "sds.sock", secrets, PROXY)
        tls_port = free_port()
        made.put(
            clusters=[cluster("a")],
            endpoints=[endpoints("a", made.upstream_port)],
            listeners=[tls_listener("tls", tls_port, "r", "default", over_sds_cluster())],
            routes=[route("r", "a")],
        )
        made.start_envoy(str(folder / "sds.sock"))
        await made.until_certificate(tls_port, "first")
        secrets.put(PROXY, resources(secrets=[secret("default", "second")]))
        await made.until_certificate(tls_port, "second")
        await server.stop()
        secrets.put(PROXY, resources(secrets=[secret("default", "third")]))
        server = await serve_secrets(folder / "sds.sock", secrets, PROXY)
        await made.until_certificate(tls_port, "third", 20)
        await server.stop()

    run(folder, True, story)
