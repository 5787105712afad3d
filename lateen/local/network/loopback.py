"""The network on loopback addresses, where there are no namespaces: every workload has a prefix of its own.

With prefix P a workload sees the service 240.240.a.b as 127.P.a.b; its application listens at 127.P.255.1 and its
sidecar for others at 127.P.255.2. Nothing is redirected: the application is told by environment variables where its
peers are (``<SERVICE>_SERVICE_HOST``, ``<SERVICE>_SERVICE_PORT``) and where to listen (``LATEEN_BIND_ADDRESS``).
"""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

from lateen.local.links import Link, LinkRequest
from lateen.local.network.dns_names import NameTable

PREFIXES = range(1, 251)
TCP_TABLE = Path("/proc/net/tcp")
NAMES_PATIENCE_S = 5.0
NAMES_STEP_S = 0.02
_LISTEN = "0A"
REASON = (
    "services have addresses in 127.0.0.0/8 and nothing is redirected: an application must listen at "
    "LATEEN_BIND_ADDRESS and call its peers by <SERVICE>_SERVICE_HOST and _PORT; its other calls pass by the mesh"
)


class LoopbackNetwork:
    """``Network`` by loopback addresses. A prefix is held against every other mesh of the machine."""

    mode = "loopback"
    pid = 0

    def __init__(self, folder: Path, *, domain: str, why: str = "") -> None:
        self._domain = domain
        self._names = folder / "names.json"
        self._table = NameTable(self._names)
        self._leases: dict[str, tuple[int, socket.socket]] = {}
        self._next = 0
        self.reason = f"{why}; {REASON}" if why else REASON

    async def start(self) -> None:
        """Nothing is shared."""

    async def lost(self) -> str:
        """Never: there is nothing to lose."""
        await asyncio.Event().wait()
        return ""

    async def restart(self) -> None:
        """Nothing is shared."""

    async def add(self, request: LinkRequest) -> Link:
        """A prefix for one instance. Raises OSError if all are taken."""
        await self.remove(request.instance_id)
        prefix, lease = self._lease()
        self._leases[request.instance_id] = (prefix, lease)
        registry = {"mode": "loopback", "prefix": prefix}
        if request.is_gateway:
            return Link(address="127.0.0.1", registry=registry)
        await self._wait_for_names()
        return Link(
            address=f"127.{prefix}.255.2",
            registry=registry,
            app_environment=self._environment(request.namespace, prefix),
            probe_address=f"127.{prefix}.255.1",
        )

    def _environment(self, namespace: str, prefix: int) -> dict[str, str]:
        """Where the services of the workload's namespace are, as Kubernetes would tell it."""
        environment = {"LATEEN_BIND_ADDRESS": f"127.{prefix}.255.1"}
        suffix = f".{namespace}.svc.{self._domain}"
        for host, addresses in self._table.hosts().items():
            virtual = [address.split(".") for address in addresses if address.startswith("240.240.")]
            if host.endswith(suffix) and virtual:
                name = host.removesuffix(suffix).upper().replace("-", "_").replace(".", "_")
                environment[f"{name}_SERVICE_HOST"] = f"127.{prefix}.{virtual[0][2]}.{virtual[0][3]}"
        return environment

    async def _wait_for_names(self) -> None:
        """The control plane allots the services' addresses; it starts beside the first workloads."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + NAMES_PATIENCE_S
        while not self._names.exists():
            if loop.time() > deadline:
                raise OSError(f"the control plane told no service's address within {NAMES_PATIENCE_S:g} s")
            await asyncio.sleep(NAMES_STEP_S)
        self._table.refresh()

    def _lease(self) -> tuple[int, socket.socket]:
        """A free prefix, and what holds it: a name that only one process of the machine can have at a time."""
        busy = listening_prefixes(TCP_TABLE.read_text())
        for step in range(len(PREFIXES)):
            prefix = PREFIXES[(self._next + step) % len(PREFIXES)]
            if prefix in busy:
                continue
            lease = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                lease.bind(f"\0lateen-loopback-prefix-{prefix}")
            except OSError:
                lease.close()
                continue
            self._next = (self._next + step + 1) % len(PREFIXES)
            return prefix, lease
        raise OSError("every loopback prefix is in use: 250 workloads and gateways run on this machine")

    async def remove(self, instance_id: str) -> None:
        """Give the prefix back."""
        held = self._leases.pop(instance_id, None)
        if held is not None:
            held[1].close()

    def probe_socket(self, instance_id: str) -> socket.socket:
        """Any TCP socket of the machine."""
        del instance_id
        return socket.socket(socket.AF_INET, socket.SOCK_STREAM)

    async def close(self) -> None:
        """Give all prefixes back."""
        for instance_id in list(self._leases):
            await self.remove(instance_id)


def listening_prefixes(table: str) -> set[int]:
    """Every P for which something listens on an address 127.P.*, of the lines of /proc/net/tcp.

    A mesh whose supervisor was killed leaves such listeners behind: its prefixes are not free yet.
    """
    found = set()
    for line in table.splitlines()[1:]:
        words = line.split()
        if len(words) > 3 and words[3] == _LISTEN:
            address = int(words[1].partition(":")[0], 16).to_bytes(4, sys.byteorder)
            if address[0] == 127:
                found.add(address[1])
    return found
