"""``lateen exec``: a command in the place of a workload, with its network, names and environment."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options


@click.command(name="exec", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@mesh_options
@click.argument("workload")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED, metavar="-- COMMAND...")
def execute(workload: str, command: tuple[str, ...], mesh_name: str | None, run_dir: Path | None) -> None:
    """Run COMMAND as WORKLOAD would: its requests pass through that workload's sidecar."""
    run, _ = find_mesh(mesh_name, run_dir)
    try:
        place = Client(run.api_socket).get(f"/v1/command?name={quote(workload)}")
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
    words = command[1:] if command[0] == "--" else command
    argv = [*place["prefix"], *words]
    environment = {**place["environment"], **{name: os.environ[name] for name in ("TERM",) if name in os.environ}}
    os.chdir(place["working_dir"])
    try:
        os.execvpe(argv[0], argv, environment)  # noqa: S606 - the command is what the user asked for
    except OSError as problem:
        raise click.ClickException(f"{argv[0]}: {problem.strerror}") from problem
