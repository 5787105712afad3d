"""Hands the metrics of each proxy to the collectors of OTLP that it leads to.

Comes in: the running mesh. Goes out: messages to sockets of the proxies (``plan.metric_exports`` says which there are).
Every message has all that was counted, so that one which does not arrive costs nothing but time.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import grpc

from lateen.envoy.otlp_metrics import Begun, export_requests
from lateen.local.envoy_admin import metrics
from lateen.local.mesh import Mesh
from lateen.local.metrics import joined
from lateen.local.runner import Runner
from lateen.local.uds_http import request
from lateen.plan.metric_exports import EXPORT_PATH, METRICS_PATH, PREFIX
from lateen.values.canonical import canonical_names

INTERVAL_S = 5.0
PATIENCE_S = 10.0
ISTIO = "%5Eistio%5C."
PROTOBUF = "application/x-protobuf"


class MetricExports:
    """What becomes of messages is counted in ``mesh.exports``."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._begun: dict[str, Begun] = {}
        self._failing: set[Path] = set()

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            await asyncio.sleep(INTERVAL_S)
            runners = {runner.id: runner for runner in self._mesh.runners()}
            for gone in self._begun.keys() - runners.keys():
                del self._begun[gone]
            await asyncio.gather(*(self._export(runner) for runner in runners.values()))

    async def _export(self, runner: Runner) -> None:
        folder = self._mesh.run.proxy(runner.id)
        sockets = sorted(folder.glob(f"{PREFIX}*.sock"))
        if not sockets:
            return
        try:
            said = await metrics(folder / "admin.sock", ISTIO)
        except (OSError, TimeoutError):
            return
        text = joined(said, self._mesh.measured(runner.id)).decode(errors="replace")
        begun = self._begun.setdefault(runner.id, {})
        messages = list(export_requests(text, _resource(runner), begun, time.time_ns()))
        for socket in sockets:
            for message in messages:
                await self._send(socket, message)

    async def _send(self, socket: Path, message: bytes) -> None:
        """A socket that nobody listens at is what is left of a provider that was taken away."""
        try:
            if "-http-" in socket.name:
                status, _ = await request(
                    socket, METRICS_PATH, method="POST", body=message, kind=PROTOBUF, bound_s=PATIENCE_S
                )
                well = 200 <= status < 300
                why = f"status {status}"
            else:
                well, why = await _over_grpc(socket, message)
        except ConnectionRefusedError:
            return
        except (OSError, TimeoutError) as problem:
            well, why = False, str(problem) or type(problem).__name__
        self._note(socket, well, why)

    def _note(self, socket: Path, well: bool, why: str) -> None:
        """Count, and tell once when it begins to fail and when that is over."""
        if well:
            self._mesh.exports.sent += 1
        else:
            self._mesh.exports.failed += 1
        if well is (socket in self._failing):
            (self._failing.discard if well else self._failing.add)(socket)
            text = "metrics reach their collector again" if well else f"metrics do not reach their collector: {why}"
            self._mesh.events.emit("metric-exports", text, socket.parent.name)


async def _over_grpc(socket: Path, message: bytes) -> tuple[bool, str]:
    options = [("grpc.default_authority", "collector"), ("grpc.enable_http_proxy", 0)]
    async with grpc.aio.insecure_channel(f"unix:{socket}", options) as channel:
        try:
            await channel.unary_unary(EXPORT_PATH)(message, timeout=PATIENCE_S)
        except grpc.aio.AioRpcError as problem:
            if "onnection refused" in (problem.details() or ""):
                raise ConnectionRefusedError from problem
            return False, f"{problem.code().name}: {problem.details()}"
    return True, ""


def _resource(runner: Runner) -> dict[str, str]:
    workload = runner.workload
    service, revision = canonical_names(workload.name, dict(workload.labels))
    return {
        "service.name": service,
        "service.namespace": workload.namespace,
        "service.version": revision,
        "service.instance.id": runner.id,
    }
