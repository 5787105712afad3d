"""A whole mesh in this process: order, crashes, scaling, edits, and that nothing stays behind."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

from lateen.local.mesh import Mesh
from lateen.local.procfs import find_by_run_id
from lateen.local.watch import follow_file, take_edit
from tests.envoy.harness import free_port
from tests.unit.local.running import GATEWAY, project, running_mesh

PORT = free_port()
SLEEPER = f"services:\n  a: {{command: sleep 1000, replicas: %d}}\ngateways:\n  in: {{ports: {{http: {PORT}}}}}\n"


async def until(condition: Callable[[], bool], bound_s: float = 20.0) -> None:
    async with asyncio.timeout(bound_s):
        while not condition():  # noqa: ASYNC110 - files and processes are waited for
            await asyncio.sleep(0.01)


def entry(mesh: Mesh, name: str) -> dict[str, object]:
    path = mesh.run.registry / f"{name}.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def test_up_and_down_leave_nothing_behind(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "gateway.yaml").write_text(GATEWAY % PORT)
        async with running_mesh(project(SLEEPER % 2, tmp_path)) as mesh:
            async with asyncio.timeout(20):
                await mesh.ready.wait()
            status = mesh.status()
            run_id = status.run_id
            assert status.ready
            assert [one.name for one in status.workloads] == ["a-0", "a-1"]
            assert status.gateways[0].urls == (f"http://127.0.0.1:{PORT}",)
            assert len(find_by_run_id(run_id)) == 6
            await until(lambda: len((mesh.run.read_record() or status).processes) == 6)  # type: ignore[union-attr]
            tokens = json.loads((mesh.run.path / "tokens.json").read_bytes())
            assert {token["id"]: token["type"] for token in tokens.values()} == {
                "a-0": "sidecar",
                "a-1": "sidecar",
                "in-0": "gateway",
            }
        assert find_by_run_id(run_id) == []
        assert not mesh.run.path.exists()

    asyncio.run(scenario())


def test_a_mesh_that_goes_down_while_an_instance_is_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    text = "services:\n  a: {command: sleep 1000, labels: {x: '%s'}}\n"

    async def scenario() -> None:
        async with running_mesh(project(text % "before", tmp_path)) as mesh:
            async with asyncio.timeout(20):
                await mesh.ready.wait()
            run_id = mesh.status().run_id
            (runner,) = mesh.runners()
            changing = asyncio.ensure_future(mesh.apply(project(text % "after", tmp_path)))
            await until(lambda: not runner.status().ready)
        async with asyncio.timeout(20):
            await changing
        assert mesh.runners() == []
        assert find_by_run_id(run_id) == []

    asyncio.run(scenario())


def test_a_crashed_application_is_not_ready_and_is_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_mesh(project(SLEEPER % 1, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            pid = mesh.status().workloads[0].pid
            os.kill(pid, signal.SIGKILL)
            await until(lambda: entry(mesh, "a-0")["ready"] is False, 1.0)
            await until(lambda: mesh.status().ready)
            again = mesh.status().workloads[0]
            assert again.restarts == 1
            assert again.pid not in (0, pid)
            assert entry(mesh, "a-0")["ready"] is True

    asyncio.run(scenario())


def test_a_killed_proxy_and_a_killed_control_plane_come_back(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_mesh(project(SLEEPER % 1, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            before = mesh.status()
            os.kill(before.workloads[0].proxy_pid, signal.SIGKILL)
            os.kill(before.control_plane.pid, signal.SIGKILL)
            await until(lambda: mesh.status().workloads[0].proxy_restarts == 1 and mesh.status().ready)
            await until(lambda: mesh.status().control_plane.ready and mesh.status().control_plane.restarts == 1)
            assert mesh.status().workloads[0].pid == before.workloads[0].pid

    asyncio.run(scenario())


def test_a_mesh_whose_directory_was_removed_still_ends(tmp_path: Path) -> None:
    async def scenario() -> None:
        (tmp_path / "gateway.yaml").write_text(GATEWAY % PORT)
        async with running_mesh(project(SLEEPER % 1, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            run_id = mesh.status().run_id
            shutil.rmtree(mesh.run.path)
            async with asyncio.timeout(20):
                await mesh.stop()
        assert find_by_run_id(run_id) == []

    asyncio.run(scenario())


def test_what_cannot_be_told_to_the_control_plane_is_told_later(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_mesh(project(SLEEPER % 1, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            aside = mesh.run.registry.rename(mesh.run.path / "aside")
            os.kill(mesh.status().workloads[0].pid, signal.SIGKILL)
            await until(lambda: any(event.kind == "registry-failed" for event in mesh.events.recent()))
            assert mesh.status().workloads[0].name == "a-0"
            (aside / "a-0.json").unlink()
            aside.rename(mesh.run.registry)
            await until(lambda: mesh.status().ready and entry(mesh, "a-0").get("ready") is True)

    asyncio.run(scenario())


def test_scaling_up_and_down(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with running_mesh(project(SLEEPER % 1, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            first = mesh.status().workloads[0].pid
            assert await mesh.scale("a", 3) == "a"
            assert [one.ready for one in mesh.status().workloads] == [True, True, True]
            await mesh.scale("a", 1)
            assert [(one.name, one.pid) for one in mesh.status().workloads] == [("a-0", first)]
            assert entry(mesh, "a-2") == {}

    asyncio.run(scenario())


def test_an_edit_touches_what_it_changes_and_a_broken_one_nothing(tmp_path: Path) -> None:
    async def scenario() -> None:
        text = "services:\n  a: {command: sleep 1000}\n  b: {command: sleep 1000}\n"
        async with running_mesh(project(text, tmp_path)) as mesh:
            await until(lambda: mesh.status().ready)
            before = {one.name: (one.pid, one.proxy_pid) for one in mesh.status().workloads}
            await take_edit(mesh, b"services:\n  a: {comand: sleep 1000}\n")
            assert [finding.code for finding in mesh.status().findings] == ["unknown-field"]
            await take_edit(mesh, text.replace("b: {command: sleep 1000}", "b: {command: sleep 2000}").encode())
            await until(lambda: mesh.status().ready)
            after = {one.name: (one.pid, one.proxy_pid) for one in mesh.status().workloads}
            assert after["a-0"] == before["a-0"]
            assert after["b-0"][1] == before["b-0"][1]
            assert after["b-0"][0] != before["b-0"][0]
            assert mesh.status().findings == ()
            await take_edit(mesh, b"services:\n  a: {command: sleep 1000}\n  c: {command: sleep 1000}\n")
            await until(lambda: {one.name for one in mesh.status().workloads} == {"a-0", "c-0"} and mesh.status().ready)
            assert {one.name: one.pid for one in mesh.status().workloads}["a-0"] == before["a-0"][0]

    asyncio.run(scenario())


def test_what_is_wrong_with_the_folder_is_told(tmp_path: Path) -> None:
    """A link that leads nowhere and a project file that is gone; another project's file is no resource."""

    async def scenario() -> None:
        (tmp_path / "other.yaml").write_text("name: other\nservices:\n  b: {command: sleep 1000}\n")
        (tmp_path / "link.yaml").symlink_to(tmp_path / "nowhere.yaml")
        wanted = project("services:\n  a: {command: sleep 1000}\n", tmp_path)
        async with running_mesh(wanted) as mesh:
            await until(lambda: mesh.status().ready and bool(mesh.status().findings))
            (link,) = mesh.status().findings
            assert (link.code, Path(link.path).name) == ("unreadable-file", "link.yaml")
            assert "nowhere.yaml" in link.message
            (tmp_path / "link.yaml").unlink()
            stop = asyncio.Event()
            follower = asyncio.ensure_future(follow_file(mesh, stop))
            await until(lambda: not mesh.status().findings)
            text = Path(wanted.file).read_text()
            Path(wanted.file).unlink()
            await until(lambda: [one.code for one in mesh.status().findings] == ["project-file-gone"])
            assert mesh.status().ready
            Path(wanted.file).write_text(text)
            await until(lambda: not mesh.status().findings)
            stop.set()
            await follower

    asyncio.run(scenario())


def test_a_command_that_is_not_there_is_told_and_tried_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        text = "services:\n  a: {command: ./no-such-program}\n"
        async with running_mesh(project(text, tmp_path)) as mesh:
            await until(lambda: mesh.status().workloads[0].restarts >= 2)
            assert "no-such-program" in mesh.status().workloads[0].detail
            assert not mesh.status().ready

    asyncio.run(scenario())
