"""The gRPC shell: streams of bytes on Unix sockets around the sessions.

Comes in: calls of Envoys. Goes out: what their sessions say. Each stream has one reader and one writer; the writer
asks the session for one response at a time, so that a slow client finds the newest state and never a queue. A stream
that fails, stalls or breaks a limit ends alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import stat
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import msgspec
from envoy.service.discovery.v3 import discovery_pb2
from google.protobuf.message import DecodeError

from lateen.envoy.resources import SECRET
from lateen.xds.cache import ResourceCache
from lateen.xds.session import DeltaSession, SessionOptions, SessionRefused, WorldSession, XdsSession
from lateen.xds.status import StatusBoard
from lateen.xds.subscription import Rejection

ADS_SERVICE = "envoy.service.discovery.v3.AggregatedDiscoveryService"
SDS_SERVICE = "envoy.service.secret.v3.SecretDiscoveryService"
LARGE_BACKLOG = 100
"""More changed names than this make a response large."""
Authenticate = Callable[[str], str | None]
logger = logging.getLogger(__name__)


class ServerLimits(msgspec.Struct, frozen=True):
    """What a server bears. Sizes in bytes, times in seconds.

    ``large_writes`` bounds how many large responses are in memory at once, ``write_timeout`` how long a client may
    leave one unread. ``streams_per_connection`` and ``unread_time`` (whole seconds) bound what a flood of calls can
    leave in memory.
    """

    max_request: int = 16 * 1024 * 1024
    max_metadata: int = 16 * 1024
    streams_per_proxy: int = 64
    streams_per_connection: int = 10
    unread_time: int = 5
    large_writes: int = 32
    write_timeout: float = 60.0
    keepalive_interval: float = 30.0
    keepalive_timeout: float = 10.0


class _Refusal(Exception):
    def __init__(self, code: grpc.StatusCode, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _DiscoveryServer:
    """One gRPC server on one Unix socket."""

    def __init__(
        self,
        cache: ResourceCache,
        identify: Callable[[Any], str],
        status: StatusBoard,
        *,
        methods: tuple[str, str],
        options: SessionOptions,
        limits: ServerLimits,
        on_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        self._cache = cache
        self._on_quiet = on_quiet
        self._identify = identify
        self._status = status
        self._methods = methods
        self._options = options
        self._limits = limits
        self._streams: Counter[str] = Counter()
        self._large = asyncio.Semaphore(limits.large_writes)
        self._server: grpc.aio.Server | None = None

    async def start(self, uds_path: Path, beside: Sequence[grpc.GenericRpcHandler] = ()) -> None:
        """Listen on a Unix socket that only its owner may open; a socket left behind there is replaced.

        ``beside``: other services that are served there.
        """
        _remove_socket(uds_path)
        server = grpc.aio.server(options=_grpc_options(self._limits))
        server.add_generic_rpc_handlers((_Handler(*self._methods, self._delta, self._world), *beside))
        server.add_insecure_port(f"unix:{uds_path}")
        await server.start()
        uds_path.chmod(0o600)
        self._server = server

    async def stop(self, grace: float | None = None) -> None:
        """End all streams, after at most ``grace`` seconds."""
        if self._server is not None:
            await self._server.stop(grace)
            self._server = None

    async def _delta(self, _: Any, context: Any) -> None:
        session = DeltaSession(**self._tools(context))
        await self._serve(context, session, discovery_pb2.DeltaDiscoveryRequest)

    async def _world(self, _: Any, context: Any) -> None:
        session = WorldSession(**self._tools(context))
        await self._serve(context, session, discovery_pb2.DiscoveryRequest)

    def _tools(self, context: Any) -> dict[str, Any]:
        return {
            "options": self._options,
            "frame": self._cache.frame,
            "differ": self._cache.differences,
            "on_rejection": self._log(context),
        }

    async def _serve(self, context: Any, session: XdsSession, request_type: Any) -> None:
        try:
            proxy_id = self._identify(context)
            with self._admitted(proxy_id, session):
                stream = _Stream(
                    context, session, request_type, self._cache, proxy_id, self._large, self._limits, self._on_quiet
                )
                await stream.run()
        except _Refusal as refusal:
            await context.abort(refusal.code, refusal.reason)

    @contextlib.contextmanager
    def _admitted(self, proxy_id: str, session: XdsSession) -> Iterator[None]:
        if self._streams[proxy_id] >= self._limits.streams_per_proxy:
            raise _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many streams of this proxy")
        self._streams[proxy_id] += 1
        self._status.attach(proxy_id, session)
        try:
            yield
        finally:
            self._status.detach(proxy_id, session)
            self._streams[proxy_id] -= 1
            if not self._streams[proxy_id]:
                del self._streams[proxy_id]
            self._on_quiet()

    def _log(self, context: Any) -> Callable[[Rejection], None]:
        def log(rejection: Rejection) -> None:
            with contextlib.suppress(_Refusal):
                logger.warning(
                    "proxy %s refuses %s %r of %s: %s",
                    self._identify(context),
                    rejection.type_url.rpartition(".")[2],
                    rejection.name,
                    rejection.origin or "nobody known",
                    rejection.error,
                )

        return log


class AdsServer(_DiscoveryServer):
    """Aggregated discovery, delta and state of the world.

    ``authenticate`` gives the proxy id that a token proves, or None; who a client is comes from its token alone, and
    never from the node that it claims to be. ``on_quiet`` is called whenever a stream has nothing left to send for now,
    and when it ends: how far proxies are may have changed.
    """

    def __init__(
        self,
        cache: ResourceCache,
        authenticate: Authenticate,
        status: StatusBoard,
        *,
        options: SessionOptions | None = None,
        limits: ServerLimits | None = None,
        on_quiet: Callable[[], None] = lambda: None,
    ) -> None:
        def identify(context: Any) -> str:
            token = bearer_token(context.invocation_metadata())
            proxy_id = authenticate(token) if token else None
            if not proxy_id:
                raise _Refusal(grpc.StatusCode.UNAUTHENTICATED, "no known token came with the call")
            return proxy_id

        super().__init__(
            cache,
            identify,
            status,
            methods=(f"/{ADS_SERVICE}/DeltaAggregatedResources", f"/{ADS_SERVICE}/StreamAggregatedResources"),
            options=options or SessionOptions(),
            limits=limits or ServerLimits(),
            on_quiet=on_quiet,
        )


class SecretServer(_DiscoveryServer):
    """Secret discovery alone, for the one proxy whose socket it is: the socket's mode is the authentication."""

    def __init__(
        self, cache: ResourceCache, proxy_id: str, status: StatusBoard | None = None, limits: ServerLimits | None = None
    ) -> None:
        super().__init__(
            cache,
            lambda _: proxy_id,
            status or StatusBoard(),
            methods=(f"/{SDS_SERVICE}/DeltaSecrets", f"/{SDS_SERVICE}/StreamSecrets"),
            options=SessionOptions(types=(SECRET,)),
            limits=limits or ServerLimits(),
        )


async def serve_secrets(
    uds_path: Path,
    cache: ResourceCache,
    proxy_id: str,
    status: StatusBoard | None = None,
    beside: Sequence[grpc.GenericRpcHandler] = (),
) -> SecretServer:
    """Start a ``SecretServer``. ``cache.put(proxy_id, resources)`` is how secrets come and are rotated."""
    server = SecretServer(cache, proxy_id, status)
    await server.start(uds_path, beside)
    return server


def bearer_token(metadata: Any) -> str:
    """The token of ``authorization: Bearer <token>``; empty if there is none or more than one."""
    values = [value for name, value in metadata or () if name.lower() == "authorization"]
    if len(values) != 1 or not isinstance(values[0], str) or not values[0].startswith("Bearer "):
        return ""
    return values[0].removeprefix("Bearer ")


class _Stream:
    """One call: reads requests into the session, writes what the session has to say."""

    def __init__(
        self,
        context: Any,
        session: XdsSession,
        request_type: Any,
        cache: ResourceCache,
        proxy_id: str,
        large: asyncio.Semaphore,
        limits: ServerLimits,
        on_quiet: Callable[[], None],
    ) -> None:
        self._context = context
        self._on_quiet = on_quiet
        self._session = session
        self._request_type = request_type
        self._cache = cache
        self._proxy_id = proxy_id
        self._large = large
        self._limits = limits
        self._wake = asyncio.Event()
        self._wake.set()

    async def run(self) -> None:
        """Until the client ends the call. Raises _Refusal where it must be ended."""
        end_watch = self._cache.watch(self._proxy_id, self._wake.set)
        tasks = [asyncio.create_task(self._read()), asyncio.create_task(self._write())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        finally:
            end_watch()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _read(self) -> None:
        while (data := await self._context.read()) is not grpc.aio.EOF:
            try:
                self._session.on_request(self._request_type.FromString(data), time.monotonic())
            except DecodeError as error:
                raise _Refusal(grpc.StatusCode.INVALID_ARGUMENT, "not a discovery request") from error
            except SessionRefused as refused:
                raise _Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, refused.reason) from refused
            self._wake.set()

    async def _write(self) -> None:
        while True:
            await self._woken()
            self._wake.clear()
            self._session.on_resources(self._cache.get(self._proxy_id))
            while await self._write_one():
                self._session.on_resources(self._cache.get(self._proxy_id))
            self._on_quiet()

    async def _write_one(self) -> bool:
        """Send the next response if there is one; large ones are made only as fast as they leave."""
        large = self._session.backlog() > LARGE_BACKLOG
        async with self._large if large else contextlib.nullcontext():
            response = self._session.next_response(time.monotonic())
            if response is None:
                return False
            await self._send(response)
        return True

    async def _woken(self) -> None:
        deadline = self._session.deadline()
        if deadline is None:
            await self._wake.wait()
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.01, deadline - time.monotonic())):
                await self._wake.wait()

    async def _send(self, response: bytes) -> None:
        try:
            async with asyncio.timeout(self._limits.write_timeout):
                await self._context.write(response)
        except TimeoutError as error:
            raise _Refusal(grpc.StatusCode.DEADLINE_EXCEEDED, "the client does not read") from error


class _Handler(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the handler of a method; messages stay bytes here."""

    def __init__(self, delta_method: str, world_method: str, delta: Any, world: Any) -> None:
        self._methods = {
            delta_method: grpc.stream_stream_rpc_method_handler(delta),
            world_method: grpc.stream_stream_rpc_method_handler(world),
        }

    def service(self, call: Any) -> Any:
        return self._methods.get(call.method)


def _grpc_options(limits: ServerLimits) -> list[tuple[str, int]]:
    """Pings both ways; those of clients are never too many, or a quiet Envoy's stream would be ended."""
    return [
        ("grpc.max_receive_message_length", limits.max_request),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_metadata_size", limits.max_metadata),
        ("grpc.absolute_max_metadata_size", limits.max_metadata),
        ("grpc.max_concurrent_streams", limits.streams_per_connection),
        ("grpc.server_max_unrequested_time_in_server", limits.unread_time),
        ("grpc.keepalive_time_ms", int(limits.keepalive_interval * 1000)),
        ("grpc.keepalive_timeout_ms", int(limits.keepalive_timeout * 1000)),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.http2.min_ping_interval_without_data_ms", 1000),
        ("grpc.http2.max_ping_strikes", 0),
        ("grpc.so_reuseport", 0),
    ]


def _remove_socket(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.stat().st_mode):
            path.unlink()
