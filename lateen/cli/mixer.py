"""``lateen mixer``: look at Mixer's rules; the supervisor starts ``mixer serve``."""

from __future__ import annotations

from pathlib import Path

import click


@click.group()
def mixer() -> None:
    """Look at Mixer's rules: what they decide, and where."""


@mixer.command(hidden=True, help="Run the mixer of a mesh.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
def serve(run_dir: Path) -> None:
    from lateen.mixer.runtime import run_mixer

    run_mixer(run_dir)
