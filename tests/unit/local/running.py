"""A mesh inside the test's own process: the real rooms, real Envoys on loopback addresses, a real control plane."""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from lateen.cli.rooms import envoy_path, make_identities, make_network
from lateen.cli.running import new_record, own_argv
from lateen.local.environment import control_environment
from lateen.local.events import EventLog
from lateen.local.mesh import Mesh
from lateen.local.project import Project
from lateen.local.project_file import read_project
from lateen.local.registry import Registry
from lateen.local.rundir import RunBook, RunDir
from lateen.local.service_child import ServiceChild, control_role, mixer_role

GATEWAY = (
    "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: in}\nspec: {selector: {istio: in}, "
    "servers: [{port: {number: %d, name: http, protocol: HTTP}, hosts: ['*']}]}\n"
)


def project(text: str, folder: Path) -> Project:
    file = folder / "lateen.yaml"
    file.write_text(text)
    found, findings = read_project(file.read_bytes(), str(file))
    assert found is not None, [finding.render() for finding in findings]
    return found


@asynccontextmanager
async def running_mesh(wanted: Project) -> AsyncIterator[Mesh]:
    """A mesh whose API nobody serves; stopped at the end if it still runs. Its folder's path is short, for sockets."""
    with tempfile.TemporaryDirectory(prefix="lt-") as short:
        run = RunDir(Path(short) / "r")
        run.create()
        assert run.lock()
        book = RunBook(run, new_record(wanted))
        events, registry = EventLog(), Registry(run)
        registry.publish_services(wanted.services)
        run_id = book.record.run_id
        environment = control_environment(os.environ, run_id)
        control = ServiceChild(control_role(run), own_argv(run, "control"), environment, events, book.note)
        mixer = ServiceChild(mixer_role(run), own_argv(run, "mixer", "serve"), environment, events, book.note)
        control.start()
        mesh = Mesh(
            wanted,
            run,
            book,
            network=make_network(run.path, os.environ, run_id, "loopback"),
            identities=make_identities(wanted.options, run),
            control=control,
            mixer=mixer,
            stop_asked=asyncio.Event(),
            registry=registry,
            events=events,
            envoy=envoy_path(),
            environment=dict(os.environ),
        )
        mesh.start()
        try:
            yield mesh
        finally:
            async with asyncio.timeout(20):
                await mesh.stop()
            run.remove()
