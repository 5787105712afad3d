"""Sampling of reports: the share that is taken, by whom it is drawn, and the limit of a while."""

from __future__ import annotations

from typing import Any

import pytest

from lateen.expressions.evaluate import MapBag
from lateen.expressions.parse import parse
from lateen.expressions.vocabulary import DEFAULT_VOCABULARY
from lateen.mesh.mixer.model import Sampling
from lateen.mixer.sampling import Sampler


def bags(count: int, **more: Any) -> list[MapBag]:
    return [MapBag({"request.headers": {"x-request-id": f"id-{index}"}, **more}) for index in range(count)]


def sampler(**said: Any) -> Sampler:
    return Sampler(Sampling(**said), DEFAULT_VOCABULARY)


@pytest.mark.parametrize(("share", "least", "most"), [(0.0, 0, 0), (0.25, 400, 600), (1.0, 2000, 2000)])
def test_a_share_is_taken_and_all_proxies_take_the_same(share: float, least: int, most: int) -> None:
    one, other = sampler(share=share), sampler(share=share)
    taken = [one.takes(bag) for bag in bags(2000)]
    assert least <= sum(taken) <= most
    assert taken == [other.takes(bag) for bag in bags(2000)]


def test_chance_draws_where_told_and_where_there_is_no_id() -> None:
    chances = iter([0.1, 0.9, 0.1])
    drawn = Sampler(Sampling(share=0.5, independent=True), DEFAULT_VOCABULARY, chance=lambda: next(chances))
    assert [drawn.takes(bag) for bag in bags(2)] == [True, False]
    without = Sampler(Sampling(share=0.5), DEFAULT_VOCABULARY, chance=lambda: next(chances))
    assert without.takes(MapBag({"request.headers": {}}))


def test_an_attribute_may_say_the_share() -> None:
    said = sampler(share=1.0, numerator=parse("request.size"), denominator=10_000)
    assert all(said.takes(bag) for bag in bags(50, **{"request.size": 10_000}))
    assert not any(said.takes(bag) for bag in bags(50, **{"request.size": 0}))
    assert not any(said.takes(bag) for bag in bags(50))


def test_the_first_of_a_while_are_taken_and_then_one_of_so_many() -> None:
    now = 0.0
    said = Sampler(Sampling(window=10.0, most=2, rate=3), DEFAULT_VOCABULARY, clock=lambda: now)
    (bag,) = bags(1)
    assert [said.takes(bag) for _ in range(8)] == [True, True, False, False, True, False, False, True]
    now = 10.0
    assert [said.takes(bag) for _ in range(3)] == [True, True, False]
