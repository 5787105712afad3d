"""Checks and reports with attributes that somebody writes down: the rules of a running mesh, without a request.

Comes in: an order, and attributes as texts. Goes out: what the rules say. Handlers are made for this and do what they
always do, so an adapter that asks somebody asks, and one that writes writes.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lateen.expressions.evaluate import MapBag
from lateen.expressions.functions import Unusable, to_dns_name, to_duration, to_email, to_ip, to_timestamp, to_uri
from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.mixer.bags import SPIFFE, without_scheme
from lateen.mixer.engine import Asked, Engine, Reported
from lateen.mixer.handlers import Handlers
from lateen.mixer.order import MixerOrder, Place, rules_of
from lateen.mixer.outcome import Outcome
from lateen.mixer.reach import Reach


class NotAttribute(ValueError):
    """What was written is no attribute; the message is a sentence."""


def _truth(text: str) -> bool:
    if text not in ("true", "false"):
        raise Unusable(f"{text!r} is neither true nor false")
    return text == "true"


def _number(text: str) -> int:
    try:
        found = int(text)
    except ValueError:
        raise Unusable(f"{text!r} is no whole number") from None
    if not -(1 << 63) <= found < 1 << 63:
        raise Unusable(f"{text} does not fit into 64 bits")
    return found


def _double(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Unusable(f"{text!r} is no number") from None


READERS: Mapping[ValueType, Callable[[str], Any]] = {
    ValueType.STRING: str,
    ValueType.INT64: _number,
    ValueType.DOUBLE: _double,
    ValueType.BOOL: _truth,
    ValueType.TIMESTAMP: to_timestamp,
    ValueType.IP_ADDRESS: to_ip,
    ValueType.EMAIL_ADDRESS: to_email,
    ValueType.URI: to_uri,
    ValueType.DNS_NAME: to_dns_name,
    ValueType.DURATION: to_duration,
}


HEADERS = frozenset({"request.headers", "response.headers"})
OF_REQUESTS = frozenset({"request.headers", "request.query_params"})
"""Maps that every request has."""
PRINCIPALS = frozenset({"source.principal", "source.user", "destination.principal", "destination.user"})


def read_attributes(written: Iterable[str], vocabulary: Vocabulary) -> dict[str, Any]:
    """Attributes of ``name=value``, or ``map[key]=value`` for one entry of a map. Raises NotAttribute."""
    found: dict[str, Any] = {}
    for text in written:
        name, key, value = _parts(text)
        kind = vocabulary.type_of(name)
        if kind is None:
            near = difflib.get_close_matches(name, vocabulary.attributes, n=1)
            hint = f"did you mean {near[0]}?" if near else "docs/reference/mixer.md lists them"
            raise NotAttribute(f"{text!r} is not NAME=VALUE with the name of an attribute; {hint}")
        if (kind is ValueType.STRING_MAP) is not (key is not None) or key == "":
            form = f"{name}[KEY]=VALUE" if kind is ValueType.STRING_MAP else f"{name}=VALUE"
            raise NotAttribute(f"{text!r} is not of the form {form}")
        entries = found.setdefault(name, {}) if key is not None else found
        place = name if key is None else key.lower() if name in HEADERS else key
        if place in entries:
            raise NotAttribute(f"{name if key is None else f'{name}[{key}]'} is given twice")
        try:
            entries[place] = READERS[kind](value) if key is None else value
        except Unusable as problem:
            raise NotAttribute(f"{name}: {problem}") from None
        if name in PRINCIPALS and value.startswith(SPIFFE):
            raise NotAttribute(f"{name}: principals are without {SPIFFE}; write {name}={without_scheme(value)}")
    return found


def _parts(text: str) -> tuple[str, str | None, str]:
    """Name, key (None: there is none) and value of what is written. Raises NotAttribute."""
    if not text.isprintable() and any("\ud800" <= character < "\ue000" for character in text):
        raise NotAttribute(f"{text!r} is not UTF-8")
    head, equals, value = text.partition("=")
    name, bracket, _ = head.partition("[")
    if not bracket:
        if not equals:
            raise NotAttribute(f"{text!r} is not NAME=VALUE")
        return name, None, value
    key, closed, value = text.removeprefix(f"{name}[").partition("]=")
    if not closed:
        raise NotAttribute(f"{text!r} is not of the form {name}[KEY]=VALUE")
    return name, key, value


class HandBag(MapBag):
    """A bag whose headers are found whatever their case is, as those of requests are. ``missed``: what was looked for
    and is not given."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        super().__init__(values)
        self.missed: set[str] = set()

    def get(self, name: str) -> Any:
        found = super().get(name)
        if found is None:
            self.missed.add(name)
        return found

    def entry(self, name: str, key: str) -> str | None:
        found = super().entry(name, key.lower() if name in HEADERS else key)
        if found is None:
            self.missed.add(f"{name}[{key}]")
        return found

    def there(self, name: str) -> bool:
        if name in OF_REQUESTS and self._values.get("context.protocol") != "tcp":
            return True
        return self._values.get(name) is not None


class ByHand:
    """The rules of an order and their handlers, for as long as the block lasts."""

    def __init__(self, order: MixerOrder) -> None:
        self._order = order
        self._rules = rules_of(order)
        self._fail_open: bool | None = None
        self._reach = Reach()
        self._reach.allow(order.fetch_allowed)
        self._handlers = Handlers(self._reach.web)

    async def __aenter__(self) -> ByHand:
        await self._handlers.follow(self._rules, fail_open=self._order.fail_open, pods=self._order.pods)
        self._engine = Engine(self._rules, self._handlers.running)
        return self

    async def __aexit__(self, *_: object) -> None:
        for handler in self._handlers.running.values():
            await handler.close()
        await self._reach.close()

    def bag(self, written: Iterable[str], proxy: str = "", port: str = "") -> HandBag:
        """Attributes as they are written; ``proxy`` and ``port`` fill in what is constant. Raises NotAttribute."""
        given = read_attributes(written, self._rules.vocabulary)
        if not proxy and port:
            raise NotAttribute(f"whose port {port} is, is not said; write WORKLOAD:{port}")
        if not proxy:
            return HandBag(given)
        place = self._place(proxy)
        self._fail_open = place.fail_open
        port = port or (next(iter(place.ports)) if len(place.ports) == 1 else "")
        if port and port not in place.ports:
            ports = ", ".join(sorted(place.ports)) or "none"
            raise NotAttribute(f"nothing arrives at port {port} of {proxy}; its ports are: {ports}")
        return HandBag({**place.attributes, **place.ports.get(port, {}), **given})

    def _place(self, proxy: str) -> Place:
        """An instance, or the first one of a workload or a service."""
        known = sorted(self._order.places)
        first = [name for name in known if name.rpartition("-")[0] == proxy]
        first = first or [name for name in known if name.startswith(f"{proxy}-")]
        place = self._order.places.get(proxy) or (self._order.places[first[0]] if first else None)
        if place is None:
            raise NotAttribute(f"there is no {proxy}; there are: {', '.join(known)}")
        return place

    def left_out(self, bag: MapBag) -> list[str]:
        """The namespaces whose rules do not hold, as it is not said where the request arrives."""
        if bag.get("destination.namespace") is not None:
            return []
        return sorted({rule.namespace for rule in self._rules.rules if not rule.everywhere})

    async def check(self, bag: MapBag) -> Outcome:
        """What the rules say."""
        return await self._engine.check(bag, Asked(self._fail_open))

    async def report(self, bag: MapBag) -> list[tuple[Reported, bool]]:
        """What rules make of it, each with whether its handler took note."""
        return [(one, await one.handler.report(one.template, [one.instance])) for one in await self._engine.report(bag)]
