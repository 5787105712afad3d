"""``lateen scale`` and ``lateen restart``: changes to a running mesh."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options


@click.command()
@click.argument("service", metavar="SERVICE[/VERSION]")
@click.argument("replicas", type=click.IntRange(0, 100))
@mesh_options
def scale(service: str, replicas: int, mesh_name: str | None, run_dir: Path | None) -> None:
    """Run another number of replicas, from now on and until lateen.yaml says otherwise. Waits until they are ready."""
    answer = _post(mesh_name, run_dir, "/v1/scale", {"workload": service, "replicas": replicas})
    instances = answer["instances"]
    ready = sum(1 for instance in instances if instance["ready"])
    click.echo(f"{answer['workload']}: {ready} of {replicas} ready")
    if ready != replicas:
        raise SystemExit(1)


@click.command()
@click.argument("service", metavar="SERVICE[/VERSION]")
@mesh_options
def restart(service: str, mesh_name: str | None, run_dir: Path | None) -> None:
    """Restart the applications of a service or workload, one replica after the other."""
    answer = _post(mesh_name, run_dir, "/v1/restart", {"workload": service})
    click.echo(f"restarted: {', '.join(answer['restarted'])}")


def _post(mesh_name: str | None, run_dir: Path | None, target: str, body: dict[str, object]) -> Any:
    run, _ = find_mesh(mesh_name, run_dir)
    try:
        return Client(run.api_socket).post(target, body)
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
