"""Small gRPC servers that say who they are, and a client for them: bytes in, bytes out, no generated code."""

from __future__ import annotations

import concurrent.futures
import time

import grpc

METHOD = "/test.Names/Say"


class GrpcServer:
    """Answers each call with its name, after some time."""

    def __init__(self, name: str, seconds: float = 0.0, address: str = "127.0.0.1:0") -> None:
        self.calls = 0
        server = self

        class Handler(grpc.GenericRpcHandler):
            def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
                return grpc.unary_unary_rpc_method_handler(answer) if details.method == METHOD else None

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


def said_at_once(address: str, port: int, authority: str, times: int) -> list[bytes]:
    """The answers to calls that run side by side on one connection."""
    options = [("grpc.default_authority", authority), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(f"{address}:{port}", options) as channel:
        calls = [channel.unary_unary(METHOD).future(b"", timeout=5) for _ in range(times)]
        return [call.result() for call in calls]
