"""What a proxy decides of expressions, and where it stops."""

from __future__ import annotations

import pytest

from lateen.expressions.check import check
from lateen.expressions.language import CEL, CEXL, parse_as
from lateen.plan.access.model import All, AnyOf, Condition, Header
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.mixer.compile import NEVER, Beyond, holds


def condition(text: str, language: str = CEXL) -> Condition:
    return holds(check(text, parse_as(language, text, match=True))[0])


def nested(part: str, times: int) -> str:
    text = part
    for number in range(times):
        text = f"({text} {'||' if number % 2 else '&&'} {part.replace('@', str(number))})"
    return text


@pytest.mark.timeout(5)
def test_conditions_within_one_another_are_worked_out_once() -> None:
    assert condition(nested('context.protocol == "tcp"', 45)) == NEVER
    with pytest.raises(Beyond, match="more than 64 conditions"):
        condition(nested('request.path == "/@"', 45))


def test_what_may_fail_in_cel_is_still_decided_in_the_proxy() -> None:
    found = condition("request.headers['a'] == 'x' || request.headers['b'] == 'y'", CEL)
    assert isinstance(found, AnyOf)
    for part, (name, value) in zip(found.terms, (("a", "x"), ("b", "y")), strict=True):
        assert isinstance(part, All)
        assert Header(name, StringMatcher(MatchKind.EXACT, value)) in part.terms


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("a{200}", "too large for Envoy"),
        (r"\\x{10000}", "does not read its pattern"),
        (r"\\pL{30}", "too large for Envoy"),
    ],
)
def test_a_pattern_that_envoy_would_not_take_is_for_the_mixer(pattern: str, reason: str) -> None:
    with pytest.raises(Beyond, match=reason):
        condition(f'"{pattern}".matches(request.path)')
    assert condition('"a{20}".matches(request.path)')
    assert condition(f'source.namespace == "{"a" * 60}"')
    with pytest.raises(Beyond, match="too large for Envoy"):
        condition(f'source.namespace == "{"a" * 90}"')
