"""Checks and reports with attributes that somebody writes down: the rules of a running mesh, without a request.

Comes in: an order, and attributes as texts. Goes out: what the rules say. Handlers are made for this and do what they
always do, so an adapter that asks somebody asks, and one that writes writes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from lateen.expressions.evaluate import MapBag
from lateen.expressions.functions import Unusable, to_dns_name, to_duration, to_email, to_ip, to_timestamp, to_uri
from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.mixer.engine import Engine, Reported
from lateen.mixer.handlers import Handlers
from lateen.mixer.order import MixerOrder, rules_of
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
        return int(text)
    except ValueError:
        raise Unusable(f"{text!r} is no whole number") from None


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


def read_attributes(written: Iterable[str], vocabulary: Vocabulary) -> dict[str, Any]:
    """Attributes of ``name=value``, or ``map[key]=value`` for one entry of a map. Raises NotAttribute."""
    found: dict[str, Any] = {}
    for text in written:
        name, equals, value = text.partition("=")
        name, bracket, key = name.partition("[")
        kind = vocabulary.type_of(name)
        if not equals or kind is None:
            raise NotAttribute(f"{text!r} is not NAME=VALUE with the name of an attribute")
        if (kind is ValueType.STRING_MAP) is not bool(bracket) or (bracket and not key.endswith("]")):
            form = f"{name}[KEY]=VALUE" if kind is ValueType.STRING_MAP else f"{name}=VALUE"
            raise NotAttribute(f"{text!r} is not of the form {form}")
        if bracket:
            found.setdefault(name, {})[key.removesuffix("]")] = value
            continue
        try:
            found[name] = READERS[kind](value)
        except Unusable as problem:
            raise NotAttribute(f"{name}: {problem}") from None
    return found


class ByHand:
    """The rules of an order and their handlers, for as long as the block lasts."""

    def __init__(self, order: MixerOrder) -> None:
        self._order = order
        self._rules = rules_of(order)
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

    def bag(self, written: Iterable[str], proxy: str = "", port: str = "") -> MapBag:
        """Attributes as they are written; ``proxy`` and ``port`` fill in what is constant. Raises NotAttribute."""
        given = read_attributes(written, self._rules.vocabulary)
        place = self._order.places.get(proxy)
        if place is None:
            if proxy:
                raise NotAttribute(f"there is no {proxy}; there are: {', '.join(sorted(self._order.places))}")
            return MapBag(given)
        return MapBag({**place.attributes, **place.ports.get(port, {}), **given})

    async def check(self, bag: MapBag) -> Outcome:
        """What the rules say."""
        return await self._engine.check(bag)

    async def report(self, bag: MapBag) -> list[tuple[Reported, bool]]:
        """What rules make of it, each with whether its handler took note."""
        return [(one, await one.handler.report(one.template, [one.instance])) for one in await self._engine.report(bag)]
