"""``lateen test``: runs routing tests, files that say where calls through a proxy must end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from lateen.control.routing_tests import CallResult, CaseResult


@click.command(help="Run routing tests: files of configuration, a proxy, calls and where each must end.")
@click.argument("arguments", nargs=-1)
@click.option("-f", "--file", "files", multiple=True, help="A test file or a folder of them; may be repeated.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Say of calls that pass, too, what decided.")
def test(arguments: tuple[str, ...], files: tuple[str, ...], output: str, verbose: bool) -> None:
    from lateen.control.routing_tests import BadCase, run_case
    from lateen.sources.files import matching_files, read_file

    names = (*files, *arguments)
    if not names:
        raise click.UsageError("name at least one file: lateen test FILE")
    for name in names:
        if not Path(name).exists():
            raise click.UsageError(f"there is no file or folder {name}")
    cases: list[CaseResult] = []
    unusable = 0
    for path in matching_files(Path(name) for name in names):
        event = read_file(path)
        try:
            if event.error:
                raise click.UsageError(f"{path}: {event.error}")
            cases.append(run_case(event.data or b"", str(path)))
        except BadCase as problem:
            click.echo(problem.finding.render(), err=True)
            unusable += 1
    if output == "json":
        import json

        click.echo(json.dumps({"cases": [_entry(case) for case in cases]}, indent=2))
    else:
        _report(cases, verbose=verbose)
    if unusable:
        sys.exit(2)
    if not all(case.passed for case in cases):
        sys.exit(1)


def _entry(case: CaseResult) -> dict[str, Any]:
    calls = [
        {
            "name": result.name,
            "actual": {name: value or None for name, value in result.actual.items()},
            "clusters": dict(result.verdict.clusters),
            "passed": result.passed,
            "differences": list(result.differences),
            "trail": list(result.verdict.trail),
        }
        for result in case.results
    ]
    return {"file": case.file, "name": case.name, "passed": case.passed, "calls": calls}


def _report(cases: list[CaseResult], *, verbose: bool) -> None:
    for case in cases:
        click.echo(f"{'pass' if case.passed else 'FAIL'}  {case.name}  ({case.file})")
        for finding in case.findings:
            click.echo(f"      {finding.render()}")
        for result in case.results:
            if verbose or not result.passed:
                _report_call(result)
    calls = [result for case in cases for result in case.results]
    failed = sum(not result.passed for result in calls)
    click.echo(f"{len(cases)} tests, {len(calls)} calls: {len(calls) - failed} passed, {failed} failed")


def _report_call(result: CallResult) -> None:
    call = result.call
    target = f"{call.host or call.address}:{call.port}{call.path if call.protocol.is_http else ''}"
    click.echo(
        f"  {'pass' if result.passed else 'FAIL'}  {result.name}: {call.mode.value} {call.protocol.value} {target}"
    )
    for difference in result.differences:
        click.echo(f"          {difference}")
    for step in result.verdict.trail:
        click.echo(f"        - {step}")
