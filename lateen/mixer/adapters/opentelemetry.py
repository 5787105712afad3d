"""``opentelemetry``: metrics, logs and spans over OTLP, to a collector that is reached over HTTP or gRPC.

Comes in: instances of ``metric``, ``logentry`` and ``tracespan``. Goes out: metrics again and again as what they have
come to since the handler began, logs and spans in batches. What did not arrive, or was not taken, is counted as lost;
of metrics nothing is, as the next message has it too.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any

import grpc

from lateen.mixer.adapter import ReportAdapter
from lateen.mixer.adapters import otlp
from lateen.mixer.adapters.counted import Counted, MetricKind
from lateen.mixer.adapters.otlp import LOGS, METHODS, METRICS, TRACES
from lateen.mixer.adapters.outbox import Outbox
from lateen.mixer.adapters.spans import HALF, ids_of
from lateen.mixer.templates import Instance, LogEntry, Metric, TraceSpan

LOG = logging.getLogger("lateen.mixer")
LONGEST_WAIT = 10_000
BATCH = 500
BATCH_AFTER_S = 1.0
TRIES = 3
PATIENCE_S = 5.0
Send = Callable[[str, bytes], Awaitable[bytes]]
"""Sends a message of one signal; gives the answer. Raises OSError or TimeoutError."""
SendHttp = Callable[[str, str, bytes, Mapping[str, str]], Awaitable[bytes]]


class OverHttp:
    """``send`` is given a method, a URL, a body and headers, or raises OSError."""

    def __init__(self, url: str, headers: Mapping[str, str], send: SendHttp) -> None:
        self._url, self._send = url.rstrip("/"), send
        self._headers = {**headers, "content-type": "application/x-protobuf"}

    async def send(self, signal: str, message: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_S):
            return await self._send("POST", f"{self._url}/v1/{signal}", message, self._headers)

    async def close(self) -> None:
        return


class OverGrpc:
    """``address`` is HOST:PORT; ``secure``: over TLS, with the roots of this machine."""

    def __init__(self, address: str, headers: Mapping[str, str], *, secure: bool) -> None:
        credentials = grpc.ssl_channel_credentials() if secure else None
        self._channel = (
            grpc.aio.insecure_channel(address) if credentials is None else grpc.aio.secure_channel(address, credentials)
        )
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._calls = {signal: self._channel.unary_unary(method) for signal, method in METHODS.items()}

    async def send(self, signal: str, message: bytes) -> bytes:
        try:
            return await self._calls[signal](message, timeout=PATIENCE_S, metadata=self._metadata)  # type: ignore[no-any-return]
        except grpc.aio.AioRpcError as problem:
            raise OSError(f"{problem.code().name}: {problem.details()}") from problem

    async def close(self) -> None:
        await self._channel.close()


class OpenTelemetry(ReportAdapter):
    """``interval`` (seconds): how often metrics go; ``expiry``: when series that nothing happens to are forgotten.

    ``probability``: the share of traces that is sent. ``resource``: attributes of all that is sent.
    """

    templates = frozenset({"metric", "logentry", "tracespan"})

    def __init__(
        self,
        to: OverHttp | OverGrpc,
        metrics: Iterable[MetricKind] = (),
        *,
        resource: Mapping[str, str],
        interval: float = 10.0,
        expiry: float | None = None,
        probability: float = 1.0,
        name: str = "opentelemetry",
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self._to, self._name = to, name
        self._counted = Counted(metrics)
        self._resource = resource
        self._interval, self._expiry = interval, expiry
        self._below = int(probability * HALF)
        self._clock = clock
        self._started = clock()
        self._logs: Outbox[Any] = self._outbox(self._send_logs)
        self._spans: Outbox[tuple[str, Any]] = self._outbox(self._send_spans)
        self._task: asyncio.Task[None] | None = None
        self._other_losses = 0

    def _outbox(self, send: Callable[[Sequence[Any]], Awaitable[None]]) -> Outbox[Any]:
        return Outbox(send, name=self._name, interval=BATCH_AFTER_S, batch=BATCH, longest=LONGEST_WAIT, tries=TRIES)

    @property
    def lost(self) -> int:  # type: ignore[override]
        """What there was no room for, what did not arrive or was not taken, and spans without ids."""
        return self._counted.lost + self._logs.lost + self._spans.lost + self._other_losses

    async def report(self, template: str, instances: Sequence[Instance]) -> None:
        for instance in instances:
            if isinstance(instance, Metric):
                self._counted.take(instance, self._clock() / 1e9)
                if self._task is None:
                    self._task = asyncio.ensure_future(self._push())
            elif isinstance(instance, LogEntry):
                self._logs.put(otlp.log_record(instance, self._clock()))
            elif isinstance(instance, TraceSpan):
                self._span(instance)
            else:
                raise TypeError(f"opentelemetry takes no {type(instance).__name__}")

    def _span(self, instance: TraceSpan) -> None:
        if not instance.trace_id:
            return
        ids = ids_of(instance)
        if ids is None or instance.start_time is None:
            self._other_losses += 1
        elif ids.is_sampled(self._below):
            self._spans.put(otlp.span(instance, ids))

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            await self._send_metrics()
        try:
            await asyncio.gather(self._logs.close(), self._spans.close())
        finally:
            await self._to.close()

    async def _push(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._send_metrics()

    async def _send_metrics(self) -> None:
        now = self._clock()
        if self._expiry is not None:
            self._counted.forget(now / 1e9 - self._expiry)
        try:
            for message in otlp.metric_requests(self._counted.metrics, self._resource, self._started, now):
                await self._send(METRICS, message)
        except (OSError, TimeoutError) as problem:
            LOG.warning("metrics did not arrive: %s", problem or type(problem).__name__)

    async def _send_logs(self, records: Sequence[Any]) -> None:
        await self._send(LOGS, otlp.log_request(records, self._resource))

    async def _send_spans(self, spans: Sequence[tuple[str, Any]]) -> None:
        await self._send(TRACES, otlp.trace_request(spans, self._resource))

    async def _send(self, signal: str, message: bytes) -> None:
        self._other_losses += otlp.rejected(await self._to.send(signal, message))
