"""A delta client as Envoy is one, without I/O: for benchmarks and for tests of the order of changes.

Comes in: delta responses. Goes out: requests, that is acknowledgements and the subscriptions that follow from what came
in. It checks nothing but names: ``refuses`` says what it takes no liking to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE

Needs = Callable[[str, str, bytes], Iterable[tuple[str, str]]]
"""What a resource makes a client ask for: ``needs(type_url, name, body)`` -> (type URL, name) pairs."""


def endpoints_of_clusters(type_url: str, name: str, _: bytes) -> Iterable[tuple[str, str]]:
    """Every cluster has its endpoints by EDS, under its own name."""
    return ((ENDPOINT, name),) if type_url == CLUSTER else ()


class DeltaClient:
    """Holds name -> version of each type, and what it has asked for by name."""

    def __init__(
        self,
        needs: Needs = endpoints_of_clusters,
        refuses: Callable[[str, str, bytes], str | None] = lambda *_: None,
        keep_bodies: bool = False,
    ) -> None:
        self._needs = needs
        self._refuses = refuses
        self._keep_bodies = keep_bodies
        self.versions: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, dict[str, bytes]] = {}
        self._wanted: dict[tuple[str, str], tuple[tuple[str, str], ...]] = {}
        self._users: dict[tuple[str, str], int] = {}
        self.begun: set[str] = set()

    def start(self) -> list[bytes]:
        """The first requests of a stream, with the versions that it has from an earlier one."""
        self.begun = set()
        requests = [self._request(CLUSTER), self._request(LISTENER)]
        by_type: dict[str, list[str]] = {}
        for kind, name in self._users:
            by_type.setdefault(kind, []).append(name)
        requests[1:1] = [self._request(ENDPOINT, subscribe=by_type.pop(ENDPOINT))] if ENDPOINT in by_type else []
        requests.extend(self._request(kind, subscribe=names) for kind, names in by_type.items())
        return requests

    def on_response(self, data: bytes) -> list[bytes]:
        """Apply a response; gives the subscriptions that follow, and then the answer, as Envoy does."""
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        type_url = response.type_url
        errors = []
        before = set(self._users)
        asked_again: set[tuple[str, str]] = set()
        for resource in response.resources:
            error = self._refuses(type_url, resource.name, resource.resource.value)
            if error is None:
                asked_again.update(self._apply(type_url, resource))
            else:
                errors.append(f"{resource.name}: {error}")
        for name in response.removed_resources:
            self._remove(type_url, name)
        requests = self._changed_subscriptions(before, asked_again)
        requests.append(self._answer(type_url, response.nonce, errors))
        return requests

    def _apply(self, type_url: str, resource: Any) -> tuple[tuple[str, str], ...]:
        body = resource.resource.value
        self.versions.setdefault(type_url, {})[resource.name] = resource.version
        if self._keep_bodies:
            self.bodies.setdefault(type_url, {})[resource.name] = body
        wanted = tuple(self._needs(type_url, resource.name, body))
        self._want((type_url, resource.name), wanted)
        return wanted

    def _remove(self, type_url: str, name: str) -> None:
        self.versions.get(type_url, {}).pop(name, None)
        self.bodies.get(type_url, {}).pop(name, None)
        self._want((type_url, name), ())

    def _want(self, owner: tuple[str, str], wanted: tuple[tuple[str, str], ...]) -> None:
        for needed in wanted:
            self._users[needed] = self._users.get(needed, 0) + 1
        for needed in self._wanted.pop(owner, ()):
            self._users[needed] -= 1
            if not self._users[needed]:
                del self._users[needed]
                self.versions.get(needed[0], {}).pop(needed[1], None)
                self.bodies.get(needed[0], {}).pop(needed[1], None)
        if wanted:
            self._wanted[owner] = wanted

    def _changed_subscriptions(self, before: set[tuple[str, str]], again: set[tuple[str, str]]) -> list[bytes]:
        requests = []
        added = (self._users.keys() - before) | again
        gone = before - self._users.keys()
        for kind in (ENDPOINT, ROUTE):
            subscribe = sorted(name for type_url, name in added if type_url == kind)
            unsubscribe = sorted(name for type_url, name in gone if type_url == kind)
            if subscribe or unsubscribe:
                requests.append(self._request(kind, subscribe, unsubscribe))
        return requests

    def _request(self, type_url: str, subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> bytes:
        known: Mapping[str, str] = self.versions.get(type_url, {}) if type_url not in self.begun else {}
        self.begun.add(type_url)
        request = discovery_pb2.DeltaDiscoveryRequest(
            type_url=type_url,
            resource_names_subscribe=subscribe,
            resource_names_unsubscribe=unsubscribe,
            initial_resource_versions=known,
        )
        return bytes(request.SerializeToString())

    def _answer(self, type_url: str, nonce: str, errors: list[str]) -> bytes:
        request = discovery_pb2.DeltaDiscoveryRequest(type_url=type_url, response_nonce=nonce)
        if errors:
            request.error_detail.code = 13
            request.error_detail.message = f"Error adding/updating resource(s) {', '.join(errors)}"
        return bytes(request.SerializeToString())
