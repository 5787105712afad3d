"""What every proxy should have, with equal content held once.

Comes in: ``EnvoyResources`` of one proxy at a time. Goes out: the same, made of shared objects, to whoever watches
that proxy. The serialised pieces of responses are kept here too, so that 500 streams share the bytes of one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from lateen.envoy.resources import EnvoyResource, EnvoyResources
from lateen.xds.framing import delta_piece

Key = tuple[str, str, str]
Watcher = Callable[[], None]


class _Entry:
    """One resource, how many proxies have it, and its piece of a response once somebody asked."""

    __slots__ = ("piece", "resource", "users")

    def __init__(self, resource: EnvoyResource) -> None:
        self.resource = resource
        self.users = 0
        self.piece: bytes | None = None


class ResourceCache:
    """Resources by proxy. For one thread (or event loop); watchers are called at once, and only note the call."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._proxies: dict[str, EnvoyResources] = {}
        self._watchers: dict[str, list[Watcher]] = {}

    def put(self, proxy_id: str, resources: EnvoyResources | None) -> None:
        """Set what a proxy should have, or forget the proxy; its watchers are woken if that is news."""
        before = self._proxies.get(proxy_id)
        if resources is None:
            if before is None:
                return
            del self._proxies[proxy_id]
            after: Mapping[str, Mapping[str, EnvoyResource]] = {}
        else:
            after = self._shared(resources, before)
            self._proxies[proxy_id] = EnvoyResources(after)
        self._release(before, after)
        for watcher in tuple(self._watchers.get(proxy_id, ())):
            watcher()

    def get(self, proxy_id: str) -> EnvoyResources | None:
        """What a proxy should have; None if it is not known."""
        return self._proxies.get(proxy_id)

    def watch(self, proxy_id: str, watcher: Watcher) -> Callable[[], None]:
        """Call ``watcher`` at every change of a proxy; call the result to end that."""
        watchers = self._watchers.setdefault(proxy_id, [])
        watchers.append(watcher)

        def end() -> None:
            if watcher in watchers:
                watchers.remove(watcher)
            if not watchers and self._watchers.get(proxy_id) is watchers:
                del self._watchers[proxy_id]

        return end

    def frame(self, type_url: str, resource: EnvoyResource) -> bytes:
        """The piece of a delta response that holds this resource, made once while any proxy has it."""
        entry = self._entries.get((type_url, resource.name, resource.version))
        if entry is None:
            return delta_piece(type_url, resource)
        if entry.piece is None:
            entry.piece = delta_piece(type_url, entry.resource)
        return entry.piece

    def __len__(self) -> int:
        """How many different resources are held."""
        return len(self._entries)

    def _shared(
        self, resources: EnvoyResources, before: EnvoyResources | None
    ) -> dict[str, Mapping[str, EnvoyResource]]:
        """The same content out of shared objects; a type that did not change keeps its very mapping."""
        shared: dict[str, Mapping[str, EnvoyResource]] = {}
        for type_url, given in resources.by_type.items():
            old = before.by_type.get(type_url, {}) if before is not None else {}
            fresh: dict[str, EnvoyResource] = {}
            same = len(old) == len(given)
            for name, resource in given.items():
                have = old.get(name)
                if have is not None and (have is resource or have.version == resource.version):
                    fresh[name] = have
                    continue
                same = False
                fresh[name] = self._claim(type_url, resource)
            shared[type_url] = old if same and old else fresh
        return shared

    def _claim(self, type_url: str, resource: EnvoyResource) -> EnvoyResource:
        key = (type_url, resource.name, resource.version)
        entry = self._entries.get(key)
        if entry is None:
            entry = self._entries[key] = _Entry(resource)
        entry.users += 1
        return entry.resource

    def _release(self, before: EnvoyResources | None, after: Mapping[str, Mapping[str, EnvoyResource]]) -> None:
        if before is None:
            return
        for type_url, old in before.by_type.items():
            new = after.get(type_url, {})
            if new is old:
                continue
            for name, resource in old.items():
                if new.get(name) is resource:
                    continue
                key = (type_url, name, resource.version)
                entry = self._entries[key]
                entry.users -= 1
                if not entry.users:
                    del self._entries[key]
