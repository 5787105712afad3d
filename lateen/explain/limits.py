"""Which limits count a request, in terms of the RateLimits that say so.

Comes in: the limits of a chain as they are planned, and what is known of a request. Goes out: sentences with the file
and line of each rule. How full a bucket is, nobody knows but the proxy.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import re2
from msgspec.structs import replace

from lateen.explain.access import holds, text_holds
from lateen.explain.facts import Facts
from lateen.plan.limits.model import BucketKey, Counted, KeyKind, LimitRule, PathTemplate
from lateen.plan.matching import HeaderMatcher, MatchKind, StringMatcher

_KEYS = {
    KeyKind.PEER: "client",
    KeyKind.DIRECT_ADDRESS: "address of a connection",
    KeyKind.REMOTE_ADDRESS: "address of a client",
}


def counts(counted: Counted, facts: Facts) -> bool:
    """Whether a request is counted."""
    request = facts.request
    if request is None:
        return False
    own = request.joined
    return (
        (not counted.methods or own.get(":method") in counted.methods)
        and (not counted.hosts or any(text_holds(match, request.authority) for match in counted.hosts))
        and (not counted.paths or any(_path_holds(path, request.path) for path in counted.paths))
        and (not counted.ports or facts.port in counted.ports)
        and all(_header_holds(header, own.get(header.name)) for header in counted.headers)
    )


def taken(rule: LimitRule, facts: Facts) -> int:
    """How much a request takes from its bucket."""
    if facts.request is None or not counts(rule.counted, facts):
        return 0
    headers = tuple(facts.request.joined.items())
    seen = replace(facts, request=replace(facts.request, headers=headers))
    return sum(charge.amount for charge in rule.charged if holds(charge.condition, seen))


def _path_holds(match: StringMatcher | PathTemplate, path: str) -> bool:
    if isinstance(match, StringMatcher):
        return text_holds(match, path)
    pattern = ".*".join("[^/]+".join(map(re2.escape, part.split("{*}"))) for part in match.text.split("{**}"))
    return re2.fullmatch(pattern, path) is not None


def _header_holds(header: HeaderMatcher, value: str | None) -> bool:
    return value is not None and (header.match.kind is MatchKind.PRESENT or text_holds(header.match, value))


def told(rules: Sequence[LimitRule], facts: Facts) -> list[str]:
    """A sentence for each limit that counts the request, in the order in which they do."""
    found = [(rule, taken(rule, facts)) for rule in rules]
    return [f"limit {rule.name} counts it{_as(much)}: {_limit(rule)} ({rule.origin})" for rule, much in found if much]


def _as(much: int) -> str:
    return f" as {much}" if much > 1 else ""


def refusal(rules: Iterable[LimitRule], name: str) -> list[str]:
    """The limit of this name, which refused a request; one stands in the rules of each port."""
    rule = next((rule for rule in rules if rule.name == name), None)
    return [] if rule is None else [f"limit {rule.name} refuses it: {_limit(rule)} ({rule.origin})"]


def _limit(rule: LimitRule) -> str:
    burst = f", {rule.burst} at once" if rule.burst != rule.requests else ""
    keys = f" for each {' and '.join(dict.fromkeys(map(_key, rule.keys)))}" if rule.keys else ""
    proxies = "all proxies together" if rule.shared else "this proxy alone"
    trial = ", on trial" if rule.on_trial else ""
    return f"{rule.requests} in {rule.interval:g} s{burst}{keys}, by {proxies}{trial}"


def _key(key: BucketKey) -> str:
    if key.kind is KeyKind.HEADER:
        return f"header {key.path[0]}"
    if key.kind is KeyKind.CLAIM:
        return f"claim {'.'.join(key.path)}"
    return _KEYS.get(key.kind) or str(key.kind.value)
