"""How many decisions on limits one process makes, in memory and on a real Redis.

    python benchmarks/quota.py --seconds 3 --rounds 3

Each kind of server runs in a process of its own on a Unix socket and is asked by a client that keeps so many questions
open; the yardstick is a server of the same make that answers with constant bytes. Rounds of the kinds follow each other
in turn, so that a machine that is busy for a while is busy for all. Beside decisions a second stand those for each
second of the server's own processor time, in which the client has no part, and the time that a question takes.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import psutil
from envoy.service.ratelimit.v3 import rls_pb2

from lateen.mixer.counters import Counter, MemoryCounter
from lateen.mixer.quota_server import METHOD, QuotaServer
from lateen.mixer.redis_quota import RedisCounter
from tests.redis_support import redis_server

WINDOW = "bucket 1000000 1000000 1"
KEYS = 1000
ANSWER = rls_pb2.RateLimitResponse(overall_code=rls_pb2.RateLimitResponse.OK).SerializeToString()


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers with constant bytes."""

    def service(self, details: Any) -> Any:
        async def answer(request: bytes, context: Any) -> bytes:
            return ANSWER

        return grpc.unary_unary_rpc_method_handler(answer, bytes, bytes)


def serve(kind: str, socket: str, redis: str) -> None:
    """A server until it is ended."""

    async def run() -> None:
        server = grpc.aio.server()
        if kind == "echo":
            server.add_generic_rpc_handlers((Echo(),))
        else:
            counter: Counter = RedisCounter(redis, timeout=10) if kind == "redis" else MemoryCounter()
            QuotaServer(counter).add_to(server)
        server.add_insecure_port(f"unix:{socket}")
        await server.start()
        await server.wait_for_termination()

    asyncio.run(run())


@contextlib.contextmanager
def servers(folder: Path, redis: str) -> Iterator[dict[str, psutil.Process]]:
    """The processes by the kind of server."""
    context = multiprocessing.get_context("spawn")
    running = {
        kind: context.Process(target=serve, args=(kind, str(folder / f"{kind}.sock"), redis), daemon=True)
        for kind in ("echo", "memory", "redis")
    }
    for process in running.values():
        process.start()
    try:
        yield {kind: psutil.Process(process.pid) for kind, process in running.items()}
    finally:
        for process in running.values():
            process.terminate()
            process.join(10)


def questions() -> list[bytes]:
    """One for each client, ready to be sent."""
    found = []
    for number in range(KEYS):
        message = rls_pb2.RateLimitRequest(domain="lateen")
        descriptor = message.descriptors.add()
        client = f"spiffe://cluster.local/ns/default/sa/client-{number}"
        for key, value in (("rule", "default/shop/0"), ("window", WINDOW), ("lateen.bucket.peer", client)):
            descriptor.entries.add(key=key, value=value)
        found.append(message.SerializeToString())
    return found


async def asked(socket: Path, process: psutil.Process, seconds: float, opened: int) -> dict[str, float]:
    """Keep so many questions open for a while."""
    texts, times = questions(), list[float]()
    async with grpc.aio.insecure_channel(f"unix:{socket}") as channel:
        ask = channel.unary_unary(METHOD, bytes, bytes)
        await channel.channel_ready()
        end = time.perf_counter() + seconds
        before, started = process.cpu_times(), time.perf_counter()

        async def one(number: int) -> None:
            while (began := time.perf_counter()) < end:
                await ask(texts[number % KEYS])
                times.append(time.perf_counter() - began)
                number += 7

        await asyncio.gather(*(one(number) for number in range(opened)))
        took, after = time.perf_counter() - started, process.cpu_times()
    used = after.user + after.system - before.user - before.system
    cuts = statistics.quantiles(times, n=100)
    return {
        "a_second": len(times) / took,
        "a_cpu_second": len(times) / used,
        "p50_ms": cuts[49] * 1000,
        "p99_ms": cuts[98] * 1000,
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--open", type=int, default=32)
    options = parser.parse_args()
    rounds: dict[str, list[dict[str, float]]] = {"echo": [], "memory": [], "redis": []}
    with (
        tempfile.TemporaryDirectory(prefix="lt-") as name,
        redis_server() as redis,
        servers(Path(name), redis.url) as running,
    ):
        for number in range(options.rounds + 1):
            for kind, process in running.items():
                seconds = options.seconds if number else 0.5  # the first one is for warming up
                found = asyncio.run(asked(Path(name) / f"{kind}.sock", process, seconds, options.open))
                if number:
                    rounds[kind].append(found)
    result: dict[str, Any] = {
        kind: {field: round(statistics.median(one[field] for one in found), 2) for field in found[0]}
        for kind, found in rounds.items()
    }
    for kind in ("memory", "redis"):
        for field in ("a_second", "a_cpu_second"):
            result[kind][f"{field}_of_echo"] = round(result[kind][field] / result["echo"][field], 3)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
