"""Which ports of a gateway are really open: what its Envoy listens on, held against what it was told to open.

Comes in: Envoy's own list of listeners over its admin socket, and the control plane's list of what that Envoy should
have. Goes out: the state of each port of ``lateen.yaml``, a warning for each that no Gateway opens, and why the
gateway is not ready where Envoy cannot bind.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping

import msgspec

from lateen.findings import Finding, warning
from lateen.local.envoy_admin import listening
from lateen.local.project import Port, Project, Workload
from lateen.local.rundir import RunDir
from lateen.local.status import PortStatus, port_url
from lateen.local.uds_http import request
from lateen.values.protocol import Protocol

SETTLE_S = 2.0
SETTLE_STEP_S = 0.01
POLL_S = 0.3


class GatewayListener(msgspec.Struct, frozen=True):
    """One listener that a gateway was given, as ``/v1/gateways`` tells it; ``error`` is what Envoy said against it."""

    address: str
    port: int
    error: str = ""


class _Gateways(msgspec.Struct, frozen=True):
    gateways: Mapping[str, tuple[GatewayListener, ...]]


class PortsSeen(msgspec.Struct, frozen=True):
    """What was seen of one gateway: ports with the address at which Envoy listens, and what it was told to open.

    ``told`` is None as long as the control plane has not said it.
    """

    open: Mapping[int, str] = {}
    told: tuple[GatewayListener, ...] | None = None

    @property
    def settled(self) -> bool:
        """Whether everything that Envoy was told to open is open, or refused."""
        return self.told is not None and all(one.error or one.port in self.open for one in self.told)

    @property
    def problem(self) -> str:
        """Why a port that a Gateway opens is not open, in a sentence; empty if none is refused."""
        refused = [f"port {one.port} is not open: Envoy says: {one.error}" for one in self._refused()]
        return "; ".join(refused)

    def _refused(self) -> list[GatewayListener]:
        return [one for one in self.told or () if one.error and one.port not in self.open]

    def statuses(self, gateway: Workload) -> tuple[PortStatus, ...]:
        """Each port of the gateway as it is now."""
        return tuple(self._status(gateway, port) for port in gateway.ports)

    def _status(self, gateway: Workload, port: Port) -> PortStatus:
        number = next((one for one in (port.target, port.number) if one in self.open), None)
        if number is not None:
            return PortStatus(port.name, number, True, port_url(gateway, port, self.open[number], number), "")
        return PortStatus(port.name, port.target, False, "", self._why_not(port))

    def _why_not(self, port: Port) -> str:
        if self.told is None:
            return "it is not known yet what opens it"
        mine = [one for one in self.told if one.port in (port.target, port.number)]
        if not mine:
            return "no Gateway opens it"
        return next((one.error for one in mine if one.error), "Envoy has not opened it yet")

    def unopened(self, gateway: Workload) -> list[Port]:
        """The ports of the gateway that no Gateway opens, as far as that is known."""
        if self.told is None:
            return []
        known = {one.port for one in self.told} | self.open.keys()
        return [port for port in gateway.ports if not {port.target, port.number} & known]


def unopened_findings(project: Project, gateway: Workload, seen: PortsSeen) -> list[Finding]:
    """A warning for each port that no Gateway opens, with what to write."""
    labels = ", ".join(f"{name}: {value}" for name, value in gateway.labels)
    findings = []
    for port in seen.unopened(gateway):
        origin = project.origin_of_port(gateway, port)
        message = f"no Gateway opens port {port.number} of the gateway {gateway.name}: nothing listens there"
        server = f"{{number: {port.number}, name: {port.name}, protocol: {port.protocol.value or 'HTTP'}}}"
        tls = ", tls: {mode: SIMPLE, credentialName: NAME}" if port.protocol is Protocol.HTTPS else ""
        remedy = f'add a Gateway with selector: {{{labels}}} and servers: [{{port: {server}, hosts: ["*"]{tls}}}]'
        findings.append(warning("port-not-opened", message, origin, remedy))
    return findings


class GatewayPorts:
    """Looks at the gateways of one mesh."""

    def __init__(self, run: RunDir) -> None:
        self._run = run

    async def look(self, instance_id: str, before: PortsSeen) -> PortsSeen:
        """What is so now; where one of both does not answer, what was so ``before``."""
        told = before.told
        places: frozenset[tuple[str, int]] | None = None
        with contextlib.suppress(OSError, TimeoutError, msgspec.MsgspecError):
            places = await listening(self._run.proxy(instance_id) / "admin.sock")
        with contextlib.suppress(OSError, TimeoutError, msgspec.MsgspecError):
            status, body = await request(self._run.control_socket, "/v1/gateways")
            if status == 200:
                told = msgspec.json.decode(body, type=_Gateways).gateways.get(instance_id, told)
        return PortsSeen(before.open if places is None else _on_the_machine(places, told), told)

    async def look_until_settled(self, instance_id: str) -> PortsSeen:
        """Look until everything is open or refused, but no longer than two seconds."""
        seen = PortsSeen()
        deadline = asyncio.get_running_loop().time() + SETTLE_S
        while not seen.settled and asyncio.get_running_loop().time() < deadline:
            seen = await self.look(instance_id, seen)
            if not seen.settled:
                await asyncio.sleep(SETTLE_STEP_S)
        return seen


def _on_the_machine(places: frozenset[tuple[str, int]], told: tuple[GatewayListener, ...] | None) -> dict[int, str]:
    """The open ports by number, without those that a gateway has in the mesh's own network."""
    known = {(one.address, one.port) for one in told} if told is not None else places
    return {port: address for address, port in sorted(places & known)}
