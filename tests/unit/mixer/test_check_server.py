"""The server of checks: what is too much is not begun; quotas that are asked for again are charged once."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
from envoy.service.auth.v3 import external_auth_pb2

from lateen.mesh.mixer.resolve import resolve
from lateen.mixer import check_server
from lateen.mixer.adapter import Adapter, CheckAdapter, CheckResult
from lateen.mixer.check_server import SERVICE, CheckServer, Knowledge
from lateen.mixer.engine import Engine
from lateen.mixer.handler import Handler
from lateen.mixer.handlers import Handlers
from lateen.mixer.order import Place
from lateen.mixer.reach import Reach
from lateen.mixer.templates import Instance
from tests.unit.plan.building import resources

HEAD = "apiVersion: config.istio.io/v1alpha2\n"
DECIDED = f"""
{HEAD}kind: handler
metadata: {{name: slow}}
spec: {{compiledAdapter: noop}}
---
{HEAD}kind: instance
metadata: {{name: nothing}}
spec: {{compiledTemplate: checknothing}}
---
{HEAD}kind: rule
metadata: {{name: asked}}
spec: {{actions: [{{handler: slow, instances: [nothing]}}]}}
"""
COUNTED = f"""
{HEAD}kind: handler
metadata: {{name: counter}}
spec: {{compiledAdapter: memquota, params: {{quotas: [{{name: used, maxAmount: 2, validDuration: 1h}}]}}}}
---
{HEAD}kind: instance
metadata: {{name: used}}
spec: {{compiledTemplate: quota}}
---
{HEAD}kind: rule
metadata: {{name: counted}}
spec: {{actions: [{{handler: counter, instances: [used]}}]}}
---
{HEAD}kind: QuotaSpec
metadata: {{name: all}}
spec: {{rules: [{{quotas: [{{quota: used}}]}}]}}
---
{HEAD}kind: QuotaSpecBinding
metadata: {{name: all}}
spec: {{services: [{{service: "*"}}], quotaSpecs: [{{name: all}}]}}
"""


class Waiting(CheckAdapter):
    """Answers once it is told to."""

    def __init__(self) -> None:
        self.called, self.go = asyncio.Event(), asyncio.Event()

    async def check(self, instance: Instance) -> CheckResult:
        self.called.set()
        await self.go.wait()
        return CheckResult()


async def serving(text: str, own: Mapping[str, Adapter], ask: Any) -> Any:
    """What ``ask`` makes of a server of checks and a way to ask it."""
    by_kind: dict[str, list[Any]] = {}
    for resource in resources(text):
        by_kind.setdefault(resource.key.kind, []).append(resource)
    rules, _ = resolve(by_kind, "default")
    handlers = Handlers(Reach().web)
    await handlers.follow(rules, fail_open=False)
    made = {name: Handler(name, adapter, deadline=10, fail_open=False) for name, adapter in own.items()}
    place = Place({"destination.namespace": "default", "destination.service.host": "a"})
    served = CheckServer(Knowledge(Engine(rules, {**handlers.running, **made}), {"p": place}))
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        server, socket = grpc.aio.server(), f"unix:{Path(folder) / 's'}"
        server.add_generic_rpc_handlers((served.handler(),))
        server.add_insecure_port(socket)
        await server.start()
        async with grpc.aio.insecure_channel(socket) as channel:
            call = channel.unary_unary(f"/{SERVICE}/Check", None, external_auth_pb2.CheckResponse.FromString)
            try:
                return await ask(served, call)
            finally:
                await server.stop(0)


def test_checks_beyond_a_number_are_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check_server, "MOST_AT_ONCE", 1)
    metadata = (("lateen-proxy", "p"),)

    async def scenario() -> None:
        slow = Waiting()

        async def ask(served: CheckServer, call: Any) -> None:
            first = call(b"", metadata=metadata)
            await slow.called.wait()
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call(b"", metadata=metadata)
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            slow.go.set()
            assert (await first).status.code == 0
            assert (await call(b"", metadata=metadata)).status.code == 0
            assert (served.tally.checks, served.tally.shed, served.tally.failed) == (3, 1, 0)

        await serving(DECIDED, {"slow.default": slow}, ask)

    asyncio.run(scenario())


def test_what_is_asked_for_again_is_charged_once() -> None:
    async def ask(served: CheckServer, call: Any) -> list[int]:
        request = external_auth_pb2.CheckRequest()
        request.attributes.request.http.method = "GET"
        data = request.SerializeToString()
        found = []
        for name in ("one", "one", "one", "two", "two", "three", ""):
            metadata = (("lateen-proxy", "p"), ("lateen-asked", name))
            found.append((await call(data, metadata=metadata)).status.code)
        return found

    assert asyncio.run(serving(COUNTED, {}, ask)) == [0, 0, 0, 0, 0, 8, 8]
