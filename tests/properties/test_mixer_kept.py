"""What the mixer says of requests that the real Envoy asks about, and what proxies keep of it, is what rules say."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest

from lateen.expressions.check import check
from lateen.expressions.evaluate import compile_match
from lateen.expressions.language import parse_as
from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.check_bag import CheckBag
from lateen.mixer.check_server import CheckServer, Knowledge
from lateen.mixer.engine import Engine
from lateen.mixer.handlers import Handlers
from lateen.mixer.order import Place
from lateen.mixer.reach import Reach
from lateen.plan.matching import RouteMatch
from lateen.plan.mixer.model import MixerCheck
from lateen.plan.mixer.rules import mixer_parts
from lateen.plan.model import HttpChain, Listener
from lateen.plan.routes import DirectResponse, Route, RouteTable, VirtualHost
from lateen.plan.tls import ServerTls
from lateen.values.names import BUILT_IN
from tests.envoy.harness import Authority, free_port, listening, running
from tests.golden.plan_to_envoy.cases import plan_of
from tests.properties.length import is_long
from tests.properties.test_mixer_agreement import TLS, Client, Written, request_of
from tests.unit.plan.building import resources

pytestmark = pytest.mark.timeout(3600)
SEEDS = range(100, 130 if is_long() else 101)
MORE = (
    'request.query_params["x"] == "a"',
    'request.headers[request.method] == "a"',
    'request.headers[request.headers["x-a"] | "x-b"] == "ab"',
    '(request.size | 0) > 2 || request.headers["x-a"] == "a"',
    'size(request.headers["x-a"]) == size(request.path)',
    'conditional(connection.mtls, request.headers["x-a"] | "", request.host) == "a"',
    'request.time < timestamp("2999-01-01T00:00:00Z") && request.headers["x-b"] == "b"',
)
SOME, REQUESTS, ROUNDS = (20, 12, 3) if is_long() else (6, 6, 3)
HEAD = {"apiVersion": "config.istio.io/v1alpha2"}


def documents(texts: list[tuple[str, str]]) -> str:
    """Each expression refuses in a namespace of its own."""
    found: list[dict[str, Any]] = []
    for number, (text, language) in enumerate(texts):
        place = {"namespace": f"r{number}"}
        denier = {"compiledAdapter": "denier", "params": {"status": {"code": 10, "message": "x"}, "validUseCount": 2}}
        action = {"handler": "here", "instances": ["nothing"]}
        found += [
            {**HEAD, "kind": "handler", "metadata": {"name": "here", **place}, "spec": denier},
            {
                **HEAD,
                "kind": "instance",
                "metadata": {"name": "nothing", **place},
                "spec": {"compiledTemplate": "checknothing"},
            },
            {
                **HEAD,
                "kind": "rule",
                "metadata": {"name": "rule", **place, "annotations": {"policy.istio.io/lang": language}},
                "spec": {"match": text, "actions": [action]},
            },
        ]
    return "---\n".join(json.dumps(one) + "\n" for one in found)


def rules_of(texts: list[tuple[str, str]]) -> MixerRules:
    by_kind: dict[str, list[Any]] = {}
    for resource in resources(documents(texts)):
        by_kind.setdefault(resource.key.kind, []).append(resource)
    rules, findings = resolve(by_kind, "istio-system")
    assert findings == ()
    return rules


@contextlib.contextmanager
def mixer(rules: MixerRules, socket: str) -> Iterator[CheckServer]:
    """A server of checks in a thread of its own."""
    loop, ready = asyncio.new_event_loop(), threading.Event()
    made: list[Any] = []

    async def start() -> None:
        handlers = Handlers(Reach().web)
        await handlers.follow(rules, fail_open=False)
        places = {f"p{number}": Place({"destination.namespace": f"r{number}"}) for number in range(len(rules.rules))}
        served = CheckServer(Knowledge(Engine(rules, handlers.running), places))
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((served.handler(),))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        made.extend((served, server))
        ready.set()

    def run() -> None:
        loop.run_until_complete(start())
        loop.run_forever()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    assert ready.wait(20)
    try:
        yield made[0]
    finally:
        asyncio.run_coroutine_threadsafe(made[1].stop(0), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)


def asking(number: int, port: int, tls: ServerTls | None) -> Listener:
    host = VirtualHost("all", ("*",), (Route("all", RouteMatch(), DirectResponse(200, b""), BUILT_IN),), BUILT_IN)
    check_ = MixerCheck(f"p{number}", port, timeout=20.0, generation="g")
    found = listening(
        port, HttpChain("x", inline=RouteTable(f"{number}-{port}", (host,)), mixer=check_), "inbound", tls
    )
    return Listener(f"{number}-{port}", found.bind, "inbound", found.chains, BUILT_IN)


@pytest.mark.parametrize("seed", SEEDS)
def test_what_is_asked_and_what_is_kept_is_what_the_rules_say(seed: int) -> None:
    written, authority = Written(seed), Authority()
    texts = [*itertools.islice(written.texts(), SOME), *((text, "CEXL") for text in MORE)]
    rules = rules_of(texts)
    matches = [compile_match(check(text, parse_as(language, text, match=True))[0]) for text, language in texts]
    free: dict[int, None] = {}
    while len(free) < 2 * len(texts):
        free[free_port()] = None
    ports = list(zip(*[iter(free)] * 2, strict=True))
    listeners = tuple(
        asking(number, port, tls)
        for number, pair in enumerate(ports)
        for port, tls in zip(pair, (None, TLS), strict=True)
    )
    client, requests = Client(authority), written.requests()[:REQUESTS]
    calls = [(number, asked) for number in range(len(texts)) for asked in requests] * ROUNDS
    random.Random(seed).shuffle(calls)
    with tempfile.TemporaryDirectory(prefix="lt-") as folder, mixer(rules, f"{folder}/m") as served:
        plan = plan_of(listeners, (), *mixer_parts(listeners, f"{folder}/m"))
        with running(plan, authority.issue("spiffe://cluster.local/ns/default/sa/server")):
            for number, asked in calls:
                wanted = matches[number](CheckBag(request_of(asked), {}, {}))
                assert client.is_refused(ports[number], asked, b"ABORTED:here.r%d:x" % number) is wanted, (
                    texts[number],
                    asked,
                )
        assert served.tally.failed == 0
        assert served.tally.checks < 0.8 * len(calls), "some answers were kept"
