"""What limits are called in Envoy's configuration, and what their refusals say."""

from __future__ import annotations

from lateen.envoy.limit_answers import refusal_headers
from lateen.envoy.limit_descriptors import state_of
from lateen.plan.access.model import UrlPath
from lateen.plan.limits.model import BucketKey, Charged, KeyKind, LimitRule
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.values.names import BUILT_IN


def test_a_claim_within_a_claim_is_none_with_a_dot_in_its_name() -> None:
    within, dotted = (BucketKey(KeyKind.CLAIM, path) for path in (("a", "b"), ("a.b",)))
    assert state_of(within) != state_of(dotted)
    assert state_of(BucketKey(KeyKind.PEER)) == "lateen.bucket.peer"


def test_a_client_is_told_to_wait_until_the_least_charge_is_there() -> None:
    dear = Charged(UrlPath(StringMatcher(MatchKind.EXACT, "/dear")), 3)
    rule = LimitRule("name", BUILT_IN, 10, 100.0, 10, charged=(Charged(amount=2), dear))
    told = dict(refusal_headers(rule))
    assert (told["retry-after"], told["x-ratelimit-reset"]) == ("20", "20")
