"""``lateen metrics``: the merged metrics of a running mesh, as Prometheus reads them."""

from __future__ import annotations

from pathlib import Path

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options

TIMEOUT_S = 30.0


@click.command()
@click.argument("prefix", required=False, default="")
@mesh_options
def metrics(prefix: str, mesh_name: str | None, run_dir: Path | None) -> None:
    """Print the metrics of all proxies and the control plane; only those whose names begin with PREFIX, if given."""
    run, _ = find_mesh(mesh_name, run_dir)
    try:
        text = Client(run.api_socket).text("GET", "/metrics", timeout=TIMEOUT_S)
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
    for line in text.removesuffix("\n").split("\n"):
        if line.removeprefix("# TYPE ").startswith(prefix):
            click.echo(line)
