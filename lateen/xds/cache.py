"""What every proxy should have, with equal content held once.

Comes in: ``EnvoyResources`` of one proxy at a time. Goes out: the same, made of shared objects, to whoever watches
that proxy. Proxies with the same set of a type share the very mapping, and what differs between two sets is found out
once for all of them. The serialised pieces of responses are kept here too: 500 streams share the bytes of one.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from lateen.envoy.resources import EnvoyResource, EnvoyResources
from lateen.xds.framing import delta_piece
from lateen.xds.subscription import differing_names

Key = tuple[str, str, str]
Named = Mapping[str, EnvoyResource]
Step = tuple[frozenset[tuple[str, str]], frozenset[str]]
"""What turns one set into another: the (name, version) pairs that are new, and the names that are gone."""
Watcher = Callable[[], None]

REMEMBERED_DIFFERENCES = 32
WORTH_REMEMBERING = 32
"""Sets smaller than this are compared each time."""
_NO_RESOURCES = EnvoyResources({})


class _Entry:
    """One resource, how many sets hold it, and its piece of a response once somebody asked."""

    __slots__ = ("piece", "resource", "users")

    def __init__(self, resource: EnvoyResource) -> None:
        self.resource = resource
        self.users = 0
        self.piece: bytes | None = None


class _Set:
    """All resources of one type as some proxies have them, how many do, and by which step it came to be."""

    __slots__ = ("made_by", "named", "number", "users")

    def __init__(self, number: int, named: Named, made_by: tuple[str, int, Step] | None = None) -> None:
        self.number = number
        self.named = named
        self.made_by = made_by
        self.users = 0


_NOTHING = _Set(0, {})


class ResourceCache:
    """Resources by proxy. For one thread (or event loop); watchers are called at once, and only note the call."""

    def __init__(self) -> None:
        self._entries: dict[Key, _Entry] = {}
        self._sets: dict[str, dict[str, _Set]] = {}
        self._given: dict[str, EnvoyResources] = {}
        self._steps: dict[tuple[str, int, Step], _Set] = {}
        self._last_number = 0
        self._proxies: dict[str, EnvoyResources] = {}
        self._watchers: dict[str, list[Watcher]] = {}
        self._differences: deque[tuple[Named, Named, Sequence[str]]] = deque(maxlen=REMEMBERED_DIFFERENCES)

    def put(self, proxy_id: str, resources: EnvoyResources | None) -> None:
        """Set what a proxy should have, or forget the proxy; its watchers are woken if that is news."""
        before = self._sets.pop(proxy_id, {})
        given_before = self._given.pop(proxy_id, _NO_RESOURCES)
        after: dict[str, _Set] = {}
        if resources is None:
            if self._proxies.pop(proxy_id, None) is None:
                return
        else:
            for type_url, given in resources.by_type.items():
                same = type_url in before and given_before.by_type.get(type_url) is given
                after[type_url] = before[type_url] if same else self._shared(type_url, given, before.get(type_url))
            self._sets[proxy_id] = after
            self._given[proxy_id] = resources
            unchanged = before.keys() == after.keys() and all(before[url] is found for url, found in after.items())
            if unchanged and proxy_id in self._proxies:
                return
            self._proxies[proxy_id] = EnvoyResources({url: found.named for url, found in after.items()})
        self._count(before, after)
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

    def differences(self, before: Named, after: Named) -> Sequence[str]:
        """The names that differ between two sets, worked out once for all streams that take this step."""
        for known_before, known_after, names in self._differences:
            if known_before is before and known_after is after:
                return names
        names = differing_names(before, after)
        if len(after) >= WORTH_REMEMBERING:
            self._differences.appendleft((before, after, names))
        return names

    def __len__(self) -> int:
        """How many different resources are held."""
        return len(self._entries)

    def _shared(self, type_url: str, given: Named, before: _Set | None) -> _Set:
        """The set with this content: the one before, one that another proxy took the same step to, or a new one."""
        start = before or _NOTHING
        old = start.named
        fresh, added = [], 0
        for name, resource in given.items():
            have = old.get(name)
            if have is None:
                added += 1
                fresh.append(resource)
            elif have is not resource and have.version != resource.version:
                fresh.append(resource)
        gone = [name for name in old if name not in given] if len(old) != len(given) - added else []
        if not fresh and not gone and before is not None:
            return before
        step = (frozenset((found.name, found.version) for found in fresh), frozenset(gone))
        key = (type_url, start.number, step)
        known = self._steps.get(key)
        if known is None:
            known = self._steps[key] = self._make(type_url, given, key)
        return known

    def _make(self, type_url: str, given: Named, key: tuple[str, int, Step]) -> _Set:
        named = {}
        for name, resource in given.items():
            entry_key = (type_url, name, resource.version)
            entry = self._entries.get(entry_key)
            if entry is None:
                entry = self._entries[entry_key] = _Entry(resource)
            entry.users += 1
            named[name] = entry.resource
        self._last_number += 1
        return _Set(self._last_number, named, key)

    def _count(self, before: Mapping[str, _Set], after: Mapping[str, _Set]) -> None:
        for found in after.values():
            found.users += 1
        for type_url, found in before.items():
            found.users -= 1
            if not found.users:
                self._drop(type_url, found)

    def _drop(self, type_url: str, unused: _Set) -> None:
        if unused.made_by is not None:
            del self._steps[unused.made_by]
        for name, resource in unused.named.items():
            key = (type_url, name, resource.version)
            entry = self._entries[key]
            entry.users -= 1
            if not entry.users:
                del self._entries[key]
