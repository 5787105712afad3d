"""From a checked tree to a function of a bag of attributes.

An attribute that is not there makes the whole evaluation fail with ``AbsentError``, unless it stands at the left of
``|``, or a part that decides before it (``&&``, ``||``, ``conditional``) spares looking at it. An entry that a map
lacks is an empty text (``FILLED``), or counts as absent (``INDEX``).
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from lateen.expressions.functions import FUNCTIONS, Unusable, to_dns_name, to_email, to_sum, to_uri
from lateen.expressions.syntax import (
    ADD,
    AND,
    EITHER,
    EQ,
    FILLED,
    GE,
    GT,
    INDEX,
    LE,
    LT,
    NEQ,
    NOT,
    OR,
    PRECEDENCE,
    RESCUE,
    Attribute,
    Call,
    Expression,
    Known,
    Literal,
)
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY, ValueType, Vocabulary


class AbsentError(LookupError):
    """An attribute, or an entry of a map, that is needed and not there."""


class Bag(Protocol):
    """The attributes of one request."""

    def get(self, name: str) -> Any:
        """The value of an attribute; None if it is absent."""

    def entry(self, name: str, key: str) -> str | None:
        """One entry of an attribute that is a map; None if there is none."""

    def there(self, name: str) -> bool:
        """Whether an attribute that is a map is there, whatever is in it."""


Evaluator = Callable[[Bag], Any]
Excused = type[Exception] | tuple[type[Exception], ...]
_COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    EQ: operator.eq, NEQ: operator.ne, LT: operator.lt, LE: operator.le, GT: operator.gt, GE: operator.ge,
    ADD: to_sum,
}  # fmt: skip
_NORMAL: Mapping[ValueType, Callable[[str], str]] = {
    ValueType.DNS_NAME: to_dns_name,
    ValueType.EMAIL_ADDRESS: to_email,
    ValueType.URI: to_uri,
}


class MapBag:
    """A bag of values that are all at hand."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def entry(self, name: str, key: str) -> str | None:
        found = self._values.get(name)
        return None if found is None else found.get(key)

    def there(self, name: str) -> bool:
        return self.get(name) is not None


PRESENCE = "[]"
"""As a key: whether the map is there."""


class RecordingBag:
    """Another bag, with a note of what was looked at: names, and entries as (name, key)."""

    def __init__(self, bag: Bag) -> None:
        self.seen: set[tuple[str, str | None]] = set()
        self._bag = bag

    def get(self, name: str) -> Any:
        self.seen.add((name, None))
        return self._bag.get(name)

    def entry(self, name: str, key: str) -> str | None:
        self.seen.add((name, key))
        return self._bag.entry(name, key)

    def there(self, name: str) -> bool:
        self.seen.add((name, PRESENCE))
        return self._bag.there(name)


def compile_expression(tree: Expression, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> Evaluator:
    """The function of a tree that ``check`` has settled. It raises AbsentError, and Unusable for unfit values."""
    look = _compile(tree, vocabulary)

    def evaluate(bag: Bag) -> Any:
        value = look(bag)
        if value is None:
            raise AbsentError
        return value

    return evaluate


def compile_match(tree: Expression, vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> Callable[[Bag], bool]:
    """The same for a rule's match: what cannot be evaluated does not match."""
    look = _compile(tree, vocabulary)

    def matches(bag: Bag) -> bool:
        try:
            return look(bag) is True
        except (AbsentError, Unusable):
            return False

    return matches


def _compile(node: Expression, vocabulary: Vocabulary) -> Evaluator:
    """A function that gives None where the node itself is an absent attribute, and raises AbsentError deeper."""
    if isinstance(node, Literal | Known):
        value = node.value
        return lambda bag: value
    if isinstance(node, Attribute):
        name = node.name
        normal = _NORMAL.get(vocabulary.type_of(name) or ValueType.STRING)
        if normal is not None:
            return _normalised(name, normal)
        return lambda bag: bag.get(name)
    if node.function == INDEX:
        return _entry(node, vocabulary)
    if node.function == FILLED:
        return _filled(node, vocabulary)
    parts = [_compile(argument, vocabulary) for argument in node.arguments]
    if node.function == EITHER:
        return _either(parts[0], parts[1], AbsentError)
    if node.function == RESCUE:
        return _either(parts[0], parts[1], (AbsentError, Unusable))
    if node.function == AND:
        return _and(parts[0], parts[1])
    if node.function == OR:
        return _or(parts[0], parts[1])
    if node.function == NOT:
        return _not(parts[0])
    if node.function in PRECEDENCE:
        return _binary(_COMPARISONS[node.function], parts[0], parts[1])
    if node.function in ("conditional", "conditionalString"):
        return _choice(parts)
    return _applied(FUNCTIONS[node.function].run, parts)


def _normalised(name: str, normal: Callable[[str], str]) -> Evaluator:
    def look(bag: Bag) -> Any:
        value = bag.get(name)
        return None if value is None else normal(value)

    return look


def _entry(node: Call, vocabulary: Vocabulary) -> Evaluator:
    owner, key = node.arguments
    if isinstance(owner, Attribute) and isinstance(key, Literal) and isinstance(key.value, str):
        name, text = owner.name, key.value
        return lambda bag: bag.entry(name, text)
    find_map, find_key = _compile(owner, vocabulary), _compile(key, vocabulary)
    if isinstance(owner, Attribute):
        name = owner.name
        return lambda bag: bag.entry(name, _there(find_key(bag)))

    def look(bag: Bag) -> Any:
        found = find_map(bag)
        return None if found is None else found.get(_there(find_key(bag)))

    return look


def _filled(node: Call, vocabulary: Vocabulary) -> Evaluator:
    """An entry, or an empty text where the map is there without it."""
    owner = node.arguments[0]
    look = _entry(node, vocabulary)
    if isinstance(owner, Attribute):
        name = owner.name

        def is_there(bag: Bag) -> bool:
            return bag.there(name)

    else:
        find_map = _compile(owner, vocabulary)

        def is_there(bag: Bag) -> bool:
            return find_map(bag) is not None

    def filled(bag: Bag) -> Any:
        value = look(bag)
        return "" if value is None and is_there(bag) else value

    return filled


def _there(value: Any) -> Any:
    if value is None:
        raise AbsentError
    return value


def _either(left: Evaluator, right: Evaluator, excused: Excused) -> Evaluator:
    def look(bag: Bag) -> Any:
        try:
            value = left(bag)
        except excused:
            value = None
        return right(bag) if value is None else value

    return look


def _and(left: Evaluator, right: Evaluator) -> Evaluator:
    def look(bag: Bag) -> Any:
        return _there(left(bag)) and _there(right(bag))

    return look


def _or(left: Evaluator, right: Evaluator) -> Evaluator:
    def look(bag: Bag) -> Any:
        return _there(left(bag)) or _there(right(bag))

    return look


def _not(only: Evaluator) -> Evaluator:
    return lambda bag: not _there(only(bag))


def _binary(act: Callable[[Any, Any], Any], left: Evaluator, right: Evaluator) -> Evaluator:
    def look(bag: Bag) -> Any:
        one, other = left(bag), right(bag)
        if one is None or other is None:
            raise AbsentError
        return act(one, other)

    return look


def _choice(parts: list[Evaluator]) -> Evaluator:
    test, yes, no = parts

    def look(bag: Bag) -> Any:
        return _there(yes(bag) if _there(test(bag)) else no(bag))

    return look


def _applied(run: Callable[..., Any], parts: list[Evaluator]) -> Evaluator:
    def look(bag: Bag) -> Any:
        return run(*[_there(part(bag)) for part in parts])

    return look
