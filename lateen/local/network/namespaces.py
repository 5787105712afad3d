"""The network in namespaces: each workload has a namespace, an address and names of its own, as a pod would.

Comes in: the run directory and requests for instances. Goes out: links, with the words that put a command in its place.
The same Envoy configuration serves root and ordinary users; only the launcher's words differ.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from lateen.local.links import Link, LinkRequest
from lateen.local.network.dns_forward import Forwarder
from lateen.local.network.dns_names import NameTable, search_list
from lateen.local.network.dns_server import Responder
from lateen.local.network.holder_client import HolderClient, script
from lateen.local.network.name_files import write_name_files

REASON_ROOT = (
    "each workload has a network namespace and an address of its own, and its TCP connections are redirected to its "
    "sidecar; only DNS passes of UDP"
)
REASON_USER = (
    "this kernel lets an ordinary user make network namespaces: each workload has one, with an address of its own; its "
    "TCP connections are redirected to its sidecar; only DNS passes of UDP"
)


class NamespaceNetwork:
    """``Network`` by namespaces. ``rootless``: by way of a user namespace."""

    mode = "namespaces"

    def __init__(self, folder: Path, environment: Mapping[str, str], *, rootless: bool, domain: str) -> None:
        self._folder = folder
        self._environment = environment
        self.rootless = rootless
        self._domain = domain
        self._table = NameTable(folder / "names.json")
        self._forwarder = Forwarder()
        self._holder: HolderClient | None = None
        self._workloads: set[str] = set()
        self._responders: dict[str, Responder] = {}

    @property
    def reason(self) -> str:
        """Why this mode, and what it cannot do."""
        return REASON_USER if self.rootless else REASON_ROOT

    @property
    def pid(self) -> int:
        """The process that owns the namespaces, or its border; 0 before ``start``."""
        return self._holder.pid if self._holder is not None else 0

    async def start(self) -> None:
        """Start the holder. Raises OSError with what the kernel refuses."""
        border = self._folder / "border.sock" if self.rootless else None
        self._holder = await HolderClient.start(self._environment, self._folder / "network.log", border)

    async def lost(self) -> str:
        """Wait for the end of the holder; border and holder end together."""
        return await self._require_holder().ended()

    async def restart(self) -> None:
        """A new holder. The old namespaces end with the last process in them."""
        await self.close()
        await self.start()

    async def add(self, request: LinkRequest) -> Link:
        """A namespace with DNS in it for a workload; a gateway stands in the machine's own."""
        holder = self._require_holder()
        if request.is_gateway:
            return Link(
                address=request.address,
                registry=self._registry(holder, ""),
                envoy_prefix=self._envoy_prefix(holder),
            )
        await self.remove(request.instance_id)
        try:
            return await self._add_workload(holder, request)
        except BaseException:
            with contextlib.suppress(OSError):
                await self.remove(request.instance_id)
            raise

    async def _add_workload(self, holder: HolderClient, request: LinkRequest) -> Link:
        name = request.instance_id
        self._workloads.add(name)
        namespace = await holder.add(name, request.address)
        datagrams, streams = await holder.dns_sockets(name)
        responder = Responder(self._table, self._forwarder, request.namespace, self._domain)
        self._responders[name] = responder
        await responder.start(datagrams, streams)
        files = self._files(name)
        write_name_files(files, search_list(request.namespace, self._domain))
        return Link(
            address=request.address,
            registry=self._registry(holder, namespace),
            app_prefix=self._app_prefix(holder, namespace, files, request.namespace),
            envoy_prefix=self._envoy_prefix(holder),
            app_environment={"LATEEN_BIND_ADDRESS": "0.0.0.0"},  # noqa: S104 - inside an own namespace
        )

    async def remove(self, instance_id: str) -> None:
        """Close its DNS and let go of its namespace."""
        responder = self._responders.pop(instance_id, None)
        if responder is not None:
            responder.close()
        shutil.rmtree(self._files(instance_id), ignore_errors=True)
        if instance_id in self._workloads and self._holder is not None:
            self._workloads.discard(instance_id)
            await self._holder.remove(instance_id)

    def probe_socket(self, instance_id: str) -> socket.socket:
        """A TCP socket in the workload's namespace."""
        return self._require_holder().probe_socket(instance_id)

    def mesh_socket(self) -> socket.socket:
        """A TCP socket that reaches workloads' addresses as a stranger in the mesh's network would."""
        return self._require_holder().mesh_socket()

    async def close(self) -> None:
        """End the holder and with it all namespaces."""
        for responder in self._responders.values():
            responder.close()
        self._responders.clear()
        self._workloads.clear()
        if self._holder is not None:
            await asyncio.shield(self._holder.stop())
            self._holder = None

    def _registry(self, holder: HolderClient, namespace: str) -> dict[str, object]:
        mesh = holder.places.path(holder.places.mesh)
        return {"mode": self.mode, "workload_netns": namespace, "mesh_netns": mesh}

    def _require_holder(self) -> HolderClient:
        if self._holder is None:
            raise RuntimeError("the network was not started")
        return self._holder

    def _files(self, instance_id: str) -> Path:
        return self._folder / "proxies" / instance_id / "names"

    def _envoy_prefix(self, holder: HolderClient) -> tuple[str, ...]:
        if not self.rootless:
            return ()
        places = holder.places
        return (
            *script("launch", "role=envoy", f"user={places.user_namespace}", f"net={places.path(places.home)}"),
            f"border={self._folder / 'border.sock'}",
            "--",
        )

    def _app_prefix(self, holder: HolderClient, namespace: str, files: Path, own: str) -> tuple[str, ...]:
        user = (f"user={holder.places.user_namespace}",) if self.rootless else ()
        search = " ".join(search_list(own, self._domain))
        words = (f"net={namespace}", f"files={files}", f"hide={self._folder}", f"search={search}")
        return (*script("launch", "role=app"), *user, *words, "--")
