"""``lateen xds``: what a proxy would be configured with, from files alone."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from lateen.cli.finding_mesh import MESH_CONFIG_HELP


@click.command(help="Show what a proxy with these resources would get, without a mesh.")
@click.argument("arguments", nargs=-1)
@click.option("-f", "--file", "files", multiple=True, help="A resource file or a folder; may be repeated.")
@click.option("--type", "kind", type=click.Choice(["sidecar", "gateway"]), default="sidecar", show_default=True)
@click.option("--namespace", "-n", default="default", show_default=True)
@click.option("--label", "-l", "labels", multiple=True, metavar="K=V", help="A label of the workload.")
@click.option("--ip", default="127.0.0.1", show_default=True, help="The workload's address.")
@click.option("--service-account", default="default", show_default=True)
@click.option("--mesh-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=MESH_CONFIG_HELP)
@click.option("--bootstrap", is_flag=True, help="One static file that `envoy --mode validate` takes.")
@click.option("-o", "--output", type=click.Choice(["json"]), default="json", show_default=True)
def xds(
    arguments: tuple[str, ...],
    files: tuple[str, ...],
    kind: str,
    namespace: str,
    labels: tuple[str, ...],
    ip: str,
    service_account: str,
    mesh_config: Path | None,
    bootstrap: bool,
    output: str,
) -> None:
    from lateen.control.offline import OfflineProxy, configure

    names = (*files, *arguments)
    if not names:
        raise click.UsageError("name at least one file: lateen xds -f FILE")
    for name in names:
        if not Path(name).exists():
            raise click.UsageError(f"there is no file or folder {name}")
    pairs = tuple(sorted(_label(text) for text in labels))
    if not _is_address(ip):
        raise click.UsageError(f"--ip {ip} is no address")
    proxy = OfflineProxy(kind, namespace, pairs, ip, service_account)
    result = configure([Path(name) for name in names], proxy, mesh_config=mesh_config)
    for finding in result.findings:
        click.echo(finding.render(), err=True)
    if bootstrap:
        click.echo(result.bootstrap())
    else:
        import json

        click.echo(json.dumps(result.readable(), indent=2))
    if any(finding.is_error for finding in result.findings):
        sys.exit(1)


def _label(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not name:
        raise click.UsageError(f"--label {text} is not name=value")
    return name, value


def _is_address(text: str) -> Any:
    import ipaddress

    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
