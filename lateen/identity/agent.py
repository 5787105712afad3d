"""The node agent: the identities of all workloads of a machine, in one event loop.

Comes in: who a workload is, its token, and its sockets. Goes out: its secrets over SDS on a socket of its own, renewed
for as long as it is there. Each key is held by its own server alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from lateen.identity.sds import workload_secrets
from lateen.identity.workload import Credentials, WorkloadIdentity
from lateen.values.names import SpiffeId
from lateen.xds.cache import ResourceCache
from lateen.xds.server import SecretServer, serve_secrets


class _Served:
    """One workload: its renewal and its SDS server."""

    def __init__(self, identity: SpiffeId, ca_socket: Path, token: str, name: str) -> None:
        self.cache = ResourceCache()
        self.certified = asyncio.Event()
        self.server: SecretServer | None = None
        self._name = name
        self.workload = WorkloadIdentity(identity, ca_socket, token, self._deliver, time.time)
        self.renewal = asyncio.ensure_future(self.workload.run())

    def _deliver(self, credentials: Credentials) -> None:
        self.cache.put(self._name, workload_secrets(credentials))
        self.certified.set()

    async def stop(self) -> None:
        self.renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.renewal
        if self.server is not None:
            await self.server.stop()


class Agent:
    """Keeps the certificates of many workloads."""

    def __init__(self) -> None:
        self._served: dict[str, _Served] = {}

    async def add(self, name: str, identity: SpiffeId, token: str, ca_socket: Path, sds_socket: Path) -> None:
        """Return once the workload has a certificate and its SDS socket answers. Again for a name starts afresh."""
        await self.remove(name)
        served = _Served(identity, ca_socket, token, name)
        self._served[name] = served
        served.server = await serve_secrets(sds_socket, served.cache, name)
        await served.certified.wait()

    def not_after(self, name: str) -> float | None:
        """When a workload's present certificate ends (Unix seconds)."""
        served = self._served.get(name)
        credentials = served.workload.credentials if served is not None else None
        return credentials.not_after if credentials is not None else None

    async def remove(self, name: str) -> None:
        """Stop serving a workload and forget its key."""
        served = self._served.pop(name, None)
        if served is not None:
            await served.stop()

    async def close(self) -> None:
        for name in list(self._served):
            await self.remove(name)
