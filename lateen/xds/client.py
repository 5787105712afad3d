"""A delta client that behaves as Envoy does, without I/O: for benchmarks and for tests of the order of changes.

Comes in: delta responses. Goes out: requests, that is answers and the subscriptions that follow from what came in. It
has Envoy's habits that a server must know: a cluster that is new or changed waits for its endpoints, without asking
again for those that it has, and clusters are not acknowledged before that; of clusters and listeners the good ones
are taken and the others named in the refusal, of other types a response is taken whole or not at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE

Reference = tuple[str, str]
Needs = Callable[[str, str, bytes], Iterable[Reference]]
"""What a resource makes a client ask for: ``needs(type_url, name, body)`` -> (type URL, name) pairs."""
Refuses = Callable[[str, str, bytes], str | None]
"""Why a client does not take a resource, or None."""

PARTLY = (CLUSTER, LISTENER)


def endpoints_of_clusters(type_url: str, name: str, _: bytes) -> Iterable[Reference]:
    """Every cluster has its endpoints by EDS, under its own name."""
    return ((ENDPOINT, name),) if type_url == CLUSTER else ()


class DeltaClient:
    """Holds ``versions``, and ``bodies`` if they are to be kept, by type URL and name.

    ``warming`` names the endpoints that clusters wait for; ``active`` the clusters that have been ready once.
    """

    def __init__(
        self,
        needs: Needs = endpoints_of_clusters,
        refuses: Refuses = lambda *_: None,
        keep_bodies: bool = False,
    ) -> None:
        self._needs = needs
        self._refuses = refuses
        self._keep_bodies = keep_bodies
        self.versions: dict[str, dict[str, str]] = {}
        self.bodies: dict[str, dict[str, bytes]] = {}
        self._wanted: dict[Reference, tuple[Reference, ...]] = {}
        self._users: dict[Reference, int] = {}
        self._begun: set[str] = set()
        self._withheld: list[bytes] = []
        self.warming: set[str] = set()
        self.active: set[str] = set()

    def start(self) -> list[bytes]:
        """The first requests of a stream, with the versions that it has from an earlier one."""
        self._begun = set()
        self._withheld = []
        names: dict[str, list[str]] = {}
        for kind, name in self._users:
            names.setdefault(kind, []).append(name)
        requests = [self._request(CLUSTER)]
        if ENDPOINT in names:
            requests.append(self._request(ENDPOINT, names.pop(ENDPOINT)))
        requests.append(self._request(LISTENER))
        requests.extend(self._request(kind, wanted) for kind, wanted in names.items())
        return requests

    def on_response(self, data: bytes) -> list[bytes]:
        """Apply a response; gives the subscriptions that follow, and then the answer."""
        response = discovery_pb2.DeltaDiscoveryResponse.FromString(data)
        type_url = response.type_url
        before = set(self._users)
        errors = self._apply(response)
        self.active &= self.versions.get(CLUSTER, {}).keys()
        self.active.update(name for name in self.versions.get(CLUSTER, {}) if self._is_warm(name))
        requests = self._subscriptions(before)
        answer = self._answer(type_url, response.nonce, errors)
        if type_url == CLUSTER and self.warming:
            self._withheld.append(answer)
            return requests
        if not self.warming:
            requests.extend(self._withheld)
            self._withheld = []
        requests.append(answer)
        return requests

    def _apply(self, response: Any) -> list[str]:
        type_url = response.type_url
        refused = {
            resource.name: error
            for resource in response.resources
            if (error := self._refuses(type_url, resource.name, resource.resource.value)) is not None
        }
        if refused and type_url not in PARTLY:
            return list(refused.values())
        for name in response.removed_resources:
            self._remove(type_url, name)
        for resource in response.resources:
            asked_for = type_url in PARTLY or (type_url, resource.name) in self._users
            if asked_for and resource.name not in refused:
                self._take(type_url, resource)
        return [f"{name}: {error}" for name, error in refused.items()]

    def _take(self, type_url: str, resource: Any) -> None:
        name, body = resource.name, resource.resource.value
        self.versions.setdefault(type_url, {})[name] = resource.version
        if self._keep_bodies:
            self.bodies.setdefault(type_url, {})[name] = body
        wanted = tuple(self._needs(type_url, name, body))
        self._want((type_url, name), wanted)
        if type_url == CLUSTER:
            self.warming.update(needed for kind, needed in wanted if kind == ENDPOINT)
        elif type_url == ENDPOINT:
            self.warming.discard(name)

    def _remove(self, type_url: str, name: str) -> None:
        self._drop((type_url, name))
        self._want((type_url, name), ())
        if type_url == ENDPOINT:
            self.warming.discard(name)

    def _want(self, owner: Reference, wanted: tuple[Reference, ...]) -> None:
        for needed in wanted:
            self._users[needed] = self._users.get(needed, 0) + 1
        for needed in self._wanted.pop(owner, ()):
            self._users[needed] -= 1
            if not self._users[needed]:
                del self._users[needed]
                self._drop(needed)
                self.warming.discard(needed[1])
        if wanted:
            self._wanted[owner] = wanted

    def _is_warm(self, cluster: str) -> bool:
        return not any(name in self.warming for _, name in self._wanted.get((CLUSTER, cluster), ()))

    def _drop(self, gone: Reference) -> None:
        self.versions.get(gone[0], {}).pop(gone[1], None)
        self.bodies.get(gone[0], {}).pop(gone[1], None)

    def _subscriptions(self, before: set[Reference]) -> list[bytes]:
        after = self._users.keys()
        if after == before:
            return []
        requests = []
        for type_url in (ENDPOINT, ROUTE):
            subscribe = sorted(name for kind, name in after - before if kind == type_url)
            unsubscribe = sorted(name for kind, name in before - after if kind == type_url)
            if subscribe or unsubscribe:
                requests.append(self._request(type_url, subscribe, unsubscribe))
        return requests

    def _request(self, type_url: str, subscribe: Iterable[str] = (), unsubscribe: Iterable[str] = ()) -> bytes:
        known: Mapping[str, str] = self.versions.get(type_url, {}) if type_url not in self._begun else {}
        self._begun.add(type_url)
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
            what = f"Error adding/updating resource(s) {', '.join(errors)}" if type_url in PARTLY else errors[0]
            request.error_detail.code = 13
            request.error_detail.message = what
        return bytes(request.SerializeToString())
