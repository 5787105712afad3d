"""``lateen logs``: read from the files in the run directory, so it works for a mesh that is stuck as well."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.local.processes import tail
from lateen.local.rundir import RunDir
from lateen.values.printing import printable

POLL_S = 0.1
ASKED_AT_ONCE = 200
REFUSED = (
    "rbac_access_denied",
    "jwt_authn_access_denied",
    "ext_authz_",
    "filter_chain_not_found",
    '"downstream_transport_failure_reason":"',
    '"mixer_refused_by":"',
    '"response_flags":"RL"',
)
"""What stands in the lines of refused requests and connections."""
OF_THE_MESH = ("control", "mixer", "supervisor")


@click.command()
@click.argument("name", required=False, metavar="[INSTANCE|WORKLOAD|SERVICE]")
@click.option("-f", "--follow", is_flag=True, help="Go on with what is written from now on.")
@click.option("-n", "--lines", type=click.IntRange(0, 100_000), default=100, help="How many of the last lines.")
@click.option("--envoy", "kind", flag_value="envoy", help="What the proxies wrote.")
@click.option("--access", "kind", flag_value="access", help="The proxies' access logs: a JSON object a request.")
@click.option("--control", "kind", flag_value="control", help="What the control plane wrote.")
@click.option("--mixer", "kind", flag_value="mixer", help="What the mixer wrote.")
@click.option("--supervisor", "kind", flag_value="supervisor", help="What happened in the mesh.")
@mesh_options
def logs(
    name: str | None, follow: bool, lines: int, kind: str | None, mesh_name: str | None, run_dir: Path | None
) -> None:
    """Show what applications (or proxies) wrote: of one instance, of all of a service, or of everything."""
    if name and kind in OF_THE_MESH:
        raise click.UsageError(f"--{kind} shows what is one for the whole mesh: leave {name} out")
    run, _ = find_mesh(mesh_name, run_dir, need_alive=False)
    files = log_files(run, name, kind or "app")
    if not files:
        known = ", ".join(sorted(path.name for path in (run.path / "proxies").glob("*")))
        raise click.ClickException(f"there is no log of {name or 'any workload'}; there are: {known}")
    several = len(files) > 1
    for label, path in files.items():
        shown = list(tail(path, lines))
        for line in with_reasons(run, label, shown) if kind == "access" else shown:
            _print(label if several else "", line)
    if follow:
        try:
            for label, line in _follow(files):
                shown = with_reasons(run, label, [line]) if kind == "access" else [line]
                _print(label if several else "", shown[0])
        except KeyboardInterrupt:
            return


def with_reasons(run: RunDir, instance: str, lines: list[str]) -> list[str]:
    """Lines of an access log; those of what was refused say by which rules, with file and line.

    That is how the rules stand now. Without a control plane the lines stay as they are.
    """
    found = list(lines)
    denied = [(index, entry) for index, line in enumerate(lines) if (entry := _refused(line)) is not None]
    for start in range(0, len(denied), ASKED_AT_ONCE):
        some = denied[start : start + ASKED_AT_ONCE]
        try:
            answer = Client(run.control_socket).post(
                f"/v1/denials/{quote(instance, safe='')}", [entry for _, entry in some]
            )
        except ApiError:
            return found
        for (index, entry), reasons in zip(some, answer["denials"], strict=True):
            if reasons:
                found[index] = json.dumps({**entry, "denied_because": reasons})
    return found


def _refused(line: str) -> dict[str, Any] | None:
    """The entry of something that was refused. A line that is not whole is none."""
    if not any(mark in line for mark in REFUSED):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def log_files(run: RunDir, name: str | None, kind: str) -> dict[str, Path]:
    """The files that are meant, by instance. A workload or service means all instances whose names begin with it."""
    own = {"control": run.control_log, "mixer": run.mixer_log, "supervisor": run.supervisor_log}
    if kind in own:
        return {kind: own[kind]}
    folders = sorted((run.path / "proxies").glob("*"))
    wanted = (name or "").replace("/", "-")
    if wanted:
        exact = [folder for folder in folders if folder.name == wanted]
        folders = exact or [folder for folder in folders if folder.name.startswith(f"{wanted}-")]
    return {folder.name: folder / f"{kind}.log" for folder in folders if kind != "app" or (folder / "app.log").exists()}


def _follow(files: dict[str, Path]) -> Iterator[tuple[str, str]]:
    """New lines as they come; a file that became shorter was emptied and is read from its start."""
    places = {label: path.stat().st_size if path.exists() else 0 for label, path in files.items()}
    rest = dict.fromkeys(files, b"")
    while True:
        idle = True
        for label, path in files.items():
            size = path.stat().st_size if path.exists() else 0
            if size < places[label]:
                places[label] = 0
            if size == places[label]:
                continue
            idle = False
            with path.open("rb") as file:
                file.seek(places[label])
                data = rest[label] + file.read(1 << 20)
                places[label] = file.tell()
            *whole, rest[label] = data.split(b"\n")
            for line in whole:
                yield label, line.decode(errors="replace")
        if idle:
            time.sleep(POLL_S)


def _print(label: str, line: str) -> None:
    text = f"{label}: {line}" if label else line
    click.echo(printable(text, keep="\t"))
