"""``lateen convert``: security resources of the first generation, written as those of the present kinds.

The new files go to a folder, or to standard output; notes go to standard error. Nothing is overwritten.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NoReturn

import click

OUTPUT_HELP = "The folder for the new files, one for each file that is read. Without it they are printed."


@click.command(help="Write old security resources (rbac.istio.io, authentication.istio.io) as the present ones.")
@click.argument("files", nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(file_okay=False, path_type=Path), help=OUTPUT_HELP)
@click.option("--namespace", "-n", default="default", show_default=True, help="Namespace of what names none.")
def convert(files: tuple[str, ...], output: Path | None, namespace: str) -> None:
    from lateen.control.conversion import InputFile, convert as convert_files

    found = _read(files)
    result = convert_files([InputFile(str(path), data) for path, data, _ in found], namespace)
    for finding in result.findings:
        click.echo(finding.render(), err=True)
    if not result.holds:
        _fail("nothing is written: mend what is wrong first")
    targets = {str(path): target for path, _, target in found}
    if output is None:
        ended = (text if text.endswith("\n") else f"{text}\n" for text in result.texts.values())
        click.echo("---\n".join(ended), nl=False)
        return
    written = {output / targets[name]: text for name, text in result.texts.items()}
    if len(written) < len(result.texts):
        raise click.UsageError("two files have one name: convert their folder, or one after the other")
    there = [path for path in written if path.exists()]
    if there:
        raise click.UsageError(f"{there[0]} is there already: name a new folder")
    for path, text in written.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        click.echo(f"{path}", err=True)


def _read(names: tuple[str, ...]) -> list[tuple[Path, bytes, Path]]:
    """Each file with its content, and where it goes below the output."""
    from lateen.sources.files import matching_files, read_file

    found = []
    for name in names:
        top = Path(name)
        if not top.exists():
            raise click.UsageError(f"there is no file or folder {name}")
        for path in matching_files([top]):
            event = read_file(path)
            if event.error or event.data is None:
                _fail(f"{path}: {event.error or 'the file is gone'}")
            found.append((path, event.data or b"", path.relative_to(top) if top.is_dir() else Path(path.name)))
    return found


def _fail(message: str) -> NoReturn:
    click.echo(f"error: {message}", err=True)
    sys.exit(1)
