"""Envoy's access-log service, answered by rules that report: ``envoy.service.accesslog.v3.AccessLogService``.

Comes in: what proxies report of requests that are over, in batches. Goes out: instances for the handlers that rules
name. Nothing here is on the way of requests: entries wait in a queue of bounded length, one task works it off, and what
finds the queue full is counted as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import grpc
import msgspec
from envoy.service.accesslog.v3 import als_pb2

from lateen.expressions.evaluate import Bag
from lateen.mixer.check_server import Knowledge
from lateen.mixer.engine import Reported
from lateen.mixer.order import Place
from lateen.mixer.report_bag import ConnectionBag, ReportBag
from lateen.mixer.seldom import Seldom
from lateen.xds.connections import Connections

LOG = logging.getLogger("lateen.mixer")
SERVICE = "envoy.service.accesslog.v3.AccessLogService"
SEPARATOR = "|"
LONGEST_QUEUE = 20_000
BATCH = 500
_NOWHERE = Place()
_Waiting = tuple[str, type[ReportBag | ConnectionBag], Any]
"""Of which place, what it is read as, and the entry."""


class ReportTally(msgspec.Struct):
    """What became of reports."""

    taken: int = 0
    lost: int = 0
    failed: int = 0


class ReportServer:
    """Takes reports in; ``knowledge`` says by which rules."""

    def __init__(self, knowledge: Callable[[], Knowledge]) -> None:
        self.tally = ReportTally()
        self._knowledge = knowledge
        self._waiting: deque[_Waiting] = deque()
        self._news = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._seldom = Seldom()
        self._connections = Connections(time.time())

    def handler(self) -> grpc.GenericRpcHandler:
        """What a gRPC server is given."""
        take = grpc.stream_unary_rpc_method_handler(
            self._take,
            als_pb2.StreamAccessLogsMessage.FromString,
            als_pb2.StreamAccessLogsResponse.SerializeToString,
        )
        return grpc.method_handlers_generic_handler(SERVICE, {"StreamAccessLogs": take})

    def start(self) -> None:
        """Begin to work off what comes."""
        self._task = asyncio.ensure_future(self._work())

    async def close(self) -> None:
        """Work off what waits, then end."""
        while self._waiting and self._task is not None and not self._task.done():
            self._news.set()
            await asyncio.sleep(0.01)
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def _take(self, messages: AsyncIterator[Any], context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        place = ""
        async for message in messages:
            if message.HasField("identifier"):
                place = message.identifier.log_name
            bag: type[ReportBag | ConnectionBag] = ReportBag
            entries = message.http_logs.log_entry
            if message.HasField("tcp_logs"):
                bag, entries = ConnectionBag, message.tcp_logs.log_entry
            room = LONGEST_QUEUE - len(self._waiting)
            self.tally.taken += len(entries)
            self.tally.lost += max(0, len(entries) - room)
            self._waiting.extend((place, bag, entry) for entry in entries[: max(0, room)])
            self._news.set()
        return als_pb2.StreamAccessLogsResponse()

    async def _work(self) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                try:
                    await self._report(batch)
                except Exception as problem:
                    self.tally.failed += len(batch)
                    if self._seldom.may(type(problem).__name__):
                        LOG.error("reports failed", exc_info=problem)
                await asyncio.sleep(0)

    async def _report(self, batch: list[_Waiting]) -> None:
        knowledge = self._knowledge()
        made: defaultdict[tuple[int, str], list[Reported]] = defaultdict(list)
        for place, kind, entry in batch:
            proxy, _, port = place.partition(SEPARATOR)
            known = knowledge.places.get(proxy, _NOWHERE)
            constant = {**known.attributes, **known.ports.get(port, {})}
            bag: Bag
            if kind is ConnectionBag:
                spent = self._connections.spent(proxy, entry)
                bag = ConnectionBag(entry, constant, knowledge.workloads, spent)
            else:
                bag = ReportBag(entry, constant, knowledge.workloads)
            for reported in await knowledge.engine.report(bag):
                made[id(reported.handler), reported.template].append(reported)
        calls = [found[0].handler.report(found[0].template, [one.instance for one in found]) for found in made.values()]
        results = await asyncio.gather(*calls)
        self.tally.failed += sum(len(found) for found, well in zip(made.values(), results, strict=True) if not well)
