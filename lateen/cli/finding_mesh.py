"""Which running mesh a command means: the one that was named, the one of this folder, or the only one there is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lateen.local.project_names import PROJECT_FILES
from lateen.local.rundir import RunDir, RunRecord, base_folder, find_runs

MESH_CONFIG_HELP = "A file with a MeshConfig: options of the whole mesh."


def mesh_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options ``--mesh`` and ``--run-dir`` of every command that speaks to a running mesh."""
    command = click.option("--mesh", "mesh_name", metavar="NAME", help="The mesh, where several run.")(command)
    return click.option(
        "--run-dir", type=click.Path(path_type=Path, file_okay=False), help="Its run directory, where it was set."
    )(command)


def runs_base() -> Path:
    """Where this user's run directories stand."""
    return base_folder(os.environ.get("XDG_RUNTIME_DIR"))


def project_file(path: Path) -> Path | None:
    """The project's file that a path means: itself, or the one in that folder."""
    if path.is_file():
        return path.resolve()
    return next(((path / name).resolve() for name in PROJECT_FILES if (path / name).is_file()), None)


def find_mesh(
    name: str | None, run_dir: Path | None, *, need_alive: bool = True, only_here: bool = False
) -> tuple[RunDir, RunRecord | None]:
    """The run that is meant. ``name`` may be a mesh's name or a path of a project. Exits with a sentence if none is.

    Without a name it is the one of this folder; else the only one that there is, which is told, unless ``only_here``.
    """
    if run_dir is not None:
        run = RunDir(run_dir.resolve())
        if need_alive and not run.is_held():
            raise click.ClickException(f"no mesh runs with the run directory {run.path}{_left_over([run])}")
        if not run.is_ours():
            raise click.ClickException(f"{run.path} is not the run directory of a mesh")
        return run, run.read_record()
    found = [(run, run.read_record()) for run in find_runs(runs_base())]
    dead = [run for run, _ in found if need_alive and not run.is_held()]
    found = [(run, record) for run, record in found if not need_alive or run.is_held()]
    if name is not None:
        chosen = [pair for pair in found if pair[0].path.name == name] or _of_path(found, Path(name))
        if not chosen:
            raise click.ClickException(f"no mesh {name} runs{_others(found)}{_left_over(dead)}")
        return _the_one(chosen)
    here = _of_path(found, Path.cwd())
    if here:
        return _the_one(here)
    if not found:
        raise click.ClickException(f"no mesh runs; start one by: lateen up{_left_over(dead)}")
    if only_here:
        lines = [f"  {run.path.name}, of {_home(record)}: lateen down {run.path.name}" for run, record in found]
        raise click.ClickException("no mesh of this folder runs; these do, and are stopped by:\n" + "\n".join(lines))
    run, record = _the_one(found)
    click.echo(f"no mesh of this folder runs; this is {run.path.name}, of {_home(record)}", err=True)
    return run, record


Found = list[tuple[RunDir, RunRecord | None]]


def _of_path(found: Found, path: Path) -> Found:
    """The meshes of a project's file; of a folder those of any file in it, the usual one first."""
    file = project_file(path)
    exact = [pair for pair in found if pair[1] is not None and file is not None and pair[1].project == str(file)]
    if exact or not path.is_dir():
        return exact
    folder = str(path.resolve())
    return [pair for pair in found if pair[1] is not None and str(Path(pair[1].project).parent) == folder]


def _the_one(candidates: Found) -> tuple[RunDir, RunRecord | None]:
    if len(candidates) > 1:
        raise click.ClickException(f"several meshes run: name one by --mesh{_others(candidates)}")
    return candidates[0]


def _home(record: RunRecord | None) -> str:
    return record.project if record is not None else "an unknown folder"


def _others(found: Found) -> str:
    return f" (running: {', '.join(run.path.name for run, _ in found)})" if found else ""


def _left_over(runs: list[RunDir]) -> str:
    """A sentence on those whose supervisor is gone while their record, and maybe their processes, are still there."""
    left = [run.path.name for run in runs if run.record_file.exists()]
    return f"; the supervisor of {', '.join(left)} was killed: clear away what it left by lateen down" if left else ""
