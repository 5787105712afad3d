"""The tree of an expression, and the errors that tell where in its text something is wrong.

Operators are functions here, under the names of ``OPERATORS``. ``at`` is an offset into the text, for messages alone.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Iterator, Mapping

import msgspec

from lateen.expressions.vocabulary import ValueType

IpAddress = ipaddress.IPv4Address | ipaddress.IPv6Address
Value = str | int | float | bool | datetime.datetime | datetime.timedelta | IpAddress | Mapping[str, str]
"""A value that is there. An attribute that is not there has None."""

EITHER, RESCUE, EQ, NEQ, LT, LE, GT, GE, AND, OR, NOT, ADD, INDEX, FILLED = (
    "|", "|!", "==", "!=", "<", "<=", ">", ">=", "&&", "||", "!", "+", "[]", "[]!",
)  # fmt: skip
ENTRIES = (INDEX, FILLED)
PRECEDENCE: Mapping[str, int] = {
    OR: 1, AND: 2, EQ: 3, NEQ: 3, LT: 3, LE: 3, GT: 3, GE: 3, ADD: 4, EITHER: 4, RESCUE: 4,
}  # fmt: skip
"""Of the binary operators; the higher binds tighter. As in Go, ``|`` binds as ``+`` does. ``|!``, which cannot be
written, is ``|`` for which a left side counts as absent whatever it fails by. ``[]!``, which is written as ``[]`` too,
is an entry that is empty where a map that is there lacks it."""


class ExpressionError(ValueError):
    """What is wrong in an expression, with ``line`` and ``column`` (both from 1), and ``remedy``: what to write."""

    def __init__(self, message: str, text: str, at: int, remedy: str = "") -> None:
        before = text[:at]
        self.line = before.count("\n") + 1
        self.column = at - (before.rfind("\n") + 1) + 1
        self.message = message
        self.remedy = remedy
        super().__init__(f"{self.line}:{self.column}: {message}")


class UnknownAttributeError(ExpressionError):
    """An attribute that is not in the vocabulary, which manifests may add to."""


class Literal(msgspec.Struct, frozen=True, tag=True, tag_field="node"):
    """A value that is written down, or is known beforehand; None: an attribute that is known to be absent."""

    value: str | int | float | bool | None
    type: ValueType
    at: int = 0


class Known(msgspec.Struct, frozen=True, tag=True, tag_field="node"):
    """A value of a type that cannot be written down, which is known beforehand."""

    value: datetime.datetime | datetime.timedelta | IpAddress | Mapping[str, str]
    type: ValueType
    at: int = 0


class Attribute(msgspec.Struct, frozen=True, tag=True, tag_field="node"):
    """The value of an attribute."""

    name: str
    at: int = 0


class Call(msgspec.Struct, frozen=True, tag=True, tag_field="node"):
    """A function of some arguments; a method's receiver is its first one (``method``: it is written so)."""

    function: str
    arguments: tuple[Expression, ...]
    at: int = 0
    method: bool = False


Expression = Literal | Known | Attribute | Call


def attributes_of(expression: Expression) -> Iterator[tuple[str, str | None]]:
    """Every attribute that is named, with the key where one entry of a map is meant by a literal key."""
    if isinstance(expression, Attribute):
        yield expression.name, None
    elif isinstance(expression, Call):
        if expression.function in ENTRIES:
            owner, key = expression.arguments
            if isinstance(owner, Attribute) and isinstance(key, Literal):
                yield owner.name, str(key.value)
                return
        for argument in expression.arguments:
            yield from attributes_of(argument)


HIGHEST = 200
"""How many operators and functions may stand within one another; ``a + b + c`` counts as two."""


def is_too_high(expression: Expression) -> bool:
    """Whether a tree is higher than what works on trees can climb. What a tree has several times is looked at once."""
    level = [expression]
    for _ in range(HIGHEST + 1):
        parts = [part for node in level if isinstance(node, Call) for part in node.arguments]
        level = list({id(part): part for part in parts}.values())
        if not level:
            return False
    return True


def size_of(expression: Expression) -> int:
    """How many nodes a tree has that is not too high; a part that it has several times counts as often."""
    known: dict[int, int] = {}

    def size(node: Expression) -> int:
        if not isinstance(node, Call):
            return 1
        found = known.get(id(node))
        if found is None:
            found = known[id(node)] = 1 + sum(size(part) for part in node.arguments)
        return found

    return size(expression)
