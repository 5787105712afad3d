"""Property tests: the short form makes the same examples every time, and has the time to tell what it found."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, is_hypothesis_test, settings, strategies as st

from tests.properties.length import examples, is_long
from tests.properties.smaller import smallest

SHRINKING_S = 300
MADE: list[list[int]] = []


@given(st.integers())
@examples(10, 10)
def made(number: int) -> None:
    MADE[-1].append(number)


@given(st.booleans())
def test_one_of_them(_: bool) -> None:
    assert settings.default is not None
    assert settings.default.derandomize is not is_long()


def test_the_short_form_leaves_nothing_to_chance() -> None:
    for _ in range(2):
        MADE.append([])
        made()
    assert (MADE[-2] == MADE[-1]) is not is_long()


def test_what_is_found_is_made_small_before_a_test_is_given_up(request: pytest.FixtureRequest) -> None:
    found = [one for one in request.session.items if is_hypothesis_test(getattr(one, "function", None))]
    given_up = [one.get_closest_marker("timeout") for one in found]
    assert given_up
    assert all(mark is not None and mark.args[0] > SHRINKING_S for mark in given_up)


def test_what_has_nothing_to_do_with_it_is_left_out() -> None:
    wrong = {"kind": "A", "metadata": {"name": "a"}, "spec": {"x": [1, {"bad": 2, "good": 3}], "y": 4}}
    least = smallest([{"kind": "B", "spec": {}}, wrong], lambda left: '"bad"' in json.dumps(left))
    assert least == [{"kind": "A", "metadata": {"name": "a"}, "spec": {"x": [{"bad": 2}]}}]
