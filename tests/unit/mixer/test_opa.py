"""The adapter ``opa``: what an OPA is told and given, and what its answers mean."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest

from lateen.mixer.adapter import OK, PERMISSION_DENIED
from lateen.mixer.adapters.opa import Opa
from lateen.mixer.reach import Reach
from lateen.mixer.templates import Action, Authorization, CheckNothing, Subject
from tests.machine import eventually, free_port

READ = Authorization(subject=Subject(user="ann", properties={"age": 7, "none": None}), action=Action(path="/read"))
WRITE = Authorization(subject=Subject(user="ann"), action=Action(path="/write"))
POLICY = """package mesh
import rego.v1
allow if {
  input.subject.user == "ann"
  input.action.path == "/read"
}
"""


class Recorded:
    """Speaks as an OPA does; ``result`` is what it says to queries, unless a policy is needed and not there."""

    def __init__(self, result: Any = True, policies: Mapping[str, str] | None = None, *, needs: str = "") -> None:
        self.result, self.needs = result, needs
        self.policies = dict(policies or {})
        self.asked: list[Any] = []

    async def send(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> bytes:
        path = unquote(url.removeprefix("http://opa/v1/"))
        if path == "policies":
            return json.dumps({"result": [{"id": name, "raw": text} for name, text in self.policies.items()]}).encode()
        if path.startswith("policies/"):
            name = path.removeprefix("policies/")
            if method == "PUT":
                self.policies[name] = body.decode()
            else:
                del self.policies[name]
            return b"{}"
        self.asked.append((method, path, json.loads(body)))
        is_there = not self.needs or self.needs in self.policies
        return json.dumps({} if self.result is None or not is_there else {"result": self.result}).encode()


def verdicts(opa: Recorded, *policies: str, count: int = 1) -> list[int]:
    async def run() -> list[int]:
        adapter = Opa("http://opa/", "data.mesh.allow", opa.send, policies=policies, folder="lateen/h")
        return [(await adapter.check(READ)).code for _ in range(count)]

    return asyncio.run(run())


def test_what_is_asked() -> None:
    opa = Recorded()
    assert verdicts(opa) == [OK]
    ((method, path, body),) = opa.asked
    assert (method, path) == ("POST", "data/mesh/allow")
    assert body["input"]["subject"] == {"user": "ann", "groups": "", "properties": {"age": 7}}
    assert body["input"]["action"]["path"] == "/read"


@pytest.mark.parametrize(("result", "code"), [(True, OK), (False, PERMISSION_DENIED), (None, PERMISSION_DENIED)])
def test_what_is_not_allowed_is_refused_and_so_is_what_is_left_undefined(result: bool | None, code: int) -> None:
    assert verdicts(Recorded(result)) == [code]


@pytest.mark.parametrize("result", ["yes", 1, {"allow": True}])
def test_an_answer_that_is_no_truth_is_a_failure(result: Any) -> None:
    with pytest.raises(ValueError, match="neither true nor false"):
        verdicts(Recorded(result))


def test_policies_are_loaded_and_those_of_before_are_gone() -> None:
    opa = Recorded(policies={"lateen/h/0": "old", "lateen/h/7": "old", "lateen/other/0": "kept", "mine": "kept"})
    assert verdicts(opa, "a", "b") == [OK]
    kept = {"lateen/other/0": "kept", "mine": "kept"}
    assert opa.policies == {"lateen/h/0": "a", "lateen/h/1": "b", **kept}


def test_policies_that_were_forgotten_are_loaded_again() -> None:
    opa = Recorded(needs="lateen/h/0")

    async def run() -> None:
        adapter = Opa("http://opa", "data.mesh.allow", opa.send, policies=("a",), folder="lateen/h")
        assert (await adapter.check(READ)).code == OK
        opa.policies.clear()
        assert (await adapter.check(READ)).code == OK
        opa.result = None
        assert (await adapter.check(READ)).code == PERMISSION_DENIED
        assert len(opa.asked) == 4

    asyncio.run(run())


def test_who_gives_up_waiting_does_not_stop_the_loading() -> None:
    class Slow(Recorded):
        async def send(self, method: str, *rest: Any) -> bytes:
            await asyncio.sleep(0.05 if method == "PUT" else 0)
            return await super().send(method, *rest)

    async def run() -> None:
        opa = Slow()
        adapter = Opa("http://opa", "data.mesh.allow", opa.send, policies=("a", "b", "c"), folder="lateen/h")
        for _ in range(3):
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.06):
                    await adapter.check(READ)
        assert (await adapter.check(READ)).code == OK
        assert len(opa.policies) == 3
        await adapter.close()

    asyncio.run(run())


def test_loading_that_fails_is_tried_again() -> None:
    class Away(Recorded):
        times = 2

        async def send(self, method: str, *rest: Any) -> bytes:
            if method == "PUT" and self.times:
                self.times -= 1
                raise OSError("gone")
            return await super().send(method, *rest)

    async def run() -> None:
        adapter = Opa("http://opa", "data.mesh.allow", Away().send, policies=("a",), folder="lateen/h")
        for _ in range(2):
            with pytest.raises(OSError, match="gone"):
                await adapter.check(READ)
        assert (await adapter.check(READ)).code == OK
        await adapter.close()

    asyncio.run(run())


def test_no_other_template_is_taken() -> None:
    async def run() -> None:
        await Opa("http://opa", "data.a", Recorded().send).check(CheckNothing())

    with pytest.raises(TypeError):
        asyncio.run(run())


@pytest.fixture
def real(tmp_path: Path) -> Iterator[tuple[str, Any]]:
    """A real OPA without policies, and a way to start it anew."""
    binary = shutil.which("opa")
    if binary is None:
        pytest.skip("there is no opa on this machine's PATH")
    port, running = free_port(), []

    def start() -> None:
        for process in running:
            process.kill()
            process.wait(10)
        log = (tmp_path / "opa.log").open("ab")
        command = [binary, "run", "--server", "--addr", f"127.0.0.1:{port}", "--log-level", "error"]
        running.append(subprocess.Popen(command, stdout=log, stderr=log))
        log.close()
        eventually(lambda: asyncio.run(_answers(port)))

    start()
    try:
        yield f"http://127.0.0.1:{port}", start
    finally:
        running[-1].kill()
        running[-1].wait(10)


async def _answers(port: int) -> bool:
    reach = Reach()
    try:
        await reach.web.send("GET", f"http://127.0.0.1:{port}/health", b"", {})
    except OSError:
        return False
    finally:
        await reach.close()
    return True


def test_a_real_opa_is_given_policies_and_decides_by_them(real: tuple[str, Any]) -> None:
    url, start = real

    async def run() -> None:
        reach = Reach()
        adapter = Opa(url, "data.mesh.allow", reach.web.send, policies=(POLICY,), folder="lateen/h.default")
        assert (await adapter.check(READ)).code == OK
        assert (await adapter.check(WRITE)).code == PERMISSION_DENIED
        await asyncio.to_thread(start)
        assert (await adapter.check(WRITE)).code == PERMISSION_DENIED
        assert (await adapter.check(READ)).code == OK
        broken = Opa(url, "data.mesh.allow", reach.web.send, policies=("package mesh\nallow {",), folder="lateen/b")
        with pytest.raises(OSError, match="answers with status 400"):
            await broken.check(READ)
        await reach.close()

    asyncio.run(run())
