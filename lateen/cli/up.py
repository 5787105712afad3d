"""``lateen up``: from a folder to a running mesh, in the foreground or detached."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import click

from lateen.cli.finding_mesh import MESH_CONFIG_HELP, project_file, runs_base
from lateen.cli.up_options import UpOptions
from lateen.findings import Finding
from lateen.local.cleanup import clear
from lateen.local.events import EventLog
from lateen.local.fields import NAME_PATTERN
from lateen.local.preflight import bind_problem, taken_ports
from lateen.local.project import CaptureMode, Project
from lateen.local.project_file import read_project
from lateen.local.project_names import PROJECT_FILES
from lateen.local.rundir import RunDir, find_runs
from lateen.values.web_address import parse_networks

TURN_S = 30.0


def _mesh_name(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    if value is not None and not re.fullmatch(NAME_PATTERN, value):
        raise click.BadParameter(
            f"{value!r} is not a name: small letters, digits and dashes, at most 63", context, option
        )
    return value


def _listen_address(context: click.Context, option: click.Parameter, value: str) -> str:
    port = value.rpartition(":")[2]
    if value and not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        raise click.BadParameter(f"{value!r} is not HOST:PORT", context, option)
    return value


def _networks(context: click.Context, option: click.Parameter, value: tuple[str, ...]) -> tuple[str, ...]:
    try:
        parse_networks(value)
    except ValueError as problem:
        raise click.BadParameter(str(problem), context, option) from problem
    return value


@click.command()
@click.argument("path", type=click.Path(exists=True, path_type=Path), default=".")
@click.option("--detach", "-d", is_flag=True, help="Return once everything is ready; the mesh goes on.")
@click.option(
    "--capture",
    type=click.Choice([mode.value for mode in CaptureMode]),
    help="How traffic comes to pass through the sidecars; the file's mesh.capture, or chosen by itself.",
)
@click.option("--name", callback=_mesh_name, help="The mesh's name, where the file's is not wanted.")
@click.option("--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Where sockets, keys and logs stand.")
@click.option("--timeout", type=click.FloatRange(1, 3600), default=60.0, help="Seconds that --detach waits.")
@click.option(
    "--metrics",
    metavar="HOST:PORT",
    default="",
    callback=_listen_address,
    help="Serve the merged metrics over TCP too.",
)
@click.option(
    "--mesh-config",
    type=click.Path(exists=True, dir_okay=False, resolve_path=True),
    help=f"{MESH_CONFIG_HELP} It is watched.",
)
@click.option(
    "--allow-jwks-address",
    "jwks_allow",
    metavar="CIDR",
    multiple=True,
    callback=_networks,
    help="A network that keys of tokens may be fetched from beside the public internet, such as 127.0.0.0/8.",
)
@click.option("--notify-fd", type=int, hidden=True)
def up(
    path: Path,
    detach: bool,
    capture: str | None,
    name: str | None,
    run_dir: Path | None,
    timeout: float,
    metrics: str,
    mesh_config: str | None,
    jwks_allow: tuple[str, ...],
    notify_fd: int | None,
) -> None:
    """Start the mesh that PATH describes: a folder with a lateen.yaml, or such a file. Ctrl-C stops it."""
    project, findings = load_project(path, name)
    run = RunDir(run_dir.resolve() if run_dir is not None else runs_base() / project.name)
    options = UpOptions(capture or project.options.capture.value, metrics, mesh_config or "", jwks_allow)
    with contextlib.ExitStack() as turn:
        if notify_fd is None:
            turn.enter_context(own_turn(Path(project.folder), timeout))
            prepare(project, run)
            _look_at(metrics)
        if detach:
            from lateen.cli.detach import start_detached

            raise SystemExit(start_detached(project, run, options, timeout))
        claim(run)
    raise SystemExit(_foreground(project, findings, run, options, notify_fd))


@contextlib.contextmanager
def own_turn(folder: Path, timeout: float) -> Iterator[None]:
    """One start of a project at a time: another one waits until the first has its mesh up, and then sees it.

    What is held is the folder itself, so that nothing is left behind.
    """
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + timeout + TURN_S
    try:
        while not _held(handle):
            if time.monotonic() > deadline:
                raise click.ClickException(f"another lateen up in {folder} has not ended; stop it, or wait for it")
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def _held(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def load_project(path: Path, name: str | None) -> tuple[Project, list[Finding]]:
    """The project, and warnings on it. Exits with 1 after printing what is wrong with it."""
    file = project_file(path)
    if file is None:
        raise click.ClickException(f"there is no {' or '.join(PROJECT_FILES)} in {path}")
    project, findings = read_project(file.read_bytes(), str(file), name)
    if project is None:
        for finding in findings:
            click.echo(finding.render(), err=True)
        raise SystemExit(1)
    return project, findings


def _look_at_authority(project: Project) -> None:
    """Exits where the authority's folder holds what it must not: without it nothing would ever get ready."""
    if not project.options.ca or not Path(project.options.ca).exists():
        return
    from datetime import UTC, datetime

    from lateen.identity.keystore import KeystoreError
    from lateen.identity.roots import load_holding

    try:
        load_holding(Path(project.options.ca), project.options.trust_domain, datetime.now(UTC))
    except KeystoreError as problem:
        raise click.ClickException(f"the certificate authority cannot be used: {problem}") from problem


def prepare(project: Project, run: RunDir) -> None:
    """Make sure that nothing is in the way: the same mesh, leftovers of one, a taken port. Exits with 1 if so."""
    _look_at_authority(project)
    instances = [workload.instance_id(99) for workload in project.workloads]
    problem = run.longest_problem(instances)
    if problem:
        raise click.ClickException(problem)
    record = run.read_record()
    if run.is_held():
        pid = record.supervisor.pid if record else "?"
        other = f" for {record.project}" if record and record.project != project.file else ""
        raise click.ClickException(
            f"the mesh {project.name} runs already{other} (pid {pid}); see it by: lateen status {project.name}, "
            f"stop it by: lateen down {project.name}, or start another beside it by: lateen up --name OTHER"
        )
    if record is not None:
        ended, stubborn = clear(run, record)
        if stubborn:
            pids = ", ".join(str(process.pid) for process in stubborn)
            raise click.ClickException(f"an earlier run of {project.name} left processes that cannot be ended: {pids}")
        click.echo(f"cleared away what an earlier run of {project.name} left ({ended} processes)", err=True)
    taken = taken_ports(project, find_runs(runs_base()))
    for finding in taken:
        click.echo(finding.render(), err=True)
    if taken:
        raise SystemExit(1)


def _look_at(metrics: str) -> None:
    """Exit with 1 if nobody can listen at this ``host:port`` (none if empty)."""
    host, _, port = metrics.rpartition(":")
    problem = bind_problem(host or "127.0.0.1", int(port)) if metrics else ""
    if problem:
        raise click.ClickException(f"the metrics cannot be served at {metrics}: {problem}")


def claim(run: RunDir) -> None:
    """Make the run directory and hold it."""
    try:
        run.create()
    except OSError as problem:
        raise click.ClickException(f"the run directory cannot be made: {problem}") from problem
    if not run.lock():
        raise click.ClickException(f"another lateen up has just taken {run.path}")


def _foreground(
    project: Project, findings: list[Finding], run: RunDir, options: UpOptions, notify_fd: int | None
) -> int:
    from lateen.cli.running import supervise
    from lateen.cli.screen import make_screen

    events = EventLog()
    screen = make_screen(events, notify_fd)
    try:
        return asyncio.run(supervise(project, findings, run, options, events, screen))
    except BaseException:
        if notify_fd is None:  # else the parent shows what the log says, and removes it
            run.remove()
        raise
