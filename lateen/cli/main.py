"""The command ``lateen``: a table of commands, each imported only when it is called, so that help comes at once."""

from __future__ import annotations

import errno
import importlib
import sys
from typing import Any

import click

from lateen import __version__

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("lateen.cli.up:up", "Start a mesh: control plane, sidecars, gateways and applications."),
    "down": ("lateen.cli.down:down", "Stop a mesh and clear away all that it left."),
    "status": ("lateen.cli.status:status", "Show what runs and whether it is well."),
    "logs": ("lateen.cli.logs:logs", "Show what applications and proxies wrote."),
    "metrics": ("lateen.cli.metrics:metrics", "Print the metrics of all proxies, as Prometheus reads them."),
    "scale": ("lateen.cli.change:scale", "Run another number of replicas of a service."),
    "restart": ("lateen.cli.change:restart", "Restart the applications of a service, one after the other."),
    "exec": ("lateen.cli.execute:execute", "Run a command in the place of a workload."),
    "validate": ("lateen.cli.validate:validate", "Check resource files without a mesh."),
    "convert": ("lateen.cli.convert:convert", "Write old security resources as the present ones."),
    "test": ("lateen.cli.test:test", "Run routing tests: files that say where calls must end."),
    "explain": ("lateen.cli.explain:explain", "Say what becomes of a call through the mesh, and why."),
    "xds": ("lateen.cli.xds:xds", "Show what a proxy would be configured with, without a mesh."),
    "proxy": ("lateen.cli.proxy:proxy", "Look at the proxies of a running mesh."),
    "ca": ("lateen.cli.ca:ca", "Look at the mesh's certificate authority, and exchange its root."),
    "mixer": ("lateen.cli.mixer:mixer", "Look at Mixer's rules: what they decide, and where."),
    "schema": ("lateen.cli.schema:schema", "Print the JSON schema of lateen.yaml."),
    "version": ("lateen.cli.version:version", "Print the versions of Lateen and Envoy."),
}
HIDDEN: dict[str, str] = {"control": "lateen.cli.control:control"}

OF_THE_MACHINE = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EACCES, errno.EPERM, errno.EROFS})


class LazyGroup(click.Group):
    """A group that knows its commands by name and imports one when it is needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        target = COMMANDS[cmd_name][0] if cmd_name in COMMANDS else HIDDEN.get(cmd_name)
        if target is None:
            return None
        module, _, attribute = target.partition(":")
        command: click.Command = getattr(importlib.import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            import difflib

            near = difflib.get_close_matches(args[0], COMMANDS, n=1)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(f"There is no command {args[0]}.{hint}", ctx) from None


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="lateen")
def cli() -> None:
    """Connect, secure, control and observe services without a change to their code."""


def main() -> Any:
    """Entry point. Exit codes: 0 well, 1 something is wrong and was told, 2 the command line is wrong."""
    try:
        return cli.main(prog_name="lateen")
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except OSError as problem:
        if problem.errno not in OF_THE_MACHINE:
            raise
        subject = f"{problem.filename}: " if problem.filename else ""
        print(f"Error: {subject}{problem.strerror}", file=sys.stderr)
        sys.exit(1)
