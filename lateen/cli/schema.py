"""``lateen schema``."""

from __future__ import annotations

import click


@click.command()
def schema() -> None:
    """Print the JSON schema of lateen.yaml, for an editor to complete and check by."""
    from lateen.local.schema import render_schema

    click.echo(render_schema(), nl=False)
