"""``lateen ca``: the certificate authority of a running mesh."""

from __future__ import annotations

import datetime
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.ca_issue import issue
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.local.rundir import RunDir
from lateen.values.labels import is_label_name, is_label_value
from lateen.values.network import is_resource_name

POLL_S = 0.2
SETTLE_S = 1.0
"""Envoy says that it has taken a secret before its workers use it: this is left for them."""
STEPS = {
    "stable": "a new root is trusted by everyone; the old one signs",
    "trusted": "the new root signs, and everyone has a certificate of it",
    "issuing": "the old root is trusted no longer, and its key is gone",
}
"""By the phase in which a step is done, what it leads to."""

LONGEST_TOKEN_S = 7 * 86400


@click.group(help="Look at the mesh's certificate authority, and exchange its root.")
def ca() -> None:
    """Only a group."""


@ca.command(help="Show the authority's certificates, and what each workload holds.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def status(output: str, mesh_name: str | None, run_dir: Path | None) -> None:
    mesh = _Mesh(mesh_name, run_dir)
    authority, held = mesh.authority(), mesh.held()
    if output == "json":
        click.echo(json.dumps({"authority": authority, "workloads": held}, indent=2))
        return
    click.echo(f"phase {authority['phase']}, trust domain {authority['trust_domain']}, life {_span(authority['life'])}")
    for one in authority["certificates"]:
        what = "root" if one["is_root"] else "intermediate"
        marks = ", ".join(text for text, said in (("signs", one["signs"]), ("ENDS SOON", one["runs_out"])) if said)
        line = f"{what}  {one['subject']}  {one['fingerprint'][:16]}  until {_date(one['not_after'])}  {marks}"
        click.echo(line.rstrip())
    rows = [("WORKLOAD", "IDENTITY", "UNTIL", "ISSUER", "ROOTS", "STATE")]
    for entry in held:
        state = entry["problem"] or ("in use" if entry["in_use"] else "not taken yet")
        if entry["generation"] != authority["generation"]:
            state += ", to be renewed"
        roots = " ".join(root[:8] for root in entry["roots"])
        rows.append((entry["instance_id"], entry["identity"], _date(entry["not_after"]), entry["issuer"], roots, state))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


@ca.command(help="Exchange the root: trust a new one, sign with it, let the old one go, each once all have followed.")
@click.option("--step", is_flag=True, help="Do one step alone.")
@click.option("--back", is_flag=True, help="Undo: back to the old root, as long as that is trusted.")
@click.option(
    "--timeout", type=click.FloatRange(1, 86400), default=120.0, show_default=True, help="Seconds for each step."
)
@mesh_options
def rotate(step: bool, back: bool, timeout: float, mesh_name: str | None, run_dir: Path | None) -> None:
    mesh = _Mesh(mesh_name, run_dir)
    mesh.await_all(timeout, "before anything is changed")
    if back:
        _go_back(mesh, timeout, all_the_way=not step)
        return
    while True:
        before = mesh.authority()["phase"]
        after = mesh.post("/v1/ca/step")["phase"]
        mesh.await_all(timeout, f"in phase {after}")
        click.echo(f"{after}: {STEPS[before]}")
        if step or after == "stable":
            return


def _go_back(mesh: _Mesh, timeout: float, *, all_the_way: bool) -> None:
    while True:
        after = mesh.post("/v1/ca/back")["phase"]
        mesh.await_all(timeout, f"in phase {after}")
        click.echo(f"back in phase {after}")
        if after == "stable" or not all_the_way:
            return


@ca.command(help="Say what would happen to certificates if nobody did anything, by a simulated clock.")
@click.option("--for", "span", default="30d", show_default=True, metavar="SPAN", help="How far to look: 12h, 90d, 11y.")
@mesh_options
def rehearse(span: str, mesh_name: str | None, run_dir: Path | None) -> None:
    from lateen.identity.keystore import KeystoreError
    from lateen.identity.rehearsal import rehearse as happenings

    mesh = _Mesh(mesh_name, run_dir)
    authority = mesh.authority()
    now = datetime.datetime.now(datetime.UTC)
    life = datetime.timedelta(seconds=authority["life"])
    failed = False
    try:
        for one in happenings(mesh.ca_folder, authority["trust_domain"], now, _parsed(span, "--for"), life):
            click.echo(f"{one.at:%Y-%m-%d %H:%M}  {one.text}")
            failed = failed or one.kind == "down"
    except KeystoreError as problem:
        raise click.ClickException(str(problem)) from problem
    if failed:
        click.echo("exchange the root before: lateen ca rotate", err=True)
        raise SystemExit(1)


@ca.command(help="Make a token by which a workload elsewhere gets its certificate, once.")
@click.option("--namespace", "-n", default="default", show_default=True)
@click.option("--service-account", "-s", metavar="NAME", required=True)
@click.option(
    "--ttl", default="10m", show_default=True, metavar="SPAN", help="How long it can be used: 10m, 1h, at most 7d."
)
@click.option("--workload", "-w", metavar="NAME", help="What it is called in metrics and traces; without, unknown.")
@click.option(
    "--label", "-l", "labels", metavar="NAME=VALUE", multiple=True, help="A label of the workload: app, version."
)
@mesh_options
def token(
    namespace: str,
    service_account: str,
    ttl: str,
    workload: str | None,
    labels: tuple[str, ...],
    mesh_name: str | None,
    run_dir: Path | None,
) -> None:
    names = {"--namespace": namespace, "--service-account": service_account, "--workload": workload}
    for name, text in names.items():
        if text is not None and not is_resource_name(text):
            raise click.BadParameter(
                f"{text!r} is no name of Kubernetes: small letters, digits, - and .", param_hint=name
            )
    seconds = _parsed(ttl, "--ttl").total_seconds()
    if seconds > LONGEST_TOKEN_S:
        raise click.BadParameter("a token can be used for 7d at most", param_hint="--ttl")
    asked = {"namespace": namespace, "service_account": service_account, "ttl": seconds}
    if workload is not None:
        asked |= {"workload": workload, "labels": dict(_label(text) for text in labels)}
    elif labels:
        raise click.BadParameter("labels are of a workload: say its name by --workload", param_hint="--label")
    click.echo(_Mesh(mesh_name, run_dir).post("/v1/ca/tokens", asked)["token"])


@ca.command(help="Print the roots that the mesh trusts (PEM).")
@mesh_options
def root(mesh_name: str | None, run_dir: Path | None) -> None:
    click.echo(_Mesh(mesh_name, run_dir).roots(), nl=False)


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not is_label_name(name) or not is_label_value(value):
        raise click.BadParameter(f"{text!r} is no label: write NAME=VALUE, such as app=web", param_hint="--label")
    return name, value


ca.add_command(issue)


class _Mesh:
    """The two sockets of a running mesh that know of certificates."""

    def __init__(self, name: str | None, run_dir: Path | None) -> None:
        self._run, record = find_mesh(name, run_dir)
        self.ca_folder = Path(record.ca) if record is not None and record.ca else _own_folder(self._run)

    def authority(self) -> Any:
        return self._asked(lambda: Client(self._run.control_socket).get("/v1/ca"))

    def held(self) -> Any:
        return self._asked(lambda: Client(self._run.api_socket).get("/v1/identities"))["identities"]

    def roots(self) -> str:
        return str(self._asked(lambda: Client(self._run.control_socket).text("GET", "/v1/ca/roots")))

    def post(self, target: str, body: object | None = None) -> Any:
        return self._asked(lambda: Client(self._run.control_socket).post(target, body))

    def _asked(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except ApiError as problem:
            raise click.ClickException(str(problem)) from problem

    def await_all(self, timeout: float, when: str) -> None:
        """Until every workload holds, and its Envoy uses, what the authority gives now. Exits where one does not."""
        end = time.monotonic() + timeout
        while True:
            generation = self.authority()["generation"]
            left = [one for one in self.held() if not one["in_use"] or one["generation"] != generation]
            if not left:
                time.sleep(SETTLE_S)
                return
            if time.monotonic() > end:
                names = ", ".join(f"{one['instance_id']}{_why(one)}" for one in left)
                raise click.ClickException(f"not everyone followed {when}: {names}; nothing more was changed")
            time.sleep(POLL_S)


def _why(entry: Any) -> str:
    return f" ({entry['problem']})" if entry["problem"] else ""


def _own_folder(run: RunDir) -> Path:
    return run.path / "ca"


def _date(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(seconds, datetime.UTC):%Y-%m-%d %H:%M}" if seconds else ""


def _span(seconds: float) -> str:
    """``36h``, or ``90m`` where it is no number of hours."""
    hours = seconds / 3600
    return f"{hours:g}h" if hours >= 1 and hours == int(hours) else f"{seconds / 60:g}m"


def _parsed(text: str, option: str) -> datetime.timedelta:
    units = {"m": 1 / 1440, "h": 1 / 24, "d": 1.0, "w": 7.0, "y": 365.0}
    number, unit = text[:-1], text[-1:]
    if unit not in units or not number.isascii() or not number.isdigit() or not 0 < int(number) < 10_000:
        message = f"{text!r} is no span of time: write a number from 1 and one of {', '.join(units)}, such as 10m or 7d"
        raise click.BadParameter(message, param_hint=option)
    return datetime.timedelta(days=int(number) * units[unit])
