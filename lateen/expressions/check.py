"""Types: whether an expression can be evaluated, and to what.

Comes in: a tree and a vocabulary. Goes out: the tree as it is evaluated, and its type. Texts that stand where a
duration belongs become durations, so that nothing has to be looked up later.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from lateen.expressions.functions import FUNCTIONS, LITERAL_CHECKS, Signature, Unusable, to_duration
from lateen.expressions.syntax import (
    ADD,
    AND,
    EITHER,
    ENTRIES,
    EQ,
    GE,
    GT,
    LE,
    LT,
    NEQ,
    NOT,
    OR,
    PRECEDENCE,
    Attribute,
    Call,
    Expression,
    ExpressionError,
    Known,
    Literal,
    UnknownAttributeError,
)
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY, ValueType, Vocabulary

ORDERED = frozenset({ValueType.INT64, ValueType.DOUBLE, ValueType.STRING, ValueType.DURATION, ValueType.TIMESTAMP})
ADDED = frozenset({ValueType.INT64, ValueType.DOUBLE, ValueType.STRING})


def check(
    text: str, tree: Expression, vocabulary: Vocabulary = DEFAULT_VOCABULARY, wanted: Iterable[ValueType] = ()
) -> tuple[Expression, ValueType]:
    """The tree with its types settled, and the type of its value, which has to be one of ``wanted`` (none: any).

    Raises ExpressionError.
    """
    checker = _Checker(text, vocabulary)
    found, kind = checker.settle(tree)
    allowed = tuple(wanted)
    if allowed and kind not in allowed:
        if ValueType.DURATION in allowed and kind is ValueType.STRING:
            return checker.as_duration(found), ValueType.DURATION
        names = " or ".join(one.value for one in allowed)
        raise ExpressionError(f"its value is {kind.value}, where {names} is expected", text, 0, "correct it")
    return found, kind


class _Checker:
    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        self._text = text
        self._vocabulary = vocabulary

    def settle(self, node: Expression) -> tuple[Expression, ValueType]:
        if isinstance(node, Literal | Known):
            return node, node.type
        if isinstance(node, Attribute):
            return node, self._attribute(node)
        if node.function in ENTRIES:
            return self._index(node)
        if node.function == NOT:
            (only,) = node.arguments
            settled = self._of(only, ValueType.BOOL, NOT)
            return Call(NOT, (settled,), node.at), ValueType.BOOL
        if node.function in PRECEDENCE:
            return self._operator(node)
        return self._function(node)

    def _attribute(self, node: Attribute) -> ValueType:
        kind = self._vocabulary.type_of(node.name)
        if kind is not None:
            return kind
        remedy = self._vocabulary.remedy_for(node.name)
        raise UnknownAttributeError(f"there is no attribute {node.name}", self._text, node.at, remedy)

    def _index(self, node: Call) -> tuple[Expression, ValueType]:
        owner, key = node.arguments
        settled = self._of(owner, ValueType.STRING_MAP, "what stands before [")
        return Call(node.function, (settled, self._of(key, ValueType.STRING, "a key")), node.at), ValueType.STRING

    def _operator(self, node: Call) -> tuple[Expression, ValueType]:
        function, (left, right) = node.function, node.arguments
        if function in (AND, OR):
            arguments = (self._of(left, ValueType.BOOL, function), self._of(right, ValueType.BOOL, function))
            return Call(function, arguments, node.at), ValueType.BOOL
        (one, kind), (other, second) = self.settle(left), self.settle(right)
        if kind is not second:
            one, other, kind = self._reconciled((one, kind), (other, second), node)
        if function in (LT, LE, GT, GE) and kind not in ORDERED:
            raise self._wrong(f"values of type {kind.value} have no order", node.at, "compare by == or !=")
        if function == ADD and kind not in ADDED:
            raise self._wrong(f"values of type {kind.value} cannot be added", node.at, "add texts or numbers")
        if function in (EQ, NEQ) and kind is ValueType.STRING_MAP:
            raise self._wrong("maps cannot be compared", node.at, 'compare one entry: m["key"]')
        result = kind if function in (ADD, EITHER) else ValueType.BOOL
        return Call(function, (one, other), node.at), result

    def _reconciled(
        self, left: tuple[Expression, ValueType], right: tuple[Expression, ValueType], node: Call
    ) -> tuple[Expression, Expression, ValueType]:
        """Two sides of different types, where one is a text that stands for a duration."""
        kinds = {left[1], right[1]}
        if kinds == {ValueType.DURATION, ValueType.STRING}:
            sides = [self.as_duration(side) if kind is ValueType.STRING else side for side, kind in (left, right)]
            return sides[0], sides[1], ValueType.DURATION
        message = f"{node.function} has {left[1].value} at its left and {right[1].value} at its right"
        raise self._wrong(message, node.at, _cast(left[1], right[1]))

    def as_duration(self, node: Expression) -> Expression:
        """A text that is written down, as the duration that it stands for."""
        if not isinstance(node, Literal) or not isinstance(node.value, str):
            raise self._wrong("a text is not a duration", getattr(node, "at", 0), 'write one down, such as "10ms"')
        try:
            return Known(to_duration(node.value), ValueType.DURATION, node.at)
        except Unusable as problem:
            raise self._wrong(str(problem), node.at, "correct it") from None

    def _function(self, node: Call) -> tuple[Expression, ValueType]:
        signature = FUNCTIONS.get(node.function)
        if signature is None:
            near = difflib.get_close_matches(node.function, FUNCTIONS, n=1)
            remedy = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(FUNCTIONS))}"
            raise self._wrong(f"there is no function {node.function}", node.at, remedy)
        self._check_shape(node, signature)
        settled, result = [], signature.result
        generic: ValueType | None = None
        for wanted, argument in zip(signature.arguments, node.arguments, strict=True):
            if wanted is not None:
                settled.append(self._of(argument, wanted, f"{node.function}()"))
                continue
            found, kind = self.settle(argument)
            if generic is not None and kind is not generic:
                message = f"{node.function}() is given {generic.value} and {kind.value}, where both are the same"
                raise self._wrong(message, node.at, _cast(generic, kind))
            generic = kind
            settled.append(found)
        self._check_literal(node, settled)
        kind = result if result is not None else generic or ValueType.STRING
        return Call(node.function, tuple(settled), node.at, node.method), kind

    def _check_shape(self, node: Call, signature: Signature) -> None:
        example = _example(node.function, signature)
        if node.method and not signature.method:
            raise self._wrong(f"{node.function} is no method", node.at, f"write {example}")
        if signature.method and not node.method:
            raise self._wrong(f"{node.function} is a method", node.at, f"write {example}")
        if len(node.arguments) != len(signature.arguments):
            count = len(signature.arguments) - signature.method
            given = len(node.arguments) - node.method
            raise self._wrong(f"{node.function}() takes {count} arguments, not {given}", node.at, f"write {example}")

    def _check_literal(self, node: Call, settled: list[Expression]) -> None:
        judge = LITERAL_CHECKS.get(node.function)
        first = settled[0] if settled else None
        if judge is None or not isinstance(first, Literal) or not isinstance(first.value, str):
            return
        try:
            judge(first.value)
        except Unusable as problem:
            raise self._wrong(str(problem), first.at, "correct it") from None

    def _of(self, node: Expression, wanted: ValueType, where: str) -> Expression:
        settled, kind = self.settle(node)
        if kind is wanted:
            return settled
        if wanted is ValueType.DURATION and kind is ValueType.STRING:
            return self.as_duration(settled)
        message = f"{where} takes {wanted.value}, not {kind.value}"
        raise self._wrong(message, node.at, _cast(wanted, kind))

    def _wrong(self, message: str, at: int, remedy: str) -> ExpressionError:
        return ExpressionError(message, self._text, at, remedy)


_CASTS = {
    ValueType.IP_ADDRESS: 'ip("...")',
    ValueType.TIMESTAMP: 'timestamp("...")',
    ValueType.DNS_NAME: 'dnsName("...")',
    ValueType.EMAIL_ADDRESS: 'email("...")',
    ValueType.URI: 'uri("...")',
    ValueType.STRING_MAP: 'm["key"] for one of its entries',
}


def _cast(one: ValueType, other: ValueType) -> str:
    wanted = next((kind for kind in (one, other) if kind in _CASTS), None)
    return f"write {_CASTS[wanted]}" if wanted is not None else "give both sides one type"


def _example(name: str, signature: Signature) -> str:
    kinds = [kind.value if kind is not None else "VALUE" for kind in signature.arguments]
    if signature.method:
        return f"{kinds[0]}.{name}({', '.join(kinds[1:])})"
    return f"{name}({', '.join(kinds)})"
