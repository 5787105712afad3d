"""Which limits count a request, and how much it takes."""

from __future__ import annotations

from lateen.explain.facts import Facts
from lateen.explain.limits import told
from lateen.explain.request import Request
from lateen.plan.access.model import All, Header
from lateen.plan.limits.model import BucketKey, Charged, KeyKind, LimitRule
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.names import BUILT_IN

ONE = BucketKey(KeyKind.HEADER, ("x-a",), "none")


def sentences(*headers: tuple[str, str]) -> list[str]:
    both = Header("x-a", StringMatcher(MatchKind.EXACT, "a,b"))
    charged = (Charged(both, 2), Charged(All((both, Header("x-b", StringMatcher(MatchKind.PRESENT)))), 3))
    rule = LimitRule("name", BUILT_IN, 7, 60.0, 7, keys=(ONE, BucketKey(KeyKind.HEADER, ("x-a",))), charged=charged)
    return told([rule], Facts(request=Request("h", "/", "", headers)))


def test_a_header_that_comes_twice_is_looked_at_whole_and_amounts_are_added() -> None:
    assert sentences(("x-a", "a")) == []
    twice = (("x-a", "a"), ("x-a", "b"))
    assert sentences(*twice)[0].startswith("limit name counts it as 2: 7 in 60 s for each header x-a, by this proxy ")
    assert sentences(*twice, ("x-b", ""))[0].startswith("limit name counts it as 5: ")
