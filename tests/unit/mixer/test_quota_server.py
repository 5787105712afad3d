"""The RateLimitService over a real gRPC connection: verdicts, what is told of each limit, errors."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import grpc
import grpc.aio
import pytest
from envoy.service.ratelimit.v3 import rls_pb2

from lateen.mixer.counters import Asked, CounterError, MemoryCounter
from lateen.mixer.quota_server import METHOD, QuotaServer, read_window
from lateen.mixer.windows import FixedWindow, Grant, RollingWindow, TokenBucket

OK, OVER = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT
Ask = Callable[[Any], Awaitable[Any]]
_T = TypeVar("_T")


def request(*descriptors: dict[str, str], addend: int = 0) -> Any:
    message = rls_pb2.RateLimitRequest(domain="lateen", hits_addend=addend)
    for entries in descriptors:
        one = message.descriptors.add()
        for key, value in entries.items():
            one.entries.add(key=key, value=value)
    return message


def limit(rule: str, window: str, **more: str) -> dict[str, str]:
    return {"rule": rule, "window": window, **more}


def asking(test: Callable[[Ask], Awaitable[_T]], counter: Any = None) -> _T:
    async def run() -> _T:
        with tempfile.TemporaryDirectory(prefix="lt-") as name:
            path = Path(name) / "quota.sock"
            server, quotas = grpc.aio.server(), QuotaServer(counter or MemoryCounter())
            quotas.add_to(server)
            server.add_insecure_port(f"unix:{path}")
            await server.start()
            async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
                ask = channel.unary_unary(
                    METHOD, lambda message: message.SerializeToString(), rls_pb2.RateLimitResponse.FromString
                )
                result = await test(ask)
            await server.stop(None)
            await quotas.close()
            return result

    return asyncio.run(run())


def test_each_key_has_a_bucket_and_the_verdict_is_on_the_whole() -> None:
    async def test(ask: Ask) -> None:
        ann, bob = (limit("a/b/0", "bucket 2 10 60", client=name) for name in ("ann", "bob"))
        first = await ask(request(ann))
        assert (first.overall_code, first.statuses[0].limit_remaining) == (OK, 1)
        assert first.statuses[0].current_limit.requests_per_unit == 10
        assert first.statuses[0].current_limit.unit == rls_pb2.RateLimitResponse.RateLimit.MINUTE
        assert (await ask(request(ann))).overall_code == OK
        both = await ask(request(ann, bob))
        assert both.overall_code == OVER
        assert [status.code for status in both.statuses] == [OVER, OK]
        assert 0 < both.statuses[0].duration_until_reset.seconds <= 6
        headers = {header.key: header.value for header in both.response_headers_to_add}
        assert headers == {"x-lateen-rate-limit": "a/b/0", "retry-after": "6"}

    asking(test)


def test_amounts_and_trials() -> None:
    async def test(ask: Ask) -> None:
        fixed = limit("a/b/0", "fixed 10 3600")
        assert (await ask(request(fixed, addend=6))).statuses[0].limit_remaining == 4
        assert (await ask(request(fixed, addend=6))).overall_code == OVER
        own = request(fixed)
        own.descriptors[0].hits_addend.value = 4
        assert (await ask(own)).statuses[0].limit_remaining == 0
        tried = limit("a/b/1", "rolling 1 60 1", trial="yes")
        assert [(await ask(request(tried))).overall_code for _ in range(3)] == [OK] * 3

    asking(test)


@pytest.mark.parametrize(
    "message",
    [
        request(),
        request({"rule": "a"}),
        request({"window": "fixed 1 1"}),
        request(limit("a", "fixed 0 1")),
        request(limit("a", "bucket 1 0.5 1")),
        request(limit("a", "fixed 1")),
        request(limit("a", "rolling 1 inf 1")),
        request(limit("a", "heap 1 1")),
        request(limit("a", "fixed 1 1", key="x" * 9000)),
    ],
)
def test_what_says_no_limit_is_an_error(message: Any) -> None:
    async def test(ask: Ask) -> Any:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await ask(message)
        return raised.value.code()

    assert asking(test) is grpc.StatusCode.INVALID_ARGUMENT


class Broken:
    async def take(self, asked: Sequence[Asked]) -> list[Grant]:
        raise CounterError("nothing answers")

    async def close(self) -> None:
        pass


def test_what_cannot_be_counted_is_an_error() -> None:
    async def test(ask: Ask) -> Any:
        with pytest.raises(grpc.aio.AioRpcError, match="nothing answers") as raised:
            await ask(request(limit("a", "fixed 1 1")))
        return raised.value.code()

    assert asking(test, Broken()) is grpc.StatusCode.UNAVAILABLE


def test_windows_as_they_are_written() -> None:
    assert read_window("bucket 20 100 60") == TokenBucket(20, 100, 60.0)
    assert read_window("fixed 10 0.5") == FixedWindow(10, 0.5)
    assert read_window("rolling 10 60 1") == RollingWindow(10, 60.0, 1.0)
