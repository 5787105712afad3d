"""What ``lateen up`` shows: a live table on a terminal, plain lines where the output is piped or read by a parent."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec

from lateen.local.events import EventLog, MeshEvent

if TYPE_CHECKING:
    from lateen.local.mesh import Mesh
    from lateen.local.metrics import Rate
    from lateen.local.status import InstanceStatus, MeshStatus

REFRESH_S = 0.5
LOOK_EVERY = 4
QUIET_KINDS = frozenset({"control-ready"})
Screen = Callable[["Mesh"], Awaitable[Any]]


def make_screen(events: EventLog, notify_fd: int | None) -> Screen:
    """The screen that fits where the output goes. It must be made before the first event."""
    if notify_fd is not None:
        return _notify(events, notify_fd)
    if sys.stdout.isatty():
        return _live(events)
    events.listen(_print_line)
    return _tell_urls


def _print_line(event: MeshEvent) -> None:
    if event.kind not in QUIET_KINDS:
        print(f"{time.strftime('%H:%M:%S', time.localtime(event.time))} {event.render()}", flush=True)


async def _tell_urls(mesh: Mesh) -> None:
    await mesh.ready.wait()
    for gateway in mesh.status().gateways:
        for url in gateway.urls:
            print(f"{url}  gateway {gateway.workload}", flush=True)


def _notify(events: EventLog, descriptor: int) -> Screen:
    """Tell the parent every event as a line of JSON; close the pipe once all is ready, so that it knows."""
    parent = os.fdopen(descriptor, "wb", buffering=0)

    def write(event: MeshEvent) -> None:
        nonlocal parent
        if parent.closed:
            return
        try:
            parent.write(msgspec.json.encode(event) + b"\n")
            if event.kind == "mesh-ready":
                parent.close()
        except OSError:
            parent.close()

    events.listen(write)

    async def nothing(_: Mesh) -> None:
        return

    return nothing


def _live(events: EventLog) -> Screen:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    console = Console()

    def line(event: MeshEvent) -> None:
        if event.kind not in QUIET_KINDS:
            stamp = time.strftime("%H:%M:%S", time.localtime(event.time))
            console.print(Text(f"{stamp} {event.render()}", style=_STYLES.get(event.kind, "dim")))

    events.listen(line)

    async def show(mesh: Mesh) -> None:
        from lateen.local.scrape import Rates

        rates = Rates(mesh)
        with Live(console=console, auto_refresh=False, transient=True) as live:
            turn = 0
            while True:
                if turn % LOOK_EVERY == 0 and mesh.ready.is_set():
                    await rates.look()
                live.update(render_table(mesh.status(), rates.current), refresh=True)
                turn += 1
                await asyncio.sleep(REFRESH_S)

    return show


_STYLES = {
    "ready": "green",
    "mesh-ready": "bold green",
    "finding": "yellow",
    "network-lost": "bold red",
    "network-failed": "bold red",
    "network-restored": "bold green",
    "app-exited": "red",
    "envoy-exited": "red",
}


def render_table(status: MeshStatus, rates: dict[str, Rate]) -> Any:
    """The gateways' addresses, then a row for each service and version."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    head = [_gateway_line(gateway, rates) for gateway in status.gateways]
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("SERVICE", "VERSION", "READY"):
        table.add_column(column)
    for column in ("RESTARTS", "REQ/S", "ERR/S"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in workload_rows(status, rates):
        table.add_row(*row)
    foot = [] if status.control_plane.ready else [Text("the control plane is not ready", style="yellow")]
    return Group(*head, table, *foot)


def _gateway_line(gateway: InstanceStatus, rates: dict[str, Rate]) -> Any:
    from rich.text import Text

    text = Text("  ".join(gateway.urls), style="bold cyan")
    traffic = rates.get(gateway.name)
    state = f"{traffic.requests:.1f} req/s" if traffic is not None and gateway.ready and gateway.urls else "ready"
    text.append(f"  gateway {gateway.workload}  {gateway.detail or state}", style="not bold dim")
    return text


def workload_rows(status: MeshStatus, rates: dict[str, Rate]) -> list[list[str]]:
    """One row for each service and version: replicas that are ready, restarts, rates, and why one is not ready."""
    from rich.markup import escape

    groups: dict[tuple[str, str], list[InstanceStatus]] = {}
    for one in status.workloads:
        groups.setdefault((one.service, one.version), []).append(one)
    rows = []
    for (service, version), ones in groups.items():
        ready = sum(one.ready for one in ones)
        found = [rates[one.name] for one in ones if one.name in rates]
        rows.append(
            [
                service,
                version or "-",
                f"[{'green' if ready == len(ones) else 'red'}]{ready}/{len(ones)}[/]",
                str(sum(one.restarts for one in ones)),
                f"{sum(rate.requests for rate in found):.1f}",
                f"{sum(rate.errors for rate in found):.1f}",
                escape(next((one.detail for one in ones if one.detail), "")),
            ]
        )
    return rows
