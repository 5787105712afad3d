"""CEL's ``&&`` and ``||`` in Mixer's: a side that fails does no harm where the other one decides.

Comes in: a tree whose operators mean what CEL means. Goes out: one whose operators mean what they mean here, where an
absent side is the whole's failure.
"""

from __future__ import annotations

from lateen.expressions.syntax import ADD, AND, EITHER, OR, RESCUE, Attribute, Call, Expression, Literal
from lateen.expressions.vocabulary import ValueType


def joined(tree: Expression, *, lenient: bool, largest: int) -> Expression | None:
    """The tree. ``lenient``: its failure means false. None: it would have more than ``largest`` nodes.

    ``a || b || c`` becomes ``(a|false) || (b|false) || (c|false) || (a || b || c)``: the last part fails, or is
    false, as the whole does when none of them is true. Where failure means false, it is left out. ``&&`` likewise;
    where failure means false, it stays as it stands.
    """
    found, size = _Joiner(largest).of(tree, lenient)
    return found if size <= largest else None


class _Joiner:
    def __init__(self, largest: int) -> None:
        self._largest = largest

    def of(self, tree: Expression, lenient: bool) -> tuple[Expression, int]:
        """The tree and how many nodes it has; it is not whole once these are too many."""
        if not isinstance(tree, Call):
            return tree, 1
        if tree.function not in (AND, OR):
            parts = [self.of(part, False) for part in tree.arguments]
            found = Call(tree.function, tuple(part for part, _ in parts), tree.at, tree.method)
            return found, 1 + sum(size for _, size in parts)
        operands = [self.of(side, lenient) for side in _sides(tree, tree.function)]
        size = sum(size for _, size in operands)
        if size > self._largest:
            return tree, size
        sides = [side for side, _ in operands]
        plain = _chain(tree.function, sides, tree.at)
        if (tree.function == AND and lenient) or not any(_may_fail(side) for side in sides):
            return plain, 2 * size
        absent = Literal(tree.function == AND, ValueType.BOOL, tree.at)
        safe = [Call(RESCUE, (side, absent), tree.at) if _may_fail(side) else side for side in sides]
        if lenient:
            return _chain(OR, safe, tree.at), 3 * size
        return _chain(tree.function, [*safe, plain], tree.at), 4 * size


def _sides(tree: Expression, operator: str) -> list[Expression]:
    if isinstance(tree, Call) and tree.function == operator:
        return [*_sides(tree.arguments[0], operator), *_sides(tree.arguments[1], operator)]
    return [tree]


def _chain(operator: str, sides: list[Expression], at: int) -> Expression:
    found = sides[0]
    for side in sides[1:]:
        found = Call(operator, (found, side), at)
    return found


def _may_fail(tree: Expression) -> bool:
    """Whether something that is absent, or of no use, may make it fail."""
    if isinstance(tree, Attribute):
        return True
    if not isinstance(tree, Call):
        return False
    if tree.function in (EITHER, RESCUE):
        return _may_fail(tree.arguments[1])
    return tree.function == ADD or any(_may_fail(part) for part in tree.arguments)
