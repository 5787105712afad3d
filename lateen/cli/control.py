"""``lateen control``: the control plane itself; the supervisor starts it."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(hidden=True, help="Run the control plane of a mesh.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
def control(run_dir: Path) -> None:
    from lateen.control.runtime import run_control_plane

    run_control_plane(run_dir)
