"""Attribute generators at work: what they find out about a request, before rules look at it.

Comes in: rules that give instances of such templates to handlers, and a bag. Goes out: a bag in which attributes that
the request does not have are those that were found. One that the request has is never exchanged: who calls stays what
its certificate says, and what is found about the caller counts only where it agrees with that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from lateen.expressions.evaluate import AbsentError, Bag, Evaluator, MapBag, RecordingBag, compile_expression
from lateen.expressions.functions import Unusable
from lateen.expressions.syntax import attributes_of
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer import model
from lateen.mixer.adapter import CheckResult
from lateen.mixer.handler import Handler
from lateen.mixer.instances import InstanceMaker
from lateen.resources.mixer.templates import OUT

MOST_KEPT = 4096
"""How many answers of a lookup are kept, for as long as the rules hold."""
SOURCE = "source_"
_SAME = {"source.namespace": "source_namespace", "source.serviceAccount": "source_service_account_name"}
"""What the certificate says of a caller, and what is found has to agree with."""


class Found(msgspec.Struct, frozen=True):
    """What one handler found, by attribute. ``seen``: what that depends on. ``failed``: why it found nothing."""

    attributes: Mapping[str, Any]
    seen: frozenset[tuple[str, str | None]]
    failed: CheckResult | None = None


class Generator:
    """One instance, given to one handler where ``matches`` holds, for destinations of ``namespace`` (empty: all)."""

    def __init__(
        self,
        namespace: str,
        matches: Callable[[Bag], bool],
        handler: Handler,
        instance: model.Instance,
        vocabulary: Vocabulary,
    ) -> None:
        self.namespace, self._matches, self.handler = namespace, matches, handler
        self._instance = InstanceMaker(instance, vocabulary)
        self._bindings: list[tuple[str, Evaluator]] = [
            (binding.attribute, compile_expression(binding.tree, vocabulary)) for binding in instance.bindings
        ]
        self.bound = frozenset(attribute for attribute, _ in self._bindings)
        of_outputs = all(name.startswith(OUT) for one in instance.bindings for name, _ in attributes_of(one.tree))
        self._kept: dict[Any, Mapping[str, Any]] | None = {} if handler.adapter_is_lookup and of_outputs else None

    async def find(self, bag: Bag, *, fail_open: bool | None = None) -> Found | None:
        """What is found about a request; None where the rule does not match."""
        recording = RecordingBag(bag)
        if not self._matches(recording):
            return None
        try:
            made = self._instance.made_of(recording)
        except (AbsentError, Unusable):
            made = None  # nothing is found of what cannot be named
        key = (made, *(recording.get(attribute) for attribute in _SAME))
        attributes = self._kept.get(key) if self._kept is not None else None
        failed = None
        if attributes is None:
            result = await self.handler.find(made, fail_open=fail_open) if made is not None else {}
            failed = result if isinstance(result, CheckResult) else None
            outputs = _agreeing(result, recording) if not isinstance(result, CheckResult) else {}
            attributes = self._bound_to(outputs, recording)
            if failed is None:
                self._keep(key, attributes)
        return Found(attributes, frozenset(recording.seen), failed)

    def _bound_to(self, outputs: Mapping[str, object], bag: Bag) -> Mapping[str, Any]:
        told = _WithOutputs(bag, outputs)
        found = {attribute: _value(evaluate, told) for attribute, evaluate in self._bindings}
        return {attribute: value for attribute, value in found.items() if value is not None}

    def _keep(self, key: Any, attributes: Mapping[str, Any]) -> None:
        if self._kept is not None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = attributes


def _value(evaluate: Evaluator, bag: Bag) -> Any:
    try:
        return evaluate(bag)
    except (AbsentError, Unusable):
        return None


def _agreeing(outputs: Mapping[str, object], bag: Bag) -> Mapping[str, object]:
    """The outputs, without those on a caller that the certificate does not name."""
    for attribute, output in _SAME.items():
        known = bag.get(attribute)
        if known is not None and output in outputs and outputs[output] != known:
            return {name: value for name, value in outputs.items() if not name.startswith(SOURCE)}
    return outputs


class _WithOutputs(MapBag):
    """Outputs of a generator, beside the attributes of the request."""

    def __init__(self, bag: Bag, outputs: Mapping[str, object]) -> None:
        super().__init__({f"{OUT}{name}": value for name, value in outputs.items()})
        self._bag = bag

    def get(self, name: str) -> Any:
        return super().get(name) if name.startswith(OUT) else self._bag.get(name)

    def entry(self, name: str, key: str) -> str | None:
        return super().entry(name, key) if name.startswith(OUT) else self._bag.entry(name, key)

    def there(self, name: str) -> bool:
        return super().there(name) if name.startswith(OUT) else self._bag.there(name)


class FoundBag:
    """A bag with what was found, where it has nothing itself.

    ``noted``: somebody takes note of what is looked at, and what a found value depends on counts as that.
    """

    def __init__(self, bag: Bag, found: Sequence[Found], *, noted: bool) -> None:
        self._bag, self._found, self._noted = bag, found, noted
        self._taken: dict[str, Any] = {}

    def get(self, name: str) -> Any:
        if name in self._taken:
            return self._taken[name]
        value = self._bag.get(name)
        if value is None:
            return self._of_found(name)
        self._taken[name] = value
        return value

    def entry(self, name: str, key: str) -> str | None:
        value = self._bag.entry(name, key)
        if value is not None or self._bag.get(name) is not None:
            return value
        entries = self._taken[name] if name in self._taken else self._of_found(name)
        return None if entries is None else entries.get(key)

    def there(self, name: str) -> bool:
        return self._bag.there(name) or self.get(name) is not None

    def _of_found(self, name: str) -> Any:
        value = None
        for one in self._found:
            if name in one.attributes:
                value = one.attributes[name]
                for seen, key in one.seen if self._noted else ():
                    self._bag.get(seen) if key is None else self._bag.entry(seen, key)
                break
        self._taken[name] = value
        return value


class Generators:
    """Those of all rules. ``wanted``: the attributes that somebody looks at afterwards."""

    def __init__(self, generators: Iterable[Generator], wanted: frozenset[str]) -> None:
        self._generators = [(one, one.bound & wanted) for one in generators if one.bound & wanted]

    async def enrich(self, bag: Bag, plain: Bag, *, fail_open: bool | None = None) -> tuple[Bag, CheckResult | None]:
        """The bag with what is found, and what is said against a request about which something could not be found.

        ``plain`` is the same bag, in which nobody takes note of what is looked at.
        """
        namespace = plain.get("destination.namespace") or ""
        found = []
        for generator, bound in self._generators:
            if generator.namespace not in ("", namespace) or all(plain.get(name) is not None for name in bound):
                continue
            one = await generator.find(plain, fail_open=fail_open)
            if one is not None:
                found.append(one)
        if not found:
            return bag, None
        return FoundBag(bag, found, noted=bag is not plain), next(
            (one.failed for one in found if one.failed is not None), None
        )
