"""The API of a running mesh, over its socket, by its own client."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from lateen.api.client import ApiError, Client
from lateen.api.server import Api
from lateen.local.mesh import Mesh
from lateen.local.uds_server import owner_socket, serve
from tests.unit.local.running import GATEWAY, project, running_mesh

TEXT = "services:\n  a: {command: 'sh -c \"echo hello; sleep 1000\"'}\ngateways:\n  in: {ports: {http: 18081}}\n"


@asynccontextmanager
async def served(tmp_path: Path) -> AsyncIterator[tuple[Mesh, Client]]:
    (tmp_path / "gateway.yaml").write_text(GATEWAY % 18081)
    async with running_mesh(project(TEXT, tmp_path)) as mesh:
        listener = owner_socket(mesh.run.api_socket)
        server = asyncio.ensure_future(serve(Api(mesh).application(), listener))
        try:
            async with asyncio.timeout(20):
                await mesh.ready.wait()
            yield mesh, Client(mesh.run.api_socket)
        finally:
            server.cancel()
            await asyncio.gather(server, return_exceptions=True)


def test_the_socket_is_its_owners_alone(tmp_path: Path) -> None:
    listener = owner_socket(tmp_path / "api.sock")
    assert (tmp_path / "api.sock").stat().st_mode & 0o777 == 0o600
    listener.close()


def test_status_logs_and_changes(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (mesh, client):
            status = await asyncio.to_thread(client.get, "/v1/status")
            assert status["ready"] is True
            assert [one["urls"] for one in status["gateways"]] == [["http://127.0.0.1:18081"]]
            assert {"name", "service", "version", "ready", "restarts", "pid", "address"} <= status["workloads"][
                0
            ].keys()
            logs = await asyncio.to_thread(client.text, "GET", "/v1/logs?name=a")
            assert logs == "hello\n"
            scaled = await asyncio.to_thread(client.post, "/v1/scale", {"workload": "a", "replicas": 2})
            assert [one["name"] for one in scaled["instances"]] == ["a-0", "a-1"]
            before = mesh.runner("a-1").status().pid
            restarted = await asyncio.to_thread(client.post, "/v1/restart", {"workload": "a"})
            assert restarted == {"restarted": ["a-0", "a-1"]}
            assert mesh.runner("a-1").status().pid not in (0, before)
            place = await asyncio.to_thread(client.get, "/v1/command?name=a")
            assert place["environment"]["POD_NAME"] == "a-0"
            metrics = await asyncio.to_thread(client.text, "GET", "/metrics")
            assert metrics.count("# TYPE envoy_server_live gauge") == 1
            alone = await asyncio.to_thread(client.text, "GET", "/metrics/a-1")
            assert 'pod="a-1"' in alone
            assert 'pod="a-0"' not in alone
            rates = await asyncio.to_thread(client.get, "/v1/rates")
            assert set(rates) == {"a-0", "a-1", "in-0"}

    asyncio.run(scenario())


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (_, client):
            for method, target, body, status in (
                ("POST", "/v1/scale", {"workload": "b", "replicas": 2}, 404),
                ("POST", "/v1/scale", {"workload": "a", "replicas": 101}, 400),
                ("POST", "/v1/scale", {"workload": "a"}, 400),
                ("POST", "/v1/restart", {"workload": "b"}, 404),
                ("GET", "/v1/logs?name=b", None, 404),
                ("GET", "/metrics/b-0", None, 404),
                ("GET", "/v1/logs?name=a&kind=../../x", None, 400),
                ("GET", "/v1/logs?name=../../x", None, 404),
                ("GET", "/v1/logs?name=a&lines=x", None, 400),
                ("GET", "/v1/command?name=in-0", None, 404),
            ):
                data = None if body is None else json.dumps(body).encode()
                with pytest.raises(ApiError) as caught:
                    await asyncio.to_thread(client.text, method, target, data)
                assert caught.value.status == status, target

    asyncio.run(scenario())


def test_events_come_as_they_happen_and_stop_is_heard(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with served(tmp_path) as (mesh, client):

            def until_note() -> list[str]:
                kinds = []
                for event in client.events():
                    kinds.append(event["kind"])
                    if event["kind"] == "note":
                        break
                return kinds

            reading = asyncio.ensure_future(asyncio.to_thread(until_note))
            await asyncio.sleep(0.1)
            mesh.events.emit("note", "hello")
            assert "ready" in await reading
            await asyncio.to_thread(client.post, "/v1/stop")
            assert mesh.stop_asked.is_set()

    asyncio.run(scenario())


def test_a_mesh_that_is_gone_does_not_answer(tmp_path: Path) -> None:
    with pytest.raises(ApiError, match=r"nothing answers on .* started again"):
        Client(tmp_path / "api.sock").get("/v1/status")
