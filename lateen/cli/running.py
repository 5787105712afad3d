"""The process that is a mesh: puts the supervisor together with its network, identities, control plane and API.

Comes in: a project that was found sound and a run directory that is free. Goes out: an exit code, once the mesh is
down. The control plane is started before anything heavy is imported here: it comes up while this process does.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lateen.cli.up_options import UpOptions
from lateen.findings import Finding
from lateen.local.environment import control_environment
from lateen.local.events import EventLog, MeshEvent
from lateen.local.procfs import reference
from lateen.local.project import Project
from lateen.local.registry import Registry
from lateen.local.rundir import RunBook, RunDir, RunRecord
from lateen.local.service_child import ServiceChild, control_role, mixer_role

if TYPE_CHECKING:
    from lateen.local.mesh import Mesh


async def supervise(
    project: Project,
    findings: Sequence[Finding],
    run: RunDir,
    options: UpOptions,
    events: EventLog,
    on_mesh: Callable[[Mesh], Any] | None = None,
) -> int:
    """Run the mesh until it is told to stop. ``on_mesh`` gets the mesh and may return a coroutine to run beside it."""
    book = RunBook(run, new_record(project, options.mesh_config, options.jwks_allow))
    events.listen(_log_to(run.supervisor_log))
    for finding in findings:
        events.emit("finding", finding.render())
    registry = Registry(run)
    registry.publish_services(project.services)
    environment = control_environment(os.environ, book.record.run_id)
    control = ServiceChild(control_role(run), own_argv(run, "control"), environment, events, book.note)
    mixer = ServiceChild(mixer_role(run), own_argv(run, "mixer", "serve"), environment, events, book.note)
    stop_asked = asyncio.Event()
    hurry = _stop_on_signals(stop_asked)
    control.start()
    try:
        mesh = _build(project, run, book, control, mixer, stop_asked, registry, events, options)
    except BaseException:
        await control.stop()
        raise
    mesh.findings = tuple(findings)
    hurry.append(mesh.kill)
    return await _live(mesh, options, on_mesh)


def new_record(project: Project, mesh_config: str = "", jwks_allow: Sequence[str] = ()) -> RunRecord:
    """What ``run.json`` says of a mesh that starts now, in this process. ``jwks_allow`` is added to the file's."""
    options = project.options
    own = reference(os.getpid())
    if own is None:
        raise RuntimeError("/proc is not mounted")
    return RunRecord(
        name=project.name,
        run_id=str(uuid.uuid4()),
        project=project.file,
        started_at=time.time(),
        supervisor=own,
        namespace=project.namespace,
        root_namespace=options.root_namespace,
        trust_domain=options.trust_domain,
        outbound_policy=options.outbound_policy,
        host_ownership=options.host_ownership,
        resources=resource_paths(project),
        mesh_config=mesh_config,
        jwks_allow=(*options.jwks_allow, *jwks_allow),
        jwks_refresh=options.jwks_refresh,
        redis=options.redis,
        ca=options.ca,
        service=options.service,
        certificate_life=options.certificate_life,
        gateways=tuple((one.name, f"{one.bind}:{port.target}") for one in project.gateways for port in one.ports),
        processes={},
    )


def resource_paths(project: Project) -> tuple[str, ...]:
    """Absolute files, folders and patterns of resources: those named, or the ones beside the file and in ``mesh``."""
    folder = Path(project.folder)
    if project.options.resources is not None:
        return tuple(str(folder / path) for path in project.options.resources)
    return (str(folder / "*.yaml"), str(folder / "*.yml"), str(folder / "mesh"))


def own_argv(run: RunDir, *command: str) -> list[str]:
    """How a part of Lateen is started that serves this mesh."""
    return [sys.executable, "-m", "lateen", *command, "--run-dir", str(run.path)]


def _build(
    project: Project,
    run: RunDir,
    book: RunBook,
    control: ServiceChild,
    mixer: ServiceChild,
    stop_asked: asyncio.Event,
    registry: Registry,
    events: EventLog,
    options: UpOptions,
) -> Mesh:
    from lateen.cli.rooms import envoy_path, make_identities, make_network
    from lateen.local.mesh import Mesh

    return Mesh(
        project,
        run,
        book,
        network=make_network(run.path, os.environ, book.record.run_id, options.capture),
        identities=make_identities(project.options, run),
        control=control,
        mixer=mixer,
        stop_asked=stop_asked,
        registry=registry,
        events=events,
        envoy=envoy_path(),
        environment=dict(os.environ),
    )


async def _live(mesh: Mesh, options: UpOptions, on_mesh: Callable[[Mesh], Any] | None) -> int:
    """From start to end. The API is imported only once the instances are on their way."""
    mesh.start()
    stop_file = asyncio.Event()
    beside = [asyncio.ensure_future(_serve_api(mesh, options)), asyncio.ensure_future(_follow(mesh, stop_file))]
    beside.append(asyncio.ensure_future(_export_metrics(mesh)))
    if on_mesh is not None:
        beside.append(asyncio.ensure_future(on_mesh(mesh)))
    watch = asyncio.ensure_future(mesh.stop_asked.wait())
    await asyncio.wait([watch, *beside[:1]], return_when=asyncio.FIRST_COMPLETED)
    problem = beside[0].exception() if beside[0].done() and not beside[0].cancelled() else None
    if problem is not None:
        mesh.events.emit("api-failed", f"the API cannot be served: {problem}")
    failed = mesh.failed or problem is not None
    stop_file.set()
    await mesh.stop()
    for task in (*beside, watch):
        task.cancel()
    await asyncio.gather(*beside, watch, return_exceptions=True)
    mesh.events.emit("down", "the mesh is down")
    mesh.run.remove()
    return 1 if failed else 0


def _stop_on_signals(stop_asked: asyncio.Event) -> list[Callable[[], None]]:
    """The first signal asks for an orderly stop; with the second all of the returned list, filled later, is called."""
    loop = asyncio.get_running_loop()
    hurry: list[Callable[[], None]] = []

    def on_signal() -> None:
        for act in hurry if stop_asked.is_set() else ():
            act()
        stop_asked.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, on_signal)
    return hurry


async def _serve_api(mesh: Mesh, options: UpOptions) -> None:
    from lateen.api.server import Api
    from lateen.local.uds_server import owner_socket, serve, tcp_socket

    api = Api(mesh)
    servers = [serve(api.application(), owner_socket(mesh.run.api_socket))]
    if options.metrics:
        servers.append(serve(api.metrics_application(), tcp_socket(options.metrics)))
    await asyncio.gather(*servers)


async def _export_metrics(mesh: Mesh) -> None:
    await mesh.ready.wait()
    from lateen.local.metric_exports import MetricExports

    await MetricExports(mesh).run()


async def _follow(mesh: Mesh, stop: asyncio.Event) -> None:
    await mesh.ready.wait()
    from lateen.local.watch import follow_file

    await follow_file(mesh, stop)


def _log_to(path: Path) -> Callable[[MeshEvent], None]:
    """Write each event to the supervisor's log."""

    def write(event: MeshEvent) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(event.time))
        with contextlib.suppress(OSError), path.open("a") as file:
            file.write(f"{stamp}.{int(event.time * 1000) % 1000:03d}Z {event.kind} {event.render()}\n")

    return write
