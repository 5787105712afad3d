"""What the supervisor asks of its neighbours: a network and an identity for each instance, and a control plane.

The rooms that answer (``lateen.local.network``, ``lateen.identity``) are put in by the command line, so that the
supervisor knows neither namespaces nor certificates.
"""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import msgspec


class LinkRequest(msgspec.Struct, frozen=True):
    """One instance that needs a network; ``address`` is its own."""

    instance_id: str
    namespace: str
    address: str
    is_gateway: bool


class Link(msgspec.Struct, frozen=True):
    """The network of one instance.

    ``registry`` is the entry's ``network`` field; the prefixes go before the words of a command so that it runs in the
    right place; ``app_environment`` is added to the application's environment; ``probe_address`` is where the
    application's ports are reached on sockets of ``Network.probe_socket``.
    """

    address: str
    registry: Mapping[str, object]
    app_prefix: tuple[str, ...] = ()
    envoy_prefix: tuple[str, ...] = ()
    app_environment: Mapping[str, str] = {}
    probe_address: str = "127.0.0.1"


class Network(Protocol):
    """How traffic is captured on this machine."""

    @property
    def mode(self) -> str:
        """``namespaces`` or ``loopback``."""

    @property
    def reason(self) -> str:
        """One sentence: why this mode, and what it cannot do."""

    @property
    def pid(self) -> int:
        """The process that it stands on; 0 if there is none."""

    async def start(self) -> None:
        """Set up what all instances share. Raises OSError or RuntimeError with a sentence if it cannot."""

    async def lost(self) -> str:
        """Wait until what all instances share is gone, for ever if it cannot go; says how, as ``ended by signal 9``."""

    async def restart(self) -> None:
        """Set it up anew after that: every link that was given before is void. Raises like ``start``."""

    async def add(self, request: LinkRequest) -> Link:
        """Make the network of one instance. Raises like ``start``."""

    async def remove(self, instance_id: str) -> None:
        """Take it away again; nothing happens if it is not there."""

    def probe_socket(self, instance_id: str) -> socket.socket:
        """A TCP socket that stands in the application's place."""

    async def close(self) -> None:
        """Take everything away."""


class IdentityRequest(msgspec.Struct, frozen=True):
    """One instance that needs a certificate, served over SDS on ``sds_socket``."""

    instance_id: str
    namespace: str
    service_account: str
    token: str
    ca_socket: Path
    sds_socket: Path


class HeldIdentity(msgspec.Struct, frozen=True):
    """What an instance holds: its certificate's serial number and issuer, the fingerprints of the roots that it trusts.

    ``not_after`` is Unix seconds. ``generation``: of the authority as it signed. ``in_use``: its Envoy has taken it.
    """

    instance_id: str
    identity: str
    serial: str = ""
    issuer: str = ""
    roots: tuple[str, ...] = ()
    not_after: float = 0.0
    generation: str = ""
    in_use: bool = False
    problem: str = ""


class Identities(Protocol):
    """The node agent's certificates."""

    def held(self) -> list[HeldIdentity]:
        """What each instance holds now."""

    async def add(self, request: IdentityRequest) -> None:
        """Return once a certificate is there and SDS answers. Raises OSError or RuntimeError with a sentence."""

    def problem(self, instance_id: str) -> str:
        """Why the certificate could not be renewed at the last attempt; empty while all is well."""

    def measured(self, instance_id: str) -> bytes:
        """What the proxy of an instance told its agent of connections, as Prometheus text."""

    async def remove(self, instance_id: str) -> None:
        """Stop serving and forget the key."""

    async def close(self) -> None:
        """Stop all."""
