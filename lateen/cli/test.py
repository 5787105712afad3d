"""``lateen test``: runs routing tests, files that say where calls through a proxy must end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lateen.cli.finding_mesh import MESH_CONFIG_HELP
from lateen.cli.saying import say

if TYPE_CHECKING:
    from lateen.control.playing.cases import LiveCase, LiveResult
    from lateen.control.routing_tests import CallResult, CaseResult

LIVE_HELP = "Play the calls through a real Envoy too, and fail where it does not do what the walk says."


@click.command(help="Run routing tests: files of configuration, a proxy, calls and where each must end.")
@click.argument("arguments", nargs=-1)
@click.option("-f", "--file", "files", multiple=True, help="A test file or a folder of them; may be repeated.")
@click.option("--live", is_flag=True, help=LIVE_HELP)
@click.option("--mesh-config", type=click.Path(exists=True, dir_okay=False, path_type=Path), help=MESH_CONFIG_HELP)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@click.option("--verbose", "-v", is_flag=True, help="Say of calls that pass, too, what decided.")
def test(
    arguments: tuple[str, ...],
    files: tuple[str, ...],
    live: bool,
    mesh_config: Path | None,
    output: str,
    verbose: bool,
) -> None:
    names = (*files, *arguments)
    if not names:
        raise click.UsageError("name at least one file: lateen test FILE")
    for name in names:
        if not Path(name).exists():
            raise click.UsageError(f"there is no file or folder {name}")
    cases, unusable = _walked(names, mesh_config)
    played: Sequence[LiveCase | None] = [None] * len(cases)
    if live:
        from lateen.control.playing.cases import play_cases

        played = play_cases(cases)
    if output == "json":
        import json

        entries = [_entry(case, found) for case, found in zip(cases, played, strict=True)]
        click.echo(json.dumps({"cases": entries}, indent=2))
    else:
        _report(cases, played, verbose=verbose)
    if unusable:
        sys.exit(2)
    if not all(_passed(case, found) for case, found in zip(cases, played, strict=True)):
        sys.exit(1)


def _walked(names: Sequence[str], mesh_config: Path | None) -> tuple[list[CaseResult], int]:
    """The cases, and how many files are none."""
    from lateen.control.routing_tests import BadCase, run_case
    from lateen.sources.files import matching_files, read_file

    options = read_file(mesh_config) if mesh_config is not None else None
    if options is not None and options.error:
        raise click.UsageError(f"{mesh_config}: {options.error}")
    cases: list[CaseResult] = []
    unusable = 0
    for path in matching_files(Path(name) for name in names):
        if mesh_config is not None and path.samefile(mesh_config):
            continue
        event = read_file(path)
        try:
            if event.error:
                raise click.UsageError(f"{path}: {event.error}")
            cases.append(run_case(event.data or b"", str(path), options))
        except BadCase as problem:
            click.echo(problem.finding.render(), err=True)
            unusable += 1
    return cases, unusable


def _passed(case: CaseResult, played: LiveCase | None) -> bool:
    return case.passed and all(found.passed for found in played or ())


def _pairs(case: CaseResult, played: LiveCase | None) -> list[tuple[CallResult, LiveResult | None]]:
    return list(zip(case.results, played if played is not None else [None] * len(case.results), strict=True))


def _call_passed(result: CallResult, live: LiveResult | None) -> bool:
    return result.passed and (live is None or live.passed)


# --- for programs ----------------------------------------------------------------------------------------------------


def _entry(case: CaseResult, played: LiveCase | None) -> dict[str, Any]:
    calls = []
    for result, live in _pairs(case, played):
        calls.append(
            {
                "name": result.name,
                "actual": {name: value or None for name, value in result.actual.items()},
                "clusters": dict(result.verdict.clusters),
                "passed": _call_passed(result, live),
                "differences": list(result.differences),
                "trail": list(result.verdict.trail),
                **({"live": _live_entry(live)} if live is not None else {}),
            }
        )
    return {"file": case.file, "name": case.name, "passed": _passed(case, played), "calls": calls}


def _live_entry(live: LiveResult) -> dict[str, Any]:
    from lateen.control.playing.play import NotPlayed

    outcome = live.outcome
    if isinstance(outcome, NotPlayed):
        return {"played": False, "reason": outcome.reason, "disagreements": list(live.disagreements)}
    return {
        "played": True,
        "actual": {name: value or None for name, value in outcome.named.items()},
        "status": outcome.status or None,
        "detail": outcome.detail,
        "disagreements": list(live.disagreements),
    }


# --- for people ------------------------------------------------------------------------------------------------------


def _report(cases: Sequence[CaseResult], played: Sequence[LiveCase | None], *, verbose: bool) -> None:
    pairs = []
    for case, found in zip(cases, played, strict=True):
        say(f"{'pass' if _passed(case, found) else 'FAIL'}  {case.name}  ({case.file})")
        for finding in case.findings:
            say(f"      {finding.render()}")
        for result, live in _pairs(case, found):
            pairs.append((result, live))
            if verbose or not _call_passed(result, live) or _reason(live):
                _report_call(result, live, with_trail=verbose or not _call_passed(result, live))
    failed = sum(not _call_passed(*pair) for pair in pairs)
    total = f"{len(cases)} tests, {len(pairs)} calls: {len(pairs) - failed} passed, {failed} failed"
    if any(live is not None for _, live in pairs):
        left = sum(bool(_reason(live)) for _, live in pairs)
        total += f"; {len(pairs) - left} played on Envoy, {left} not"
    say(total)


def _reason(live: LiveResult | None) -> str:
    """Why a call was not played; empty where it was."""
    return getattr(live.outcome, "reason", "") if live is not None else ""


def _report_call(result: CallResult, live: LiveResult | None, *, with_trail: bool) -> None:
    call = result.call
    target = f"{call.host or call.address}:{call.port}{call.path if call.protocol.is_http else ''}"
    word = "pass" if _call_passed(result, live) else "FAIL"
    say(f"  {word}  {result.name}: {call.mode.value} {call.protocol.value} {target}")
    for difference in result.differences:
        say(f"          {difference}")
    if live is not None:
        _report_live(live)
    for step in result.verdict.trail if with_trail else ():
        say(f"        - {step}")


def _report_live(live: LiveResult) -> None:
    from lateen.control.playing.play import NotPlayed

    if isinstance(live.outcome, NotPlayed):
        say(f"          not played: {live.outcome.reason}")
        return
    for difference in live.disagreements:
        say(f"          Envoy disagrees: {difference}")
    if not live.disagreements:
        say(f"          Envoy agrees: {live.outcome.end}")
