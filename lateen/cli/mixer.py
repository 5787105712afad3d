"""``lateen mixer``: look at Mixer's rules; the supervisor starts ``mixer serve``."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.cli.saying import say

NAMED = 12
WHERE = {"proxy": "in the proxy", "mixer": "by the mixer", "nowhere": "nowhere"}


@click.group()
def mixer() -> None:
    """Look at Mixer's rules: what they decide, and where."""


@mixer.command(hidden=True, help="Run the mixer of a mesh.")
@click.option("--run-dir", required=True, type=click.Path(path_type=Path, exists=True, file_okay=False))
def serve(run_dir: Path) -> None:
    from lateen.mixer.runtime import run_mixer

    run_mixer(run_dir)


@mixer.command(help="Say of each rule where it is decided, in the proxy or by the mixer, and why.")
@click.argument("workload", required=False, metavar="[INSTANCE|WORKLOAD|SERVICE]")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def explain(workload: str | None, output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    run, _ = find_mesh(mesh_name, run_dir)
    try:
        found = Client(run.control_socket).get("/v1/mixer")["parts"]
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
    if workload is not None:
        known = sorted({one["workload"] for one in found})
        meant = meant_by(workload, known)
        if found and not meant:
            raise click.ClickException(f"there is no workload {workload}; there are: {', '.join(known)}")
        found = [one for one in found if one["workload"] in meant]
    if output == "json":
        click.echo(json.dumps(found, indent=2))
    elif not found:
        click.echo("no rule of Mixer has a say in requests")
    else:
        _print(found)


def meant_by(name: str, workloads: Iterable[str]) -> set[str]:
    """The workloads that a name means: of a workload, of one of its instances, or of a service."""
    workload, _, number = name.rpartition("-")
    exact = {one for one in workloads if one in (name, workload if number.isdecimal() else name)}
    return exact or {one for one in workloads if one.startswith(f"{name}-")}


def _print(found: list[dict[str, Any]]) -> None:
    for rule, parts in itertools.groupby(found, key=lambda one: one["rule"]):
        listed = list(parts)
        say(f"rule {rule}  ({listed[0]['file']}:{listed[0]['line']})")
        for what, places in itertools.groupby(listed, key=lambda one: one["what"]):
            say(f"  {what}")
            by_reason: dict[tuple[str, str], list[str]] = {}
            for one in places:
                by_reason.setdefault((one["where"], one["why"]), []).append(f"{one['workload']}:{one['port']}")
            for (where, why), ports in by_reason.items():
                say(f"    {', '.join(ports)}: {WHERE[where]}, because {why}")


@mixer.command(help="Check attributes that you write down against the rules of the mesh, and print the outcome.")
@click.argument("attributes", nargs=-1, metavar="[NAME=VALUE | MAP[KEY]=VALUE]...")
@click.option(
    "--at",
    metavar="WORKLOAD[:PORT]",
    default="",
    help="Fill in what is constant there: an instance, a workload or a service.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def check(attributes: tuple[str, ...], at: str, output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    outcome = _by_hand(mesh_name, run_dir, attributes, at, lambda rules, bag: rules.check(bag))
    if output == "json":
        click.echo(json.dumps(_entry(outcome), indent=2, ensure_ascii=False))
    else:
        for line in _lines(outcome):
            say(line)
    raise SystemExit(1 if outcome.code else 0)


@mixer.command(help="Report attributes that you write down, to the handlers that rules name, and print what they get.")
@click.argument("attributes", nargs=-1, metavar="[NAME=VALUE | MAP[KEY]=VALUE]...")
@click.option(
    "--at",
    metavar="WORKLOAD[:PORT]",
    default="",
    help="Fill in what is constant there: an instance, a workload or a service.",
)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def report(attributes: tuple[str, ...], at: str, output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    from lateen.mixer.adapters.texts import plain

    found = _by_hand(mesh_name, run_dir, attributes, at, lambda rules, bag: rules.report(bag))
    told = [
        {
            "handler": reported.handler.name,
            "template": reported.template,
            "taken": taken,
            "fields": {name: plain(value) for name, value in sorted(_fields(reported.instance))},
        }
        for reported, taken in found
    ]
    if output == "json":
        click.echo(json.dumps(told, indent=2, ensure_ascii=False))
    else:
        _print_reports(told)
    raise SystemExit(0 if all(taken for _, taken in found) else 1)


def _print_reports(told: list[dict[str, Any]]) -> None:
    for one in told:
        say(f"{one['handler']}: {'took' if one['taken'] else 'did not take'} {one['template']}")
        for name, value in one["fields"].items():
            say(f"  {name} = {json.dumps(value, ensure_ascii=False)}")
    if not told:
        say("no rule reports this")


def _fields(instance: Any) -> Iterator[tuple[str, Any]]:
    """What an instance says, but for what is empty; an entry of a map stands under its own name."""
    for name in instance.__struct_fields__:
        value = getattr(instance, name)
        if isinstance(value, Mapping):
            yield from ((f"{name}.{key}", entry) for key, entry in value.items())
        elif value not in (None, "", 0, False) and name != "name":
            yield name, value


def _by_hand(
    mesh_name: str | None,
    run_dir: Path | None,
    attributes: tuple[str, ...],
    at: str,
    act: Callable[[Any, Any], Awaitable[Any]],
) -> Any:
    """What the rules of a running mesh make of attributes."""
    run, _ = find_mesh(mesh_name, run_dir)
    if not run.mixer_order.exists():
        raise click.ClickException("the mesh has no rules of Mixer")
    from lateen.mixer.by_hand import ByHand, NotAttribute
    from lateen.mixer.order import read_order

    order = read_order(run.mixer_order.read_bytes())
    proxy, _, port = at.partition(":")

    async def acted() -> Any:
        async with ByHand(order) as rules:
            bag = rules.bag(attributes, proxy, port)
            left_out = rules.left_out(bag)
            if left_out:
                names = ", ".join(left_out)
                click.echo(
                    f"rules of {names} are left out: say where it arrives by --at, or destination.namespace", err=True
                )
            bag.missed.clear()
            outcome = await act(rules, bag)
            if bag.missed:
                click.echo(f"rules looked for what is not given: {_some(sorted(bag.missed))}", err=True)
            return outcome

    try:
        return asyncio.run(acted())
    except NotAttribute as problem:
        raise click.UsageError(str(problem)) from problem


def _some(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _entry(outcome: Any) -> dict[str, Any]:
    return {
        "code": outcome.code,
        "status": outcome.status,
        "message": outcome.message,
        "answered": not outcome.goes_on,
        "refused_by": list(outcome.refused_by),
        "valid_seconds": outcome.valid,
        "uses": outcome.uses,
        "depends_on": None if outcome.inputs is None else list(outcome.inputs),
        "request_headers": [[one.operation, one.name, one.value] for one in outcome.request],
        "response_headers": [[one.operation, one.name, one.value] for one in outcome.response],
    }


def _lines(outcome: Any) -> list[str]:
    lines = ["the request goes on"]
    if not outcome.goes_on:
        lines = [f"{'refused' if outcome.code else 'answered'} with {outcome.status}: {outcome.body}"]
    lines += [f"by rule {name}" for name in outcome.refused_by]
    for side, operations in (("request", outcome.request), ("response", outcome.response)):
        lines += [f"{side} header: {one.operation} {one.name} {one.value}".rstrip() for one in operations]
    if outcome.inputs is None or not outcome.valid:
        return [*lines, "the answer is not kept"]
    depends = f"depends on {', '.join(outcome.inputs)}" if outcome.inputs else "depends on nothing in the request"
    return [*lines, f"good for {outcome.valid:g} s and {outcome.uses} requests; {depends}"]
