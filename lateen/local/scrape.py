"""Fetch the metrics of every proxy of a running mesh: all of them for Prometheus, request counts for the table."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path

from lateen import __version__
from lateen.local.envoy_admin import metrics
from lateen.local.mesh import Mesh
from lateen.local.metrics import Count, Rate, count_so_far, joined, merge, rate
from lateen.local.runner import Runner
from lateen.local.uds_http import request

AT_ONCE = 8
CERTIFICATE_LEFT = "istio_agent_cert_expiry_seconds"
REQUESTS = "%5Eistio%5C.request(s_total%7C_duration)%7C%5Eserver%5C.uptime$"
"""What ``count_so_far`` reads: requests are counted by their durations."""
BUILD = b"# TYPE istio_build gauge\nistio_build 1\n"


async def merged_metrics(mesh: Mesh) -> AsyncIterator[bytes]:
    """The merged Prometheus text of proxies, control plane and mixer, in pieces. Who does not answer is left out."""
    parts = await _of_proxies(mesh, mesh.runners())
    parts.append(({"app": "istiod"}, await _of_own(mesh.run.control_socket)))
    if mesh.mixer.started:
        parts.append(({"app": "mixer"}, await _of_own(mesh.run.mixer_metrics_socket)))
    parts.append(({"component": "lateen", "tag": __version__}, BUILD))
    parts.extend(_of_certificates(mesh))
    for name, count in (("sent", mesh.exports.sent), ("failed", mesh.exports.failed)):
        metric = f"lateen_metric_exports_{name}_total"
        parts.append(({"component": "lateen"}, f"# TYPE {metric} counter\n{metric} {count}\n".encode()))
    for piece in merge(parts):
        yield piece


async def proxy_metrics(mesh: Mesh, instance_id: str) -> bytes | None:
    """The Prometheus text of one proxy; None if there is no such instance."""
    runners = [runner for runner in mesh.runners() if runner.id == instance_id]
    return b"".join(merge(await _of_proxies(mesh, runners))) if runners else None


async def _of_proxies(mesh: Mesh, runners: list[Runner]) -> list[tuple[Mapping[str, str], bytes]]:
    texts = await _fetch(mesh, runners, "")
    return [
        ({"pod": runner.id, "namespace": runner.workload.namespace}, joined(text, mesh.measured(runner.id)))
        for runner, text in zip(runners, texts, strict=True)
    ]


def _of_certificates(mesh: Mesh) -> Iterator[tuple[Mapping[str, str], bytes]]:
    """For how long (seconds) the certificate of each workload still holds, under the name of Istio's agent."""
    now = time.time()
    for one in mesh.held_identities():
        if one.not_after:
            head = f"# TYPE {CERTIFICATE_LEFT} gauge\n{CERTIFICATE_LEFT}"
            text = f'{head}{{resource_name="default"}} {one.not_after - now:.0f}\n'
            yield {"pod": one.instance_id, "namespace": one.identity.split("/")[4]}, text.encode()


async def _of_own(socket: Path) -> bytes:
    """What a process of Lateen's own says."""
    try:
        status, text = await request(socket, "/metrics")
    except (OSError, TimeoutError):
        return b""
    return text if status == 200 else b""


async def _fetch(mesh: Mesh, runners: list[Runner], pattern: str) -> list[bytes]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(runner: Runner) -> bytes:
        async with gate:
            try:
                return await metrics(mesh.run.proxy(runner.id) / "admin.sock", pattern)
            except (OSError, TimeoutError):
                return b""

    return list(await asyncio.gather(*(one(runner) for runner in runners)))


class Rates:
    """Request rates by instance, as they were between the last two looks that saw something new."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._counts: dict[str, Count] = {}
        self.current: dict[str, Rate] = {}

    async def look(self) -> dict[str, Rate]:
        """Fetch the counts anew; the rates since the last look."""
        runners = self._mesh.runners()
        texts = await _fetch(self._mesh, runners, REQUESTS)
        counts = {
            runner.id: count_so_far(text, "source" if runner.workload.is_gateway else "destination")
            for runner, text in zip(runners, texts, strict=True)
        }
        self.current = {name: self._rate(name, count) for name, count in counts.items()}
        self._counts = counts
        return self.current

    def _rate(self, name: str, count: Count) -> Rate:
        known = self.current.get(name, Rate())
        return (rate(self._counts[name], count) or known) if name in self._counts else known
