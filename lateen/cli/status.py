"""``lateen status``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.cli.saying import say


@click.command()
@click.argument("name", required=False, metavar="[NAME|PATH]")
@mesh_options
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
def status(name: str | None, mesh_name: str | None, run_dir: Path | None, output: str) -> None:
    """Show gateways, workloads and findings of a running mesh. Exits with 1 if something is not ready."""
    run, _ = find_mesh(name or mesh_name, run_dir)
    try:
        answer = Client(run.api_socket).get("/v1/status")
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    else:
        for line in render_status(answer):
            say(line)
    raise SystemExit(0 if answer["ready"] else 1)


def render_status(answer: dict[str, Any]) -> list[str]:
    """The status as lines of text: gateways first."""
    control = answer["control_plane"]
    lines = [f"mesh {answer['name']} (pid {answer['pid']}), capture by {answer['capture']['mode'] or '...'}"]
    lines += [_gateway_line(gateway) for gateway in answer["gateways"]]
    lines += table(
        ["INSTANCE", "SERVICE", "VERSION", "READY", "RESTARTS", "PID", "ADDRESS", ""],
        [
            [
                one["name"],
                one["service"],
                one["version"] or "-",
                "yes" if one["ready"] else "no",
                str(one["restarts"]),
                str(one["pid"] or "-"),
                one["address"],
                one["detail"],
            ]
            for one in answer["workloads"]
        ],
    )
    if not control["ready"]:
        lines.append(f"control plane: not ready, started again {control['restarts']} times")
    mixer = answer.get("mixer")
    if mixer and not mixer["ready"]:
        lines.append(f"mixer: not ready, started again {mixer['restarts']} times")
    lines += [finding["text"] for finding in answer["findings"]]
    return lines


def _gateway_line(gateway: dict[str, Any]) -> str:
    """Its open ports and how it is. One that listens nowhere is not called ready."""
    if not gateway["ready"]:
        state = f"not ready: {gateway['detail']}"
    elif not gateway["urls"]:
        state = gateway["detail"] or "no port is open"
    else:
        state = f"ready; {gateway['detail']}" if gateway["detail"] else "ready"
    return f"gateway {gateway['workload']}: " + "  ".join([*gateway["urls"], state])


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Columns under one another, as wide as they have to be."""
    widths = [max(len(row[index]) for row in [head, *rows]) for index in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in [head, *rows]
    ]
