"""Small resources, and both ends of a stream in few words, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource, EnvoyResources
from lateen.values.names import Origin
from lateen.xds.session import DeltaSession, WorldSession

Named = Mapping[str, EnvoyResource]


def resource(
    name: str, content: str = "1", *references: tuple[str, str], origin: Origin | None = None
) -> EnvoyResource:
    body = f"{name}={content}".encode()
    return EnvoyResource(name, blake2b(body, digest_size=16).hexdigest(), body, origin, references)


def named(*resources: EnvoyResource) -> dict[str, EnvoyResource]:
    return {found.name: found for found in resources}


def resources(
    *,
    clusters: Iterable[EnvoyResource] = (),
    endpoints: Iterable[EnvoyResource] = (),
    listeners: Iterable[EnvoyResource] = (),
    routes: Iterable[EnvoyResource] = (),
    secrets: Iterable[EnvoyResource] = (),
) -> EnvoyResources:
    return EnvoyResources(
        {
            CLUSTER: named(*clusters),
            ENDPOINT: named(*endpoints),
            LISTENER: named(*listeners),
            ROUTE: named(*routes),
            SECRET: named(*secrets),
        }
    )


class Delta:
    """The far end of a delta stream: says what the test says, and reads what comes."""

    def __init__(self, session: DeltaSession | None = None, now: float = 0.0) -> None:
        self.session = session or DeltaSession()
        self.now = now

    def ask(
        self, kind: str, *names: str, leave: Iterable[str] = (), versions: Mapping[str, str] | None = None
    ) -> list[Any]:
        self.session.on_request(
            discovery_pb2.DeltaDiscoveryRequest(
                type_url=kind,
                resource_names_subscribe=names,
                resource_names_unsubscribe=leave,
                initial_resource_versions=versions,
            ),
            self.now,
        )
        return self.read()

    def answer(self, response: Any, error: str = "") -> list[Any]:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=response.type_url, response_nonce=response.nonce)
        if error:
            request.error_detail.code = 13
            request.error_detail.message = error
        self.session.on_request(request, self.now)
        return self.read()

    def aim(self, target: EnvoyResources | None) -> list[Any]:
        self.session.on_resources(target)
        return self.read()

    def read(self) -> list[Any]:
        return [discovery_pb2.DeltaDiscoveryResponse.FromString(data) for data in self.session.outgoing(self.now)]

    def settle(self, responses: Iterable[Any]) -> list[Any]:
        """Accept everything, and all that follows from it; gives the whole of it in order."""
        seen: list[Any] = []
        waiting = list(responses)
        while waiting:
            seen.append(waiting.pop(0))
            waiting.extend(self.answer(seen[-1]))
        return seen


class World:
    """The far end of a state-of-the-world stream."""

    def __init__(self, session: WorldSession | None = None) -> None:
        self.session = session or WorldSession()

    def ask(self, kind: str, *names: str, version: str = "", nonce: str = "", error: str = "") -> list[Any]:
        request = discovery_pb2.DiscoveryRequest(
            type_url=kind, resource_names=names, version_info=version, response_nonce=nonce
        )
        if error:
            request.error_detail.code = 13
            request.error_detail.message = error
        self.session.on_request(request)
        return self.read()

    def answer(self, response: Any, *names: str, error: str = "", version: str = "") -> list[Any]:
        """Names are all that the client wants, as always in this protocol."""
        accepted = version or ("" if error else response.version_info)
        return self.ask(response.type_url, *names, version=accepted, nonce=response.nonce, error=error)

    def aim(self, target: EnvoyResources | None) -> list[Any]:
        self.session.on_resources(target)
        return self.read()

    def read(self) -> list[Any]:
        return [discovery_pb2.DiscoveryResponse.FromString(data) for data in self.session.outgoing()]


def said(response: Any) -> tuple[str, list[str], list[str]]:
    """A delta response in short: the kind's last word, names that come, names that go."""
    return (
        response.type_url.rpartition(".")[2],
        [found.name for found in response.resources],
        list(response.removed_resources),
    )


def bodies(response: Any) -> list[str]:
    """The contents of a state-of-the-world response."""
    return [found.value.decode() for found in response.resources]
