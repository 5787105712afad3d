"""The control plane's own API on ``control.sock``, for the supervisor and the command line of the same user.

JSON over HTTP:

GET  /v1/findings              what is wrong now
GET  /v1/proxies               who has which configuration
GET  /v1/gateways              what each gateway was told to listen on
GET  /v1/config/<proxy>        what a proxy was given, keys left out
GET  /v1/ca                    how the authority stands
POST /v1/ca/step, /v1/ca/back  do or undo a step of a rotation of roots
POST /v1/ca/tokens             a join token for an identity
GET  /v1/ca/roots              the roots that are trusted (PEM)
POST /v1/explain               what becomes of a call (``lateen.control.explaining.Question``)
GET  /v1/mixer                 where rules of Mixer are decided
POST /v1/denials/<proxy>       why requests in an access log were denied
GET  /metrics                  Prometheus text
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from lateen.control.authority_report import metrics_text
from lateen.control.denials import explain_entries
from lateen.control.explaining import Question, Unanswerable, explain
from lateen.control.mixer_placing import placed
from lateen.envoy.listening import listening_place
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET
from lateen.envoy.static import to_json
from lateen.findings import Finding
from lateen.identity.certificate import RequestRefused
from lateen.identity.keystore import KeystoreError
from lateen.identity.roots import WrongStep
from lateen.local.uds_server import BodyTooLarge, body_of, owner_socket, serve
from lateen.values.names import SpiffeId
from lateen.values.told_names import told_names
from lateen.xds.subscription import bind_problem

if TYPE_CHECKING:
    from lateen.control.runtime import ControlPlane

MAX_BODY_BYTES = 16 * 1024 * 1024
"""Entries of an access log, of which somebody asks why they were denied, are the longest."""


class Invite(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Who gets a join token, and what the workload is called; ``ttl`` is seconds."""

    namespace: str
    service_account: str
    ttl: Annotated[float, msgspec.Meta(gt=0, le=7 * 86400)] = 600.0
    workload: str = ""
    labels: dict[str, str] = {}


def finding_entry(finding: Finding) -> dict[str, object]:
    """A finding as JSON carries it."""
    origin = finding.origin
    return {
        "severity": finding.severity.value,
        "code": finding.code,
        "message": finding.message,
        "remedy": finding.remedy,
        "kind": origin.kind,
        "namespace": origin.namespace,
        "name": origin.name,
        "file": origin.path,
        "line": origin.line,
        "path": origin.field,
        "text": finding.render(),
    }


_KINDS = {CLUSTER: "clusters", ENDPOINT: "endpoints", LISTENER: "listeners", ROUTE: "routes", SECRET: "secrets"}


def proxy_entries(plane: ControlPlane) -> list[dict[str, object]]:
    """Each proxy with the state of each type: SYNCED, NOT SENT, STALE or NACKED, versions, and what it refuses.

    ``ready``: the configuration of all proxies is made with this one as ready.
    """
    known = plane.coordinator.snapshot.workloads if plane.coordinator.snapshot is not None else {}
    types: dict[str, dict[str, dict[str, object]]] = {name: {} for name in sorted(known)}
    connected = plane.status.connected()
    for row in plane.status.rows():
        types.setdefault(row.proxy_id, {})[_KINDS[row.type_url]] = {
            "state": row.state.value,
            "resources": row.resources,
            "sent": row.sent_version,
            "acknowledged": row.acked_version,
            "last_ack": row.last_ack,
            "error": row.error,
        }
    ready = {name for name, workload in known.items() if workload.ready}
    return [
        {"id": name, "connected": name in connected, "ready": name in ready, "types": kinds}
        for name, kinds in types.items()
    ]


def gateway_entries(plane: ControlPlane) -> dict[str, list[dict[str, object]]]:
    """What each gateway was told to listen on; ``error`` is what its Envoy said against it."""
    snapshot = plane.coordinator.snapshot
    refused = {
        (proxy, one.type_url, one.name): bind_problem(one) or one.error for proxy, one in plane.status.rejections()
    }
    found: dict[str, list[dict[str, object]]] = {}
    for workload in snapshot.workloads.values() if snapshot is not None else ():
        resources = plane.coordinator.published(workload.id)
        if not workload.is_gateway or resources is None:
            continue
        entries = found.setdefault(workload.id, [])
        for name, listener in resources.by_type.get(LISTENER, {}).items():
            address, port = listening_place(listener)
            if port:
                error = refused.get((workload.id, LISTENER, name), "")
                entries.append({"address": address, "port": port, "error": error})
    return found


def _json(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


def application(plane: ControlPlane) -> Starlette:
    async def findings(_: Request) -> Response:
        return _json(
            {"findings": [finding_entry(finding) for finding in plane.findings()], "settled": plane.is_settled}
        )

    async def gateways(_: Request) -> Response:
        return _json({"gateways": gateway_entries(plane)})

    async def proxies(_: Request) -> Response:
        return _json({"proxies": proxy_entries(plane), "settled": plane.is_settled})

    async def config(request: Request) -> Response:
        resources = plane.coordinator.published(request.path_params["proxy"])
        if resources is None:
            known = ", ".join(sorted(str(entry["id"]) for entry in proxy_entries(plane)))
            return _json({"error": f"there is no proxy {request.path_params['proxy']}; there are: {known}"}, 404)
        return _json(to_json(resources))

    async def explaining(request: Request) -> Response:
        try:
            question = msgspec.json.decode(await body_of(request, MAX_BODY_BYTES), type=Question)
            return _json(explain(plane.coordinator, question))
        except (msgspec.MsgspecError, BodyTooLarge, RecursionError) as problem:
            return _json({"error": str(problem)}, 400)
        except Unanswerable as problem:
            return _json({"error": str(problem)}, 404)

    async def mixer(_: Request) -> Response:
        snapshot = plane.coordinator.snapshot
        return _json({"parts": placed(snapshot) if snapshot is not None else []})

    async def denied(request: Request) -> Response:
        try:
            entries = msgspec.json.decode(await body_of(request, MAX_BODY_BYTES), type=list[dict[str, Any]])
        except (msgspec.MsgspecError, BodyTooLarge, RecursionError) as problem:
            return _json({"error": str(problem)}, 400)
        proxy = request.path_params["proxy"]
        return _json({"denials": explain_entries(plane.coordinator, proxy, entries)})

    async def authority(_: Request) -> Response:
        return _json(plane.authority.status())

    async def roots(_: Request) -> Response:
        return Response(plane.authority.root_pem, media_type="application/x-pem-file")

    async def invite(request: Request) -> Response:
        try:
            asked = msgspec.json.decode(await body_of(request, MAX_BODY_BYTES), type=Invite)
            identity = SpiffeId(plane.authority.trust_domain, asked.namespace, asked.service_account)
            plane.authority.check_identity(identity)
            told = told_names(asked.workload, asked.labels) if asked.workload else ""
            token = plane.join_tokens.invite(identity, datetime.timedelta(seconds=asked.ttl), told)
        except (msgspec.MsgspecError, RequestRefused, ValueError, OSError) as problem:
            return _json({"error": str(problem)}, 400)
        return _json({"token": token, "identity": str(identity)})

    async def step(request: Request) -> Response:
        change = plane.authority.step_back if request.url.path.endswith("/back") else plane.authority.next_step
        try:
            change()
        except (KeystoreError, WrongStep) as problem:
            return _json({"error": str(problem)}, 409)
        plane.tell_generation()
        return _json(plane.authority.status())

    async def metrics(_: Request) -> Response:
        return Response(metrics_text(plane.authority.status()), media_type="text/plain; version=0.0.4")

    routes = [
        Route("/v1/mixer", mixer),
        Route("/v1/explain", explaining, methods=["POST"]),
        Route("/v1/denials/{proxy:path}", denied, methods=["POST"]),
        Route("/v1/ca", authority),
        Route("/v1/ca/roots", roots),
        Route("/v1/ca/tokens", invite, methods=["POST"]),
        Route("/v1/ca/step", step, methods=["POST"]),
        Route("/v1/ca/back", step, methods=["POST"]),
        Route("/metrics", metrics),
        Route("/v1/findings", findings),
        Route("/v1/proxies", proxies),
        Route("/v1/gateways", gateways),
        Route("/v1/config/{proxy:path}", config),
    ]
    return Starlette(routes=routes)


@contextlib.asynccontextmanager
async def serve_control(plane: ControlPlane, socket: Path) -> AsyncIterator[None]:
    """Serve the API on a Unix socket for as long as the context lasts."""
    server = asyncio.ensure_future(serve(application(plane), owner_socket(socket)))
    try:
        yield
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)
