"""What is left of an expression where some attributes are known beforehand.

Comes in: a settled tree, and values of attributes (None: known to be absent). Goes out: a tree that is worth the same,
for every bag in which those attributes have those values. A part that must fail is left as it is.
"""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Mapping
from typing import Any

from lateen.expressions.evaluate import AbsentError, MapBag, compile_expression
from lateen.expressions.functions import Unusable
from lateen.expressions.syntax import (
    AND,
    EITHER,
    ENTRIES,
    INDEX,
    OR,
    RESCUE,
    Attribute,
    Call,
    Expression,
    Known,
    Literal,
)
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY, ValueType, Vocabulary

_NOTHING = MapBag({})
_TYPES: Mapping[type, ValueType] = {
    bool: ValueType.BOOL,
    str: ValueType.STRING,
    int: ValueType.INT64,
    float: ValueType.DOUBLE,
    datetime.datetime: ValueType.TIMESTAMP,
    datetime.timedelta: ValueType.DURATION,
    ipaddress.IPv4Address: ValueType.IP_ADDRESS,
    ipaddress.IPv6Address: ValueType.IP_ADDRESS,
}


def partial(tree: Expression, known: Mapping[str, Any], vocabulary: Vocabulary = DEFAULT_VOCABULARY) -> Expression:
    """The tree with everything worked out that can be."""
    if isinstance(tree, Literal | Known):
        return tree
    if isinstance(tree, Attribute):
        if tree.name not in known:
            return tree
        return _constant(known[tree.name], vocabulary.type_of(tree.name) or ValueType.STRING, tree.at)
    found = Call(
        tree.function, tuple(partial(part, known, vocabulary) for part in tree.arguments), tree.at, tree.method
    )
    return _folded(found)


def _folded(call: Call) -> Expression:
    arguments = call.arguments
    if call.function in (AND, OR):
        return _decided(call, stops=call.function == OR)
    if call.function in (EITHER, RESCUE):
        left, right = arguments
        if isinstance(left, Literal) and left.value is None:
            return right
        return left if isinstance(left, Literal | Known) else call
    if call.function in ("conditional", "conditionalString") and isinstance(arguments[0], Literal):
        chosen = {True: arguments[1], False: arguments[2]}.get(arguments[0].value is True)
        return chosen if arguments[0].value is not None and chosen is not None else call
    if not all(isinstance(argument, Literal | Known) for argument in arguments):
        return call
    return _computed(call)


def _decided(call: Call, *, stops: bool) -> Expression:
    """``&&`` and ``||``: what the left side decides, and what the right side adds nothing to."""
    left, right = call.arguments
    if isinstance(left, Literal) and left.value is not None:
        return Literal(stops, ValueType.BOOL, call.at) if left.value is stops else _truth(right, call)
    if isinstance(right, Literal) and right.value is (not stops):
        return _truth(left, call)
    return call


def _truth(side: Expression, call: Call) -> Expression:
    """A side as the whole. What may be absent stays within its operator, where its absence goes on being a failure."""
    if isinstance(side, Call) and side.function not in (EITHER, RESCUE, INDEX):
        return side
    return side if isinstance(side, Literal) and side.value is not None else call


def _computed(call: Call) -> Expression:
    if any(isinstance(argument, Literal) and argument.value is None for argument in call.arguments):
        if call.function in ENTRIES and call.arguments[0] == Literal(None, ValueType.STRING_MAP, call.arguments[0].at):
            return Literal(None, ValueType.STRING, call.at)
        return call
    try:
        value = compile_expression(call)(_NOTHING)
    except AbsentError:
        return Literal(None, ValueType.STRING, call.at) if call.function == INDEX else call
    except Unusable:
        return call
    kind = ValueType.STRING_MAP if isinstance(value, Mapping) else _TYPES[type(value)]
    return _constant(value, kind, call.at)


def _constant(value: Any, kind: ValueType, at: int) -> Expression:
    if value is None or isinstance(value, str | int | float | bool):
        return Literal(value, kind, at)
    return Known(value, kind, at)


def cannot_hold(tree: Expression) -> bool:
    """Whether what is left of a condition can never be true, as something that is known to be absent keeps it from
    being evaluated."""
    if not isinstance(tree, Call):
        return isinstance(tree, Literal) and tree.value is not True
    if tree.function == AND:
        return any(cannot_hold(part) for part in tree.arguments)
    if tree.function == OR:
        return all(cannot_hold(part) for part in tree.arguments)
    if tree.function in (EITHER, RESCUE):
        return False
    return any(isinstance(part, Literal) and part.value is None for part in tree.arguments)


def must_fail(tree: Expression) -> bool:
    """Whether what is left of an expression can never be evaluated, for the same reason."""
    if not isinstance(tree, Call):
        return isinstance(tree, Literal) and tree.value is None
    if tree.function in (EITHER, RESCUE):
        return all(must_fail(part) for part in tree.arguments)
    if tree.function in (AND, OR, "conditional", "conditionalString"):
        return must_fail(tree.arguments[0])
    return any(must_fail(part) for part in tree.arguments)
