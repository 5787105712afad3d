"""``lateen proxy``: the proxies of a running mesh: who has which configuration, and what it is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.cli.saying import say


@click.group(help="Look at the proxies of a running mesh.")
def proxy() -> None:
    """Only a group."""


@proxy.command(help="Show for each proxy and type of resource whether it has what it should have.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def status(output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    answer = _ask("/v1/proxies", mesh_name, run_dir)
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
        return
    rows = [("PROXY", "CLUSTERS", "ENDPOINTS", "LISTENERS", "ROUTES", "SECRETS")]
    problems = []
    for entry in answer["proxies"]:
        states = {kind: detail["state"] for kind, detail in entry["types"].items()}
        cells = [states.get(kind, "NOT SENT") for kind in ("clusters", "endpoints", "listeners", "routes", "secrets")]
        rows.append((entry["id"], *cells))
        problems += [
            f"{entry['id']} {kind}: {detail['error']}" for kind, detail in entry["types"].items() if detail.get("error")
        ]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for problem in problems:
        say(problem, err=True)


@proxy.command(help="Show what a proxy was given: listeners, routes, clusters, endpoints; keys are left out.")
@click.argument("proxy_id", metavar="PROXY")
@click.option("--kind", type=click.Choice(["listeners", "routes", "clusters", "endpoints", "secrets"]), default=None)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def config(proxy_id: str, kind: str | None, output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    answer = _ask(f"/v1/config/{quote(proxy_id, safe='')}", mesh_name, run_dir)
    chosen = {kind: answer[kind]} if kind else answer
    if output == "json":
        click.echo(json.dumps(chosen, indent=2))
        return
    for section, entries in chosen.items():
        click.echo(f"{section.upper()} ({len(entries)})")
        for entry in entries:
            say(f"  {_line(section, entry)}")


def _line(section: str, entry: dict[str, Any]) -> str:
    if section == "listeners":
        return f"{entry['name']}  {_place(entry.get('address', {}))}"
    if section == "routes":
        hosts = ", ".join(host["name"] for host in entry.get("virtualHosts", []))
        return f"{entry['name']}  {hosts}"
    if section == "endpoints":
        members = [
            _place(member["endpoint"]["address"])
            for group in entry.get("endpoints", [])
            for member in group.get("lbEndpoints", [])
        ]
        return f"{entry['clusterName']}  {', '.join(members) or 'none'}"
    return str(entry["name"])


def _place(address: dict[str, Any]) -> str:
    """An address and port, or the path of a Unix socket."""
    if "pipe" in address:
        return str(address["pipe"]["path"])
    found = address.get("socketAddress", {})
    return f"{found.get('address', '')}:{found.get('portValue', '')}"


def _ask(target: str, mesh_name: str | None, run_dir: Path | None) -> Any:
    import asyncio

    from lateen.local.uds_http import request

    run, _ = find_mesh(mesh_name, run_dir)
    try:
        status_code, body = asyncio.run(request(run.control_socket, target, bound_s=10.0))
    except (OSError, TimeoutError):
        raise click.ClickException("the control plane does not answer just now; see lateen status") from None
    if status_code != 200:
        raise click.ClickException(_reason(body) or f"the control plane answered {status_code}")
    return json.loads(body)


def _reason(body: bytes) -> str:
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return ""
