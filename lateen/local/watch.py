"""Follow the project's file: an edit is applied live; a broken one is told and changes nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import msgspec
from watchfiles import awatch

from lateen.findings import Finding, warning
from lateen.local.mesh import Mesh
from lateen.local.project import Project
from lateen.local.project_file import read_project
from lateen.values.names import Origin

MISSING_LOOKS = 2
"""A file that an editor replaces may be away for one look."""


async def follow_file(mesh: Mesh, stop: asyncio.Event) -> None:
    """Until ``stop`` is set. The folder is watched, so that editors which replace the file by renaming are seen."""
    file = Path(mesh.project.file)
    last = await asyncio.to_thread(_read, file)
    edits: set[asyncio.Task[None]] = set()
    missing = 0
    async for _ in awatch(
        file.parent,
        stop_event=stop,
        recursive=False,
        debounce=50,
        step=10,
        watch_filter=lambda _, path: path == str(file),
        rust_timeout=500,
        yield_on_timeout=True,
    ):
        data = await asyncio.to_thread(_read, file)
        missing = missing + 1 if data is None else 0
        if missing == MISSING_LOOKS:
            tell(mesh, [*mesh.findings, file_gone(mesh.project)])
            last = None
        if data != last and data is not None:
            last = data
            edit = asyncio.ensure_future(take_edit(mesh, data))
            edits.add(edit)
            edit.add_done_callback(edits.discard)


async def take_edit(mesh: Mesh, data: bytes) -> None:
    """Apply one version of the file, if it is sound."""
    project, findings = read_project(data, mesh.project.file, mesh.project.name)
    if project is None:
        tell(mesh, findings)
        mesh.events.emit("edit-refused", "the edit of lateen.yaml changes nothing until it is mended")
        return
    tell(mesh, [*findings, *fixed_options(mesh.project, project)])
    mesh.events.emit("edit", "lateen.yaml has changed")
    await mesh.apply(keep_options(mesh.project, project))


def tell(mesh: Mesh, findings: Sequence[Finding]) -> None:
    """Keep the findings for the status, and tell those that are new."""
    for finding in findings:
        if finding not in mesh.findings:
            mesh.events.emit("finding", finding.render())
    mesh.findings = tuple(findings)


def file_gone(project: Project) -> Finding:
    """A warning that nobody can edit what is not there."""
    origin = Origin("Project", "", project.name, project.file, 1)
    message = "the file is gone; the mesh goes on as it was last read"
    return warning("project-file-gone", message, origin, f"put it back, or stop the mesh: lateen down {project.name}")


def fixed_options(running: Project, edited: Project) -> list[Finding]:
    """A warning for each option that holds for the life of a mesh and was edited."""
    origin = Origin("Project", "", running.name, running.file, 1)
    findings = []
    for field, before, after in (
        ("name", running.written_name, edited.written_name),
        ("namespace", running.namespace, edited.namespace),
        ("mesh", running.options, edited.options),
    ):
        if before != after:
            message = f"{field} holds for as long as the mesh runs; the edit counts from the next lateen up"
            findings.append(warning("restart-needed", message, origin.at(field), "lateen down, then lateen up"))
    return findings


def keep_options(running: Project, edited: Project) -> Project:
    """The edited project under the running one's name and options."""
    return msgspec.structs.replace(
        edited, name=running.name, written_name=running.written_name, options=running.options
    )


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except OSError:
        return None
