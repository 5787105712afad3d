"""The mixer as a process: the thin shell around rules, handlers and servers.

Comes in: the order in the run directory, which the control plane writes anew whenever it changes. Goes out: answers on
``mixer.sock``, and the generation that is at work, in a file, for which the control plane waits before proxies are told
of it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path

import grpc

from lateen.local.rundir import write_atomically
from lateen.local.uds_server import owner_socket, serve
from lateen.mesh.mixer.model import MixerRules
from lateen.mixer.check_server import CheckServer, Knowledge
from lateen.mixer.counters import MemoryCounter
from lateen.mixer.engine import Engine
from lateen.mixer.handler import Handler
from lateen.mixer.handlers import Handlers
from lateen.mixer.metrics import application, metrics_text
from lateen.mixer.order import MixerOrder, read_order, rules_of
from lateen.mixer.quota_server import QuotaServer
from lateen.mixer.reach import Reach
from lateen.mixer.redis_quota import RedisCounter
from lateen.mixer.report_server import ReportServer
from lateen.sources.files import FileSource

LOG = logging.getLogger("lateen.mixer")
CLOSE_AFTER_S = 5.0
GENERATION = "mixer/generation"
ORDER = "mixer/order.json"
SOCKET = "mixer.sock"
METRICS = "mixer/metrics.sock"


class Mixer:
    """One mixer on one run directory."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._reach = Reach()
        self._handlers = Handlers(self._reach.web)
        self._checks = CheckServer(Knowledge(Engine(MixerRules(), {})))
        self._reports = ReportServer(lambda: self._checks.knowledge)
        self._quotas = QuotaServer(MemoryCounter())
        self._redis = ""
        self._closing: set[asyncio.Task[None]] = set()

    async def serve(self, stop: asyncio.Event) -> None:
        """Take up the order, open the socket, then follow the order until ``stop`` is set."""
        source = FileSource([self._run / ORDER])
        source.changed()
        await self._take_up()
        server = grpc.aio.server()
        server.add_generic_rpc_handlers((self._checks.handler(), self._reports.handler()))
        self._reports.start()
        self._quotas.add_to(server)
        socket = self._run / SOCKET
        socket.unlink(missing_ok=True)
        mask = os.umask(0o177)
        try:
            server.add_insecure_port(f"unix:{socket}")
            await server.start()
        finally:
            os.umask(mask)
        scraped = asyncio.ensure_future(self._serve_metrics())
        async for events in source.watch(stop):
            if events:
                await self._take_up()
        scraped.cancel()
        await asyncio.gather(scraped, return_exceptions=True)
        await server.stop(1.0)
        await self._reports.close()
        await self._quotas.close()
        for handler in self._handlers.running.values():
            await handler.close()
        await self._reach.close()

    async def _serve_metrics(self) -> None:
        def text() -> str:
            return metrics_text(self._checks.tally, self._reports.tally, self._quotas.tally, self._handlers.running)

        await serve(application(text), owner_socket(self._run / METRICS))

    async def _take_up(self) -> None:
        try:
            order = read_order((self._run / ORDER).read_bytes())
        except (OSError, ValueError) as problem:
            LOG.error("the order cannot be read: %s", problem)
            return
        await self._follow(order)
        write_atomically(self._run / GENERATION, order.generation.encode())
        LOG.info("generation %s: %d resources", order.generation, len(order.resources))

    async def _follow(self, order: MixerOrder) -> None:
        self._reach.allow(order.fetch_allowed)
        if order.redis != self._redis:
            self._redis = order.redis
            await self._quotas.move_to(RedisCounter(order.redis) if order.redis else MemoryCounter())
        rules = rules_of(order)
        gone = await self._handlers.follow(rules, fail_open=order.fail_open, pods=order.pods)
        self._checks.knowledge = Knowledge(Engine(rules, self._handlers.running), order.places, order.workloads)
        for handler in gone:
            task = asyncio.ensure_future(_close_later(handler))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


async def _close_later(handler: Handler) -> None:
    """Once checks that were under way when it was replaced are over."""
    await asyncio.sleep(CLOSE_AFTER_S)
    await handler.close()


def run_mixer(run: Path) -> None:
    """Serve until SIGTERM or SIGINT."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("watchfiles").setLevel(logging.WARNING)

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await Mixer(run).serve(stop)

    asyncio.run(main())
