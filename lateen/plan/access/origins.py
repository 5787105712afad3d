"""What Policies of the first generation ask of tokens, as rules that refuse.

Comes in: ``TokenDemand``s of one workload. Goes out: access rules. A request is refused with 401 where an origin asks
for a token at its path, and none of those that ask there has found a good one. Which tokens are good, the filter for
tokens says (``token_rules``). Rules hold at once, and filters of open connections stay until they have drained, so both
name an origin by what it says: by its place, a token of another would meet it meanwhile.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator

import msgspec

from lateen.mesh.model import TokenDemand
from lateen.plan.access.model import (
    ORIGIN_RULE,
    TOKEN_FILTER,
    AccessRule,
    All,
    AnyOf,
    Condition,
    DestinationPort,
    Metadata,
    Not,
    UrlPath,
)
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.resources.legacy_authentication import OriginJwt, PathMatch, TriggerRule

_PRESENT = StringMatcher(MatchKind.PRESENT)
_EVERYWHERE = All()


def origins_of(demand: TokenDemand) -> Iterator[tuple[int, OriginJwt]]:
    """The origins of a Policy, with their places in it."""
    for index, origin in enumerate(demand.policy.spec.origins):
        if origin.jwt is not None:
            yield index, origin.jwt


def origin_name(jwt: OriginJwt) -> str:
    """The provider of an origin: the same for the same tokens."""
    text = msgspec.json.encode(msgspec.structs.replace(jwt, trigger_rules=()), order="deterministic")
    return f"origins-{hashlib.sha256(text).hexdigest()[:16]}"


def origin_rules(demands: Iterable[TokenDemand]) -> Iterator[AccessRule]:
    """A rule for each Policy that does not leave tokens optional."""
    for demand in demands:
        asking: list[Condition] = []
        met: list[Condition] = []
        for _, jwt in origins_of(demand):
            asks = _asks(jwt.trigger_rules)
            asking.append(asks)
            met.append(_both(asks, Metadata(TOKEN_FILTER, (origin_name(jwt), "alg"), (_PRESENT,))))
        if demand.policy.spec.origin_is_optional:
            continue
        anywhere = _EVERYWHERE if _EVERYWHERE in asking else AnyOf(tuple(asking))
        ports = AnyOf(tuple(DestinationPort(port) for port in demand.ports)) if demand.ports else _EVERYWHERE
        name = f"{ORIGIN_RULE}ns[{demand.namespace}]-policy[{demand.policy.key.name}-{demand.service}]"
        origin = demand.policy.origin_at("spec.origins")
        yield AccessRule(name, _both(anywhere, Not(AnyOf(tuple(met)))), ports, origin)


def _both(first: Condition, second: Condition) -> Condition:
    return second if first == _EVERYWHERE else All((first, second))


def _asks(triggers: Iterable[TriggerRule]) -> Condition:
    """At which paths a token is asked for: at all of them, where nothing is said."""
    found = [_at(trigger) for trigger in triggers]
    return _EVERYWHERE if not found or _EVERYWHERE in found else AnyOf(tuple(found))


def _at(trigger: TriggerRule) -> Condition:
    terms: list[Condition] = []
    if trigger.included_paths:
        terms.append(AnyOf(tuple(map(_path, trigger.included_paths))))
    if trigger.excluded_paths:
        terms.append(Not(AnyOf(tuple(map(_path, trigger.excluded_paths)))))
    return terms[0] if len(terms) == 1 else All(tuple(terms))


def _path(match: PathMatch) -> Condition:
    kinds = (
        (MatchKind.EXACT, match.exact),
        (MatchKind.PREFIX, match.prefix),
        (MatchKind.SUFFIX, match.suffix),
        (MatchKind.REGEX, match.regex),
    )
    return next(UrlPath(StringMatcher(kind, text)) for kind, text in kinds if text is not None)
