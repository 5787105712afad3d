"""A check that fails is made again, as annotations say, and known to be the same, so that nothing is charged twice."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from lateen.plan.matching import RouteMatch
from lateen.plan.mixer.model import MixerCheck
from lateen.plan.mixer.rules import mixer_parts
from lateen.plan.model import HttpChain
from lateen.plan.routes import DirectResponse, Route, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN
from tests.envoy.harness import Authority, free_port, listening, running
from tests.golden.plan_to_envoy.cases import plan_of


class Unreliable(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers every third call alone, and notes under which id it is asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def service(self, details: Any) -> Any:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            told = dict(context.invocation_metadata())
            self.asked.append(str(told.get("lateen-asked", "")))
            if len(self.asked) % 3:
                context.abort(grpc.StatusCode.UNAVAILABLE, "later")
            return b""

        return grpc.unary_unary_rpc_method_handler(answer, bytes, bytes)


@contextlib.contextmanager
def asking(retries: int) -> Iterator[tuple[int, Unreliable]]:
    handler, port = Unreliable(), free_port()
    server = grpc.server(ThreadPoolExecutor(2), handlers=(handler,))
    with tempfile.TemporaryDirectory(prefix="lt-") as folder:
        socket = str(Path(folder) / "mixer.sock")
        server.add_insecure_port(f"unix:{socket}")
        server.start()
        host = VirtualHost("all", ("*",), (Route("all", RouteMatch(), DirectResponse(200, b""), BUILT_IN),), BUILT_IN)
        check = MixerCheck("p", port, timeout=5.0, retries=retries, waits=(0.01, 0.02), generation="g")
        listener = listening(port, HttpChain("x", inline=RouteTable("t", (host,)), mixer=check), "inbound")
        plan = plan_of((listener,), (), *mixer_parts((listener,), socket))
        try:
            with running(plan, Authority().issue("spiffe://cluster.local/ns/default/sa/server")):
                yield port, handler
        finally:
            server.stop(0).wait()


def statuses(port: int, count: int) -> list[int]:
    found = []
    for _ in range(count):
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        connection.request("GET", "/")
        found.append(connection.getresponse().status)
        connection.close()
    return found


@pytest.mark.parametrize(("retries", "wanted"), [(2, [200, 200, 200]), (0, [503, 503, 200])])
def test_a_check_that_fails_is_made_again(retries: int, wanted: list[int]) -> None:
    with asking(retries) as (port, handler):
        assert statuses(port, 3) == wanted
        ids = [name for name, _ in itertools.groupby(handler.asked)]
    assert len(handler.asked) == 9 if retries else 3
    assert len(set(ids)) == len(ids) == 3 if retries else ids == [""]
