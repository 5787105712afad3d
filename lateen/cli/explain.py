"""``lateen explain``: what becomes of a call through a running mesh, and why."""

from __future__ import annotations

import base64
import binascii
import json
import re
from pathlib import Path
from typing import Any

import click

from lateen.api.client import ApiError, Client
from lateen.cli.finding_mesh import find_mesh, mesh_options
from lateen.cli.saying import say

_METHOD = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@click.command(help="Say what becomes of a call, step by step, and why. Nothing is sent.")
@click.argument("client", metavar="WORKLOAD|outside")
@click.argument("url", metavar="URL")
@click.option("-X", "--method", default="GET", show_default=True)
@click.option("-H", "--header", "headers", multiple=True, metavar="NAME: VALUE", help="A header of the request.")
@click.option("--token", help="A token (JWT): its claims count, whoever signed it.")
@click.option("--claims", help="The claims of a good token, as JSON.")
@click.option("--gateway", default="", help="The gateway that a client outside calls, where several listen.")
@click.option("--server", default="", help="One of the workloads behind the service.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", show_default=True)
@mesh_options
def explain(
    client: str,
    url: str,
    method: str,
    headers: tuple[str, ...],
    token: str | None,
    claims: str | None,
    gateway: str,
    server: str,
    output: str,
    mesh_name: str | None,
    run_dir: Path | None,
) -> None:
    if not _METHOD.fullmatch(method):
        raise click.BadParameter(f"{method!r} is no method, such as GET", param_hint="--method")
    question = {
        "client": client,
        "url": url,
        "method": method,
        "headers": [_header(text) for text in headers],
        "claims": _claims(token, claims),
        "gateway": gateway,
        "server": server,
    }
    run, _ = find_mesh(mesh_name, run_dir)
    try:
        answer = Client(run.control_socket).post("/v1/explain", question)
    except ApiError as problem:
        raise click.ClickException(str(problem)) from problem
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    else:
        _print(answer)
    if not answer["arrives"]:
        raise SystemExit(1)


def _print(answer: Any) -> None:
    for stage in answer["stages"]:
        say(stage["proxy"])
        for line in stage["trail"]:
            say(f"  {line}")
        for line in stage["access"]:
            say(f"  access: {line}")
    say(answer["end"])


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.BadParameter(f"{text} is not NAME: VALUE", param_hint="--header")
    return name.strip(), value.strip()


def _claims(token: str | None, claims: str | None) -> dict[str, Any] | None:
    if token is None and claims is None:
        return None
    if token is not None and claims is not None:
        raise click.UsageError("give --token or --claims, not both")
    text = claims or ""
    hint = "--claims"
    if token is not None:
        hint, parts = "--token", token.split(".")
        if len(parts) != 3:
            raise click.BadParameter("a token has three parts", param_hint=hint)
        try:
            text = base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)).decode()
        except (binascii.Error, ValueError):
            raise click.BadParameter("its payload cannot be read", param_hint=hint) from None
    try:
        found = json.loads(text)
        json.dumps(found, allow_nan=False)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise click.BadParameter("the claims are no JSON object", param_hint=hint)
    return found
