"""Conditions as Envoy's expressions: none that it would refuse is written."""

from __future__ import annotations

import pytest

from lateen.plan.access.model import All, AnyOf, Condition, Header, Not
from lateen.plan.cel import Inexpressible, expression
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.expression import find_syntax_error


def nested(levels: int) -> Condition:
    condition: Condition = Header("a", StringMatcher(MatchKind.EXACT, "\U0001f600"))
    for level in range(levels):
        condition = (AnyOf if level % 2 else All)((Not(condition), Header("b", StringMatcher(MatchKind.PRESENT))))
    return condition


def test_conditions_that_envoy_takes() -> None:
    text = expression(nested(10))
    assert find_syntax_error(f"{text} && has(upstream.address) ? 'a' : ''") == ""


def test_conditions_that_are_nested_too_deep() -> None:
    with pytest.raises(Inexpressible, match="deeper"):
        expression(nested(20))
