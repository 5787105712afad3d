"""What rules of Mixer cost: an expression, a check, a report, and a request whose answer the proxy has kept.

    python benchmarks/mixer.py --seconds 3

Each figure stands beside a yardstick of the same run: an expression beside the same test written in Python, a check
beside a gRPC server that answers with constant bytes, a report beside reading the same messages and nothing else, and a
request through a proxy with kept answers beside one through the same proxy without rules, and with rules that are
decided in the proxy.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import http.client
import json
import multiprocessing
import statistics
import tempfile
import time
import timeit
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from envoy.service.accesslog.v3 import als_pb2
from envoy.service.auth.v3 import external_auth_pb2

from lateen.expressions.check import check
from lateen.expressions.evaluate import MapBag, compile_match
from lateen.expressions.parse import parse
from lateen.mesh.mixer.model import MixerRules
from lateen.mesh.mixer.resolve import resolve
from lateen.mixer.check_server import SERVICE, CheckServer, Knowledge
from lateen.mixer.engine import Engine
from lateen.mixer.handlers import Handlers
from lateen.mixer.reach import Reach
from lateen.mixer.report_bag import ReportBag
from lateen.plan.access.model import Not
from lateen.plan.limits.model import BucketKey, Charged, KeyKind, LimitRule
from lateen.plan.matching import RouteMatch
from lateen.plan.mixer.compile import holds
from lateen.plan.mixer.model import MixerCheck, MixerDenial
from lateen.plan.mixer.rules import mixer_parts
from lateen.plan.model import HttpChain, Listener
from lateen.plan.routes import DirectResponse, Route, RouteTable, VirtualHost
from lateen.values.names import BUILT_IN
from tests.envoy.harness import Authority, free_port, listening, running
from tests.golden.plan_to_envoy.cases import plan_of
from tests.unit.plan.building import resources

METHOD = f"/{SERVICE}/Check"
MUCH = 1_000_000_000
MATCH = 'request.headers["x-user"] == "mallory" && request.path.startsWith("/admin")'
RULES = f"""
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: list}}
spec: {{compiledAdapter: listchecker, params: {{overrides: [a, b, c]}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: agent}}
spec: {{compiledTemplate: listentry, params: {{value: request.useragent | "a"}}}}
---
apiVersion: config.istio.io/v1alpha2
kind: handler
metadata: {{name: nothing}}
spec: {{compiledAdapter: noop}}
---
apiVersion: config.istio.io/v1alpha2
kind: instance
metadata: {{name: count}}
spec:
  compiledTemplate: metric
  params:
    value: response.duration | "0ms"
    dimensions: {{code: response.code | 0, path: request.path, from: source.principal | "unknown"}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: checks}}
spec: {{match: {json.dumps(f"!({MATCH})")}, actions: [{{handler: list, instances: [agent]}}]}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {{name: reports}}
spec: {{actions: [{{handler: nothing, instances: [count]}}]}}
"""


def rules() -> MixerRules:
    by_kind: dict[str, list[Any]] = {}
    for resource in resources(RULES):
        by_kind.setdefault(resource.key.kind, []).append(resource)
    found, findings = resolve(by_kind, "default")
    assert len(found.rules) == 2, findings
    return found


async def knowledge() -> Knowledge:
    found, handlers = rules(), Handlers(Reach().web)
    await handlers.follow(found, fail_open=False)
    return Knowledge(Engine(found, handlers.running))


# --- an expression ---------------------------------------------------------------------------------------------------


def expression() -> dict[str, float]:
    matches = compile_match(check(MATCH, parse(MATCH))[0])
    values = {"request.headers": {"x-user": "mallory"}, "request.path": "/admin/x"}
    bag = MapBag(values)

    def by_hand() -> bool:
        headers: Any = values["request.headers"]
        path: Any = values["request.path"]
        return headers.get("x-user") == "mallory" and path.startswith("/admin")

    times = 200_000
    ours, theirs = (min(timeit.repeat(one, number=times, repeat=3)) / times for one in (lambda: matches(bag), by_hand))
    return {"us": round(ours * 1e6, 2), "of_python": round(ours / theirs, 1)}


# --- checks ----------------------------------------------------------------------------------------------------------


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    def service(self, details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return b""

        return grpc.unary_unary_rpc_method_handler(answer, bytes, bytes)


def serve(kind: str, socket: str) -> None:
    async def run() -> None:
        server = grpc.aio.server()
        handler = Echo() if kind == "echo" else CheckServer(await knowledge()).handler()
        server.add_generic_rpc_handlers((handler,))
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


@contextlib.contextmanager
def server(kind: str, socket: Path) -> Iterator[psutil.Process]:
    process = multiprocessing.get_context("spawn").Process(target=serve, args=(kind, str(socket)), daemon=True)
    process.start()
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.join(10)


def question() -> bytes:
    message = external_auth_pb2.CheckRequest()
    request = message.attributes.request.http
    request.method, request.path, request.host = "GET", "/reviews/0?user=x", "reviews:9080"
    for name, value in (("user-agent", "a"), ("x-user", "jason"), ("accept", "*/*"), ("x-request-id", "1-2-3")):
        request.headers[name] = value
    message.attributes.source.principal = "spiffe://cluster.local/ns/default/sa/productpage"
    bytes_: bytes = message.SerializeToString()
    return bytes_


async def asked(socket: Path, seconds: float, opened: int) -> int:
    """How many were answered."""
    text, count = question(), 0
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(METHOD, bytes, bytes)
        await channel.channel_ready()
        started = time.perf_counter()

        async def one() -> None:
            nonlocal count
            while time.perf_counter() - started < seconds:
                await ask(text)
                count += 1

        await asyncio.gather(*(one() for _ in range(opened)))
        return count


def busy(process: psutil.Process) -> float:
    """The processor's time that a process has used, in seconds."""
    times = process.cpu_times()
    return float(times.user + times.system)


def checks(folder: Path, seconds: float) -> dict[str, float]:
    """Answers for each second that the server's processor is busy: so many may be asked of one process."""
    with server("check", folder / "c.sock") as ours, server("echo", folder / "e.sock") as theirs:
        costs: dict[str, list[float]] = {"c": [], "e": []}
        for _ in range(3):
            for (name, found), process in zip(costs.items(), (ours, theirs), strict=True):
                asyncio.run(asked(folder / f"{name}.sock", 0.2, 32))
                before = busy(process)
                answered = asyncio.run(asked(folder / f"{name}.sock", seconds, 32))
                found.append((busy(process) - before) / answered)
    check, echo = (statistics.median(costs[name]) for name in "ce")
    return {"a_cpu_second": round(1 / check), "us": round(check * 1e6), "of_echo": round(check / echo, 2)}


# --- reports ---------------------------------------------------------------------------------------------------------


def message_of(count: int) -> bytes:
    message = als_pb2.StreamAccessLogsMessage()
    for number in range(count):
        entry = message.http_logs.log_entry.add()
        entry.request.path, entry.request.authority = f"/reviews/{number}", "reviews:9080"
        entry.response.response_code.value = 200
        entry.common_properties.duration.nanos = 3_000_000
        name = entry.common_properties.tls_properties.peer_certificate_properties.subject_alt_name.add()
        name.uri = "spiffe://cluster.local/ns/default/sa/productpage"
    data: bytes = message.SerializeToString()
    return data


def reports(seconds: float) -> dict[str, float]:
    """Entries for each second of the processor's time."""
    data, each = message_of(250), 250
    engine = asyncio.run(knowledge()).engine

    def read() -> Any:
        return als_pb2.StreamAccessLogsMessage.FromString(data).http_logs.log_entry

    loop = asyncio.new_event_loop()

    async def all_of(entries: Any) -> None:
        for entry in entries:
            await engine.report(ReportBag(entry, {"destination.namespace": "default"}, {}))

    def report() -> None:
        loop.run_until_complete(all_of(read()))

    def rate(work: Callable[[], Any]) -> float:
        began, count = time.process_time(), 0
        while time.process_time() - began < seconds:
            work()
            count += each
        return count / (time.process_time() - began)

    ours, theirs = rate(report), rate(lambda: [entry.request.path for entry in read()])
    return {"a_cpu_second": round(ours), "of_reading": round(ours / theirs, 3), "cores_at_1000": round(1000 / ours, 3)}


# --- kept answers ----------------------------------------------------------------------------------------------------


def chain(number: int, port: int, *, kept: bool = False, compiled: bool = False, counted: bool = False) -> Listener:
    host = VirtualHost("all", ("*",), (Route("all", RouteMatch(), DirectResponse(200, b"ok"), BUILT_IN),), BUILT_IN)
    condition = holds(check(MATCH, parse(MATCH))[0])
    keys, charged = (BucketKey(KeyKind.HEADER, ("x-user",)),), (Charged(Not(condition)),)
    limit = LimitRule("mixer:x/x", BUILT_IN, MUCH, 1.0, MUCH, keys=keys, charged=charged)
    action = HttpChain(
        "x",
        inline=RouteTable(f"table-{number}", (host,)),
        mixer=MixerCheck("p", port, generation="g" if kept else ""),
        denials=(MixerDenial("mixer-r:x", "r", 403, "no", condition, BUILT_IN),) if compiled else (),
        limits=(limit,) if counted else (),
    )
    found = listening(port, action, "inbound")
    return Listener(f"l-{number}", found.bind, "inbound", found.chains, BUILT_IN)


def latency(port: int, times: int, *, anew: bool = False) -> list[float]:
    """Seconds of each request; ``anew``: no two of them are alike, so that no kept answer is for one."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    found = []
    for _ in range(times):
        path = f"/reviews/{time.perf_counter_ns()}" if anew else "/reviews/0"
        started = time.perf_counter()
        connection.request("GET", path, headers={"user-agent": "a", "x-user": "mallory" if anew else "jason"})
        connection.getresponse().read()
        found.append(time.perf_counter() - started)
    connection.close()
    return found


def kept(folder: Path) -> dict[str, float]:
    """Medians of what each way adds to a request, in microseconds."""
    ports = {name: free_port() for name in ("none", "compiled", "counted", "kept", "asked")}
    listeners = (
        chain(0, ports["none"]),
        chain(1, ports["compiled"], compiled=True),
        chain(2, ports["counted"], counted=True),
        chain(3, ports["kept"], kept=True),
        chain(4, ports["asked"], kept=True),
    )
    socket = folder / "m.sock"
    clusters, endpoints = mixer_parts(listeners, str(socket))
    with server("check", socket), running(plan_of(listeners, (), clusters, endpoints), Authority().issue("x")):
        while not socket.exists():
            time.sleep(0.05)
        rounds: dict[str, list[float]] = {name: [] for name in ports}
        for _ in range(10):
            for name, port in ports.items():
                rounds[name] += latency(port, 500, anew=name == "asked")
    medians = {name: statistics.median(found) * 1e6 for name, found in rounds.items()}
    tails = {name: statistics.quantiles(found, n=100)[98] * 1e6 for name, found in rounds.items()}
    return {
        "none_us": round(medians["none"], 1),
        **{f"{name}_of_none": round(medians[name] / medians["none"], 2) for name in ports if name != "none"},
        **{f"{name}_adds_us": round(medians[name] - medians["none"], 1) for name in ports if name != "none"},
        "kept_adds_us_p99": round(tails["kept"] - tails["none"], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lt-") as name:
        folder = Path(name)
        result = {
            "expression": expression(),
            "check": checks(folder, options.seconds),
            "report": reports(options.seconds),
            "kept": kept(folder),
        }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
