"""Choose how traffic is captured here: by trying the better way, and by saying why where it does not work."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from lateen.local.links import Link, LinkRequest, Network
from lateen.local.network.loopback import LoopbackNetwork
from lateen.local.network.namespaces import NamespaceNetwork

AUTO, NAMESPACES, LOOPBACK = "auto", "namespaces", "loopback"


class CaptureMode(msgspec.Struct, frozen=True):
    """What works here. ``rootless`` is meant for namespaces; ``reason`` is a sentence."""

    mode: str
    rootless: bool
    reason: str


class ChosenNetwork:
    """``Network`` that decides on ``start`` which one it is."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, capture: str = AUTO, domain: str) -> None:
        if capture not in (AUTO, NAMESPACES, LOOPBACK):
            raise ValueError(f"capture is {AUTO}, {NAMESPACES} or {LOOPBACK}, not {capture}")
        self._folder = folder
        self._environment = environment
        self._capture = capture
        self._domain = domain
        self._network: Network = LoopbackNetwork(folder, domain=domain)

    @property
    def mode(self) -> str:
        return self._network.mode

    @property
    def reason(self) -> str:
        return self._network.reason

    @property
    def is_rootless(self) -> bool:
        """Whether namespaces are had by way of a user namespace."""
        return isinstance(self._network, NamespaceNetwork) and self._network.rootless

    async def start(self) -> None:
        """Choose and start. Raises OSError with a sentence where namespaces were asked for and cannot be had."""
        if self._capture == LOOPBACK:
            await self._network.start()
            return
        problems = []
        for rootless in (False, True) if os.geteuid() == 0 else (True,):
            network = NamespaceNetwork(self._folder, self._environment, rootless=rootless, domain=self._domain)
            try:
                await network.start()
            except OSError as problem:
                problems.append(f"{problem.strerror or problem}")
                continue
            self._network = network
            return
        why = f"network namespaces cannot be used here ({'; '.join(dict.fromkeys(problems))})"
        if self._capture == NAMESPACES:
            raise OSError(why)
        self._network = LoopbackNetwork(self._folder, domain=self._domain, why=why)
        await self._network.start()

    @property
    def pid(self) -> int:
        return self._network.pid

    async def lost(self) -> str:
        return await self._network.lost()

    async def restart(self) -> None:
        """Anew in the way that was chosen: workloads never slip from the one into the other."""
        await self._network.restart()

    async def add(self, request: LinkRequest) -> Link:
        return await self._network.add(request)

    async def remove(self, instance_id: str) -> None:
        await self._network.remove(instance_id)

    def probe_socket(self, instance_id: str) -> socket.socket:
        return self._network.probe_socket(instance_id)

    async def close(self) -> None:
        await self._network.close()


async def probe(capture: str = AUTO) -> CaptureMode:
    """What ``start`` would choose now, found by doing it and undoing it. Raises like it."""
    with tempfile.TemporaryDirectory(prefix="lateen-") as folder:
        network = ChosenNetwork(Path(folder), dict(os.environ), capture=capture, domain="cluster.local")
        await network.start()
        try:
            return CaptureMode(network.mode, network.is_rootless, network.reason)
        finally:
            await network.close()
