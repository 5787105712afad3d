"""Small gRPC servers that say who they are, and a client for them: bytes in, bytes out, no generated code."""

from __future__ import annotations

import concurrent.futures
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator

import grpc

METHOD = "/test.Names/Say"
STREAM = "/test.Names/SayTwice"


class GrpcServer:
    """Answers each call with its name, after some time; in a stream, each message twice."""

    def __init__(self, name: str, seconds: float = 0.0, address: str = "127.0.0.1:0") -> None:
        self.calls = 0
        server = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
                if details.method == STREAM:
                    return grpc.stream_stream_rpc_method_handler(stream)
                return grpc.unary_unary_rpc_method_handler(answer) if details.method == METHOD else None

        def stream(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
            for request in requests:
                yield from (answer(request, context) for _ in range(2))

        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            server.calls += 1
            time.sleep(seconds)
            return name.encode() + request

        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(4))
        self._server.add_generic_rpc_handlers((Handler(),))
        self.port: int = self._server.add_insecure_port(address)

    def __enter__(self) -> GrpcServer:
        self._server.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.stop(0).wait()


def said(address: str, port: int, authority: str, times: int = 1) -> list[bytes]:
    """The answers to some calls, all on one connection."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{address}:{port}", options) as channel:
        call = channel.unary_unary(METHOD)
        return [call(b"", timeout=5) for _ in range(times)]


def given_up(address: str, port: int, authority: str, begun: Callable[[], bool]) -> None:
    """A call that is cancelled before its answer, as soon as it has ``begun``."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{address}:{port}", options) as channel:
        call = channel.unary_unary(METHOD).future(b"")
        while not begun():
            assert not call.done()
        call.cancel()


def said_at_once(address: str, port: int, authority: str, times: int) -> list[bytes]:
    """The answers to calls that run side by side on one connection."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{address}:{port}", options) as channel:
        calls = [channel.unary_unary(METHOD).future(b"", timeout=5) for _ in range(times)]
        return [call.result() for call in calls]


def streamed(address: str, port: int, authority: str, messages: Iterable[bytes], most: int) -> list[bytes]:
    """The answers in one stream; it is broken off after ``most`` of them."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    found: list[bytes] = []
    with grpc.insecure_channel(f"{address}:{port}", options) as channel, contextlib.suppress(grpc.RpcError):
        call = channel.stream_stream(STREAM)(iter(messages), timeout=5)
        for answer in call:
            found.append(answer)
            if len(found) == most:
                call.cancel()
    return found
