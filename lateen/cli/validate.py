"""``lateen validate``: judges files by themselves, without a mesh.

Every document is one entry in the output, in order, whatever it is.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click


@click.command(help="Check resource files: schema and meaning, each document by itself.")
@click.option("-f", "--file", "files", multiple=True, help="A file, a folder, or - for standard input.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--kind", default="", help="The kind of documents that do not say it (MeshConfig, MeshNetworks).")
@click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of what names none.")
@click.option(
    "--mesh-config", type=click.Path(exists=True, dir_okay=False), help="A file with a MeshConfig, checked too."
)
@click.option("--strict-support", is_flag=True, help="In JSON too, warn of what Lateen does not do yet.")
def validate(
    files: tuple[str, ...], output: str, kind: str, namespace: str, mesh_config: str | None, strict_support: bool
) -> None:
    from lateen.envoy.patches.check import check_patches
    from lateen.mixer.own_adapters import know_installed
    from lateen.resources.judge import judge

    if not files and not mesh_config:
        raise click.UsageError("name at least one file: lateen validate -f FILE")
    for unusable in know_installed():
        click.echo(f"the installed adapter {unusable.name} cannot be used: {unusable.why}", err=True)
    verdicts = []
    with_support = strict_support or output == "text"
    for name, data in _inputs(files):
        verdicts.extend(judge(data, name, namespace, kind, with_support=with_support, beyond=check_patches))
    for name, data in _inputs((mesh_config,) if mesh_config else ()):
        verdicts.extend(judge(data, name, namespace, "MeshConfig", with_support=with_support))
    if output == "json":
        click.echo(json.dumps({"objects": [_entry(verdict) for verdict in verdicts]}, indent=2))
    else:
        for verdict in verdicts:
            for finding in verdict.findings:
                click.echo(finding.render())
        severities = [finding.severity.value for verdict in verdicts for finding in verdict.findings]
        counts = ", ".join(_count(severities.count(name), name) for name in ("error", "warning"))
        click.echo(f"{_count(len(verdicts), 'document')}: {counts}")
    if any(finding.is_error for verdict in verdicts for finding in verdict.findings):
        sys.exit(1)


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _inputs(files: tuple[str, ...]) -> list[tuple[str, bytes]]:
    from lateen.local.project_names import is_project
    from lateen.sources.files import matching_files, read_file

    found: list[tuple[str, bytes]] = []
    for name in files:
        if name == "-":
            found.append(("<stdin>", sys.stdin.buffer.read()))
            continue
        path = Path(name)
        if not path.exists():
            raise click.UsageError(f"there is no file or folder {name}")
        for file in matching_files([path]):
            event = read_file(file)
            if path.is_dir() and is_project(file.name, event.data or b""):
                continue
            if event.error:
                raise click.UsageError(f"{file}: {event.error}")
            found.append((str(file), event.data or b""))
    return found


def _entry(verdict: Any) -> dict[str, Any]:
    def listed(severity: str) -> list[dict[str, Any]]:
        return [
            {
                "path": finding.origin.field,
                "message": finding.message,
                "code": finding.code,
                "file": finding.origin.path,
                "line": finding.origin.line,
                "remedy": finding.remedy,
            }
            for finding in verdict.findings
            if finding.severity.value == severity
        ]

    return {
        "kind": verdict.kind,
        "namespace": verdict.namespace,
        "name": verdict.name,
        "errors": listed("error"),
        "warnings": listed("warning"),
    }
