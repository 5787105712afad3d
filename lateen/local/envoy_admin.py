"""Speak to one Envoy over its admin socket."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec

from lateen.local.uds_http import request
from lateen.values.packed_labels import whole

FIRST_WAIT_S = 0.005
LONGEST_WAIT_S = 0.1
QUIET_POLLS = 2


async def wait_ready(socket_path: Path) -> None:
    """Return once Envoy answers 200 on ``/ready``: it has its listeners and its workers run. Waits for ever."""
    wait = FIRST_WAIT_S
    while True:
        try:
            status, _ = await request(socket_path, "/ready", bound_s=1.0)
            if status == 200:
                return
        except (OSError, TimeoutError):
            pass
        await asyncio.sleep(wait)
        wait = min(LONGEST_WAIT_S, wait * 1.3)


async def drain(socket_path: Path) -> None:
    """Tell Envoy to close connections gracefully, and return once no request is in flight. Waits for ever."""
    try:
        await request(socket_path, "/drain_listeners?graceful&skip_exit", method="POST")
    except (OSError, TimeoutError):
        return
    quiet = 0
    while quiet < QUIET_POLLS:
        await asyncio.sleep(0.03)
        quiet = quiet + 1 if await active_requests(socket_path) == 0 else 0


async def active_requests(socket_path: Path) -> int:
    """How many requests Envoy is working on now; 0 if it does not answer."""
    try:
        _, body = await request(socket_path, "/stats?filter=downstream_rq_active")
    except (OSError, TimeoutError):
        return 0
    count = 0
    for line in body.decode(errors="replace").splitlines():
        name, _, value = line.partition(": ")
        if name.startswith("http.") and not name.startswith("http.admin.") and value.isdigit():
            count += int(value)
    return count


class _SocketAddress(msgspec.Struct):
    address: str = ""
    port_value: int = 0


class _Address(msgspec.Struct):
    socket_address: _SocketAddress = msgspec.field(default_factory=_SocketAddress)


class _Listener(msgspec.Struct):
    local_address: _Address = msgspec.field(default_factory=_Address)
    additional_local_addresses: tuple[_Address, ...] = ()


class _Listeners(msgspec.Struct):
    listener_statuses: tuple[_Listener, ...] = ()


async def listening(socket_path: Path) -> frozenset[tuple[str, int]]:
    """The addresses and TCP ports of Envoy's active listeners. Raises OSError, TimeoutError or
    msgspec.MsgspecError if it does not answer."""
    _, body = await request(socket_path, "/listeners?format=json")
    found = msgspec.json.decode(body, type=_Listeners).listener_statuses
    places = [one.socket_address for entry in found for one in (entry.local_address, *entry.additional_local_addresses)]
    return frozenset((place.address, place.port_value) for place in places if place.port_value)


async def metrics(socket_path: Path, pattern: str = "") -> bytes:
    """The Prometheus text of this Envoy, its labels whole; with ``pattern`` only the metrics whose name matches it."""
    target = f"/stats/prometheus?usedonly&filter={pattern}" if pattern else "/stats/prometheus?usedonly"
    _, body = await request(socket_path, target, bound_s=5.0)
    return whole(body)
