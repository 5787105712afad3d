"""Lines for people: what names, paths and messages from elsewhere hold cannot steer their terminal, or look like more
lines of ours."""

from __future__ import annotations

import click

from lateen.values.printing import printable


def say(line: str, *, err: bool = False) -> None:
    """One line of text."""
    click.echo(printable(line), err=err)
