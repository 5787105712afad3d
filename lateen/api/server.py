"""The HTTP API of a running mesh, served on ``api.sock`` (0600) in its run directory.

GET  /v1/status                the whole status (``lateen.local.status.MeshStatus``)
GET  /v1/identities            the certificate of each instance (``lateen.local.links.HeldIdentity``)
GET  /v1/rates                 requests and errors a second, by instance
GET  /v1/events                server-sent events: the last ones, then new ones as they come
GET  /v1/logs?name=&kind=      the last lines of a log: kind app, envoy, access, control or mixer
GET  /v1/command?name=         how to run a command in a workload's place
POST /v1/scale                 {"workload": "reviews/v1", "replicas": 3}
POST /v1/restart               {"workload": "reviews"}
POST /v1/stop                  take the mesh down
GET  /metrics                  the merged Prometheus text of all proxies
GET  /metrics/INSTANCE         that of one proxy

Errors are ``{"error": sentence}`` with status 400 or 404. Over TCP, where asked for, only those two are served.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from lateen.local.mesh import Mesh
from lateen.local.processes import tail
from lateen.local.rundir import RunDir
from lateen.local.scrape import Rates, merged_metrics, proxy_metrics
from lateen.local.uds_server import BodyTooLarge, body_of

PROMETHEUS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MAX_BODY_BYTES = 64 * 1024
MAX_LINES = 10_000
OWN_LOGS: dict[str, Callable[[RunDir], Path]] = {
    "control": lambda run: run.control_log,
    "mixer": lambda run: run.mixer_log,
}
LOG_FILES = {"app": "app.log", "envoy": "envoy.log", "access": "access.log"}


class _Scale(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    workload: str
    replicas: int


class _Target(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    workload: str


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def _problem(text: str, status: int = 400) -> Response:
    return _json({"error": text}, status)


class Api:
    """The handlers, around one mesh."""

    def __init__(self, mesh: Mesh) -> None:
        self._mesh = mesh
        self._rates = Rates(mesh)

    def application(self) -> Starlette:
        """Everything: for the owner's socket."""
        return Starlette(
            routes=[
                Route("/v1/status", self._status),
                Route("/v1/identities", self._identities),
                Route("/v1/rates", self._rates_now),
                Route("/v1/events", self._events),
                Route("/v1/logs", self._logs),
                Route("/v1/command", self._command),
                Route("/v1/scale", self._scale, methods=["POST"]),
                Route("/v1/restart", self._restart, methods=["POST"]),
                Route("/v1/stop", self._stop, methods=["POST"]),
                *self._metrics_routes(),
            ]
        )

    def metrics_application(self) -> Starlette:
        """Metrics alone: for a TCP port."""
        return Starlette(routes=self._metrics_routes())

    def _metrics_routes(self) -> list[Route]:
        return [Route("/metrics", self._metrics), Route("/metrics/{instance}", self._metrics_of_one)]

    async def _status(self, _: Request) -> Response:
        return _json(self._mesh.status())

    async def _identities(self, _: Request) -> Response:
        return _json({"identities": self._mesh.held_identities()})

    async def _rates_now(self, _: Request) -> Response:
        return _json(await self._rates.look())

    async def _events(self, _: Request) -> Response:
        return StreamingResponse(self._event_stream(), media_type="text/event-stream")

    async def _event_stream(self) -> AsyncIterator[bytes]:
        log = self._mesh.events
        queue = log.subscribe()
        try:
            for event in log.recent():
                yield b"data: " + msgspec.json.encode(event) + b"\n\n"
            while True:
                yield b"data: " + msgspec.json.encode(await queue.get()) + b"\n\n"
        finally:
            log.unsubscribe(queue)

    async def _logs(self, request: Request) -> Response:
        name, kind = request.query_params.get("name", ""), request.query_params.get("kind", "app")
        count = request.query_params.get("lines", "100")
        if not (count.isascii() and count.isdigit() and len(count) < 6 and int(count) <= MAX_LINES):
            return _problem(f"lines is a number up to {MAX_LINES}")
        if kind in OWN_LOGS:
            path = OWN_LOGS[kind](self._mesh.run)
        elif kind not in LOG_FILES:
            return _problem(f"there is no log {kind!r}: app, envoy, access, control or mixer")
        else:
            try:
                path = self._mesh.run.proxy(self._mesh.runner(name).id) / LOG_FILES[kind]
            except LookupError as problem:
                return _problem(str(problem), 404)
        lines = await asyncio.to_thread(tail, path, int(count))
        return Response("".join(f"{line}\n" for line in lines), media_type="text/plain")

    async def _command(self, request: Request) -> Response:
        try:
            runner = self._mesh.runner(request.query_params.get("name", ""))
            prefix, environment = runner.command_prefix()
        except LookupError as problem:
            return _problem(str(problem), 404)
        application = runner.workload.application
        working_dir = application.working_dir if application is not None else "/"
        return _json({"name": runner.id, "prefix": prefix, "environment": environment, "working_dir": working_dir})

    async def _scale(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await body_of(request, MAX_BODY_BYTES), type=_Scale)
        except (msgspec.MsgspecError, BodyTooLarge) as problem:
            return _problem(str(problem))
        if not 0 <= asked.replicas <= 100:
            return _problem("replicas is a number from 0 to 100")
        try:
            name = await self._mesh.scale(asked.workload, asked.replicas)
        except LookupError as problem:
            return _problem(str(problem), 404)
        instances = [status for status in self._mesh.status().workloads if status.workload == name]
        return _json({"workload": name, "instances": instances})

    async def _restart(self, request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await body_of(request, MAX_BODY_BYTES), type=_Target)
            return _json({"restarted": await self._mesh.restart(asked.workload)})
        except (msgspec.MsgspecError, BodyTooLarge) as problem:
            return _problem(str(problem))
        except LookupError as problem:
            return _problem(str(problem), 404)

    async def _stop(self, _: Request) -> Response:
        self._mesh.stop_asked.set()
        return _json({"stopping": True}, 202)

    async def _metrics(self, _: Request) -> Response:
        return StreamingResponse(merged_metrics(self._mesh), media_type=PROMETHEUS_TYPE)

    async def _metrics_of_one(self, request: Request) -> Response:
        name = request.path_params["instance"]
        text = await proxy_metrics(self._mesh, name)
        if text is None:
            return _problem(f"there is no instance {name}", 404)
        return Response(text, media_type=PROMETHEUS_TYPE)
