"""The attributes that requests have by descriptions of APIs, as rules look at them.

Comes in: a bag, and APIs that are bound to services. Goes out: a bag in which these attributes are found, too. What
they depend on counts as looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from http.cookies import CookieError, SimpleCookie
from typing import Any

from lateen.expressions.evaluate import Bag
from lateen.expressions.functions import compile_pattern
from lateen.mesh.mixer import model

KEY = "request.api_key"


class _Api:
    def __init__(self, api: model.Api) -> None:
        self._api = api
        self._patterns = [(one, compile_pattern(one.path)) for one in api.patterns]
        self.names = frozenset(
            name for attributes in (api.attributes, *(one.attributes for one in api.patterns)) for name, _ in attributes
        )

    def is_for(self, bag: Bag) -> bool:
        host, labels = bag.get("destination.service.host"), bag.get("destination.labels")
        return any(service.is_for(host, labels) for service in self._api.services)

    def attributes(self, method: str, path: str) -> Mapping[str, Any]:
        """What holds for all of it, and what its patterns say; the first template that fits, then regexes."""
        found, templated = dict(self._api.attributes), False
        bare = path.partition("?")[0]
        for pattern, program in self._patterns:
            if pattern.method != method or (templated and not pattern.with_query):
                continue
            if program.fullmatch(path if pattern.with_query else bare) is not None:
                templated = templated or not pattern.with_query
                found.update(pattern.attributes)
        return found

    def key(self, bag: Bag) -> str | None:
        """The key that a call carries; None for none."""
        for kind, name in self._api.keys:
            value = _FINDERS[kind](bag, name)
            if value is not None:
                return value
        return None


def _cookie(bag: Bag, name: str) -> str | None:
    try:
        found = SimpleCookie(bag.entry("request.headers", "cookie") or "").get(name)
    except CookieError:
        return None
    return found.value if found is not None else None


_FINDERS: Mapping[str, Callable[[Bag, str], str | None]] = {
    "query": lambda bag, name: bag.entry("request.query_params", name),
    "header": lambda bag, name: bag.entry("request.headers", name),
    "cookie": _cookie,
}


class Apis:
    """All APIs of a generation."""

    def __init__(self, apis: Iterable[model.Api]) -> None:
        self._apis = [_Api(api) for api in apis]
        self.names = frozenset(name for api in self._apis for name in api.names)

    def on(self, bag: Bag) -> Bag:
        """The bag, with what APIs say."""
        return ApiBag(bag, self._apis, self.names) if self._apis else bag


class ApiBag:
    """A bag with what APIs say, where it has nothing itself."""

    def __init__(self, bag: Bag, apis: Sequence[_Api], names: frozenset[str]) -> None:
        self._bag, self._apis, self._names = bag, apis, names

    def get(self, name: str) -> Any:
        value = self._bag.get(name)
        if value is not None or (name != KEY and name not in self._names):
            return value
        return self._key() if name == KEY else self._set(name)

    def entry(self, name: str, key: str) -> str | None:
        value = self._bag.entry(name, key)
        if value is not None or name not in self._names or self._bag.get(name) is not None:
            return value
        entries = self._set(name)
        return None if entries is None else entries.get(key)

    def there(self, name: str) -> bool:
        return self._bag.there(name) or (name in self._names and self._set(name) is not None)

    def _key(self) -> str | None:
        if self._bag.get("request.method") is None:
            return None
        found = (api.key(self._bag) for api in self._apis if api.is_for(self._bag))
        return next((key for key in found if key is not None), None)

    def _set(self, name: str) -> Any:
        method, path = self._bag.get("request.method"), self._bag.get("request.path")
        if method is None or path is None:
            return None
        for api in self._apis:
            if name in api.names and api.is_for(self._bag):
                found = api.attributes(method, path).get(name)
                if found is not None:
                    return found
        return None
