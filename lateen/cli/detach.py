"""``lateen up --detach``: start the supervisor as a process of its own and wait until it says that all is ready."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.up_options import UpOptions
from lateen.local.cleanup import clear
from lateen.local.processes import tail
from lateen.local.project import Project
from lateen.local.rundir import RunDir

TAIL_LINES = 15
STOP_S = 20.0
HANG_UP_S = 10.0
API_S = 5.0
QUIET = frozenset({"ready", "control-ready", "mesh-ready"})


def start_detached(project: Project, run: RunDir, asked: UpOptions, timeout: float) -> int:
    """Start it and wait. Returns the exit code of the command."""
    claim_folder(run)
    reader, writer = os.pipe()
    argv = [sys.executable, "-m", "lateen", "up", project.file, "--name", project.name, "--run-dir", str(run.path)]
    options = ["--capture", asked.capture, "--metrics", asked.metrics, "--notify-fd", str(writer)]
    options += ["--mesh-config", asked.mesh_config] if asked.mesh_config else []
    options += [word for network in asked.jwks_allow for word in ("--allow-jwks-address", network)]
    with run.supervisor_log.open("ab") as log:
        process = subprocess.Popen(
            [*argv, *options],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            pass_fds=(writer,),
        )
    os.close(writer)
    deadline = time.monotonic() + timeout
    ready = _wait(reader, deadline)
    os.close(reader)
    if ready:
        for gateway in _gateways(run):
            for url in gateway["urls"]:
                click.echo(f"{url}  gateway {gateway['workload']}")
        click.echo(f"mesh {project.name} is ready (pid {process.pid}); stop it by: lateen down {project.name}")
        return 0
    return _explain(process, project, run, timeout, deadline)


def claim_folder(run: RunDir) -> None:
    """Make the run directory, for the log; the supervisor takes the lock."""
    try:
        run.create()
    except OSError as problem:
        raise click.ClickException(f"the run directory cannot be made: {problem}") from problem


def _wait(reader: int, deadline: float) -> bool:
    """Read the supervisor's events until all is ready; False if it ends, or the time is over, before that."""
    rest = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([reader], [], [], left)[0]:
            return False
        data = os.read(reader, 65536)
        if not data:
            return False
        *lines, rest = (rest + data).split(b"\n")
        for line in lines:
            event = json.loads(line)
            if event["kind"] == "mesh-ready":
                return True
            if event["kind"] not in QUIET:
                subject = f"{event['subject']}: " if event["subject"] else ""
                click.echo(f"{subject}{event['text']}", err=True)
    return False


def _gateways(run: RunDir) -> list[dict[str, Any]]:
    """The gateways as the API tells them; it may come up a moment after everything else is ready."""
    deadline = time.monotonic() + API_S
    while True:
        try:
            return list(Client(run.api_socket).get("/v1/status")["gateways"])
        except ApiError:
            if time.monotonic() > deadline:
                return []
            time.sleep(0.02)


def _exit_code(process: subprocess.Popen[bytes], hung_up: bool) -> int | None:
    """How it ended; None if it still runs. One that ``hung_up`` is about to end."""
    try:
        return process.wait(HANG_UP_S if hung_up else 0)
    except subprocess.TimeoutExpired:
        return None


def _explain(process: subprocess.Popen[bytes], project: Project, run: RunDir, timeout: float, deadline: float) -> int:
    """Say why it is not ready, with the ends of the logs that tell; then take it all down."""
    ended = _exit_code(process, time.monotonic() < deadline)
    what = f"the supervisor ended with {ended}" if ended is not None else f"not ready within {timeout:g} s"
    click.echo(f"mesh {project.name}: {what}", err=True)
    for name, path in _telling_logs(run, ended is not None):
        lines = tail(path, TAIL_LINES)
        if lines:
            click.echo(f"--- the end of {name}", err=True)
            for line in lines:
                click.echo(line, err=True)
    if ended is None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if run.path.exists():
        clear(run, run.read_record())
    return 1


def _telling_logs(run: RunDir, ended: bool) -> list[tuple[str, Path]]:
    """Say of each instance that is not ready why, and name the log that tells more."""
    try:
        status = None if ended else Client(run.api_socket).get("/v1/status", timeout=2.0)
    except ApiError:
        status = None
    if status is None:
        return [("the supervisor's log", run.supervisor_log), ("the control plane's log", run.control_log)]
    found: list[tuple[str, Path]] = []
    for one in (*status["gateways"], *status["workloads"]):
        if one["ready"]:
            continue
        click.echo(f"{one['name']} is not ready: {one['detail'] or one['stage']}", err=True)
        kind = "app" if one["stage"] == "running" and not one["ports"] else "envoy"
        found.append((f"{one['name']}'s {kind} log", run.proxy(one["name"]) / f"{kind}.log"))
    if not status["control_plane"]["ready"]:
        click.echo("the control plane is not ready", err=True)
        found.append(("the control plane's log", run.control_log))
    return found
