"""``lateen down``: in order if the supervisor lives, by its records if it does not."""

from __future__ import annotations

import os
import time
from pathlib import Path

import click

from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.local.cleanup import clear, wait_until_released
from lateen.local.procfs import is_alive, send
from lateen.local.rundir import RunDir, RunRecord

SIGTERM, SIGKILL = 15, 9


@click.command()
@click.argument("name", required=False, metavar="[NAME|PATH]")
@click.option("--timeout", type=click.FloatRange(1, 600), default=60.0, help="Seconds to wait for an orderly end.")
@mesh_options
def down(name: str | None, timeout: float, mesh_name: str | None, run_dir: Path | None) -> None:
    """Stop the mesh of this folder, or the one named: requests in flight are finished, nothing stays behind."""
    run, record = find_mesh(name or mesh_name, run_dir, need_alive=False, only_here=True)
    if run.is_held() and record is not None:
        _stop_living(run, record, timeout)
    if not run.path.exists():
        click.echo(f"mesh {record.name if record else run.path.name} is down")
        return
    ended, stubborn = clear(run, record)
    if stubborn:
        pids = ", ".join(str(process.pid) for process in stubborn)
        raise click.ClickException(f"these processes could not be ended: {pids}; {run.path} is kept")
    click.echo(f"mesh {run.path.name} is down: its supervisor was gone, {ended} processes of it were ended")


def _stop_living(run: RunDir, record: RunRecord, timeout: float) -> None:
    """Ask the supervisor to stop, and wait for it; one that does not is killed, and cleared away after."""
    if record.supervisor.pid == os.getpid() or not send(record.supervisor, SIGTERM):
        wait_until_released(run, 1.0)
        return
    deadline = time.monotonic() + timeout
    while is_alive(record.supervisor) and time.monotonic() < deadline:
        time.sleep(0.02)
    if is_alive(record.supervisor):
        click.echo(
            f"the supervisor (pid {record.supervisor.pid}) did not end within {timeout:g} s: it is killed", err=True
        )
        send(record.supervisor, SIGKILL)
    wait_until_released(run, 5.0)
