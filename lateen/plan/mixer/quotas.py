"""Quotas of Mixer that a proxy counts by itself, where their handler says that proxies do.

Comes in: a rule, the quota that it counts, what is left of its match, and the charges for what arrives here. Goes out:
limits and denials; ``Beyond`` says why there are none.

A proxy counts by buckets, which fill evenly, and the mixer by windows: so it is not done unasked. A bucket lets through
``maxAmount`` at once and as much again in each ``validDuration``; each port of each proxy has its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from lateen.expressions.partial import partial
from lateen.expressions.syntax import Attribute, Expression, Known, Literal
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer.charges import limit_for
from lateen.mesh.mixer.model import Action, Charge, Clause, Instance, Rule
from lateen.plan.access.model import AnyOf, Condition
from lateen.plan.cel import Inexpressible, expression
from lateen.plan.limits.model import BucketKey, Charged, KeyKind, LimitRule
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.mixer.compile import (
    ALWAYS,
    NEVER,
    Beyond,
    TextSource,
    bases,
    both,
    either,
    matched,
    negated,
    pattern_of,
    text_conditions,
    within_bounds,
)
from lateen.plan.mixer.denials import denial
from lateen.plan.mixer.model import MixerDenial
from lateen.resources.mixer.adapters import NEEDS_ABSENT, MemquotaLimit, MemquotaParams
from lateen.values.network import is_read_header
from lateen.values.rpc_code import INVALID_ARGUMENT, RESOURCE_EXHAUSTED, http_status, refusal_text

NAMED = "mixer:"
"""What names of such limits begin with."""
MOST_OVERRIDES = 8
MOST_CONDITIONS = 1000
"""In all of what a quota is charged, each override with all of it."""
SHORTEST_S, LONGEST_S = 0.05, 2**33
LARGEST = 2**32 - 1
LARGEST_CHARGE = 10**9
_KINDS = {":authority": KeyKind.HOST, ":method": KeyKind.METHOD}


class Quota(NamedTuple):
    """What a proxy does about one: it refuses requests without what the quota is counted by, and counts the others."""

    limits: tuple[LimitRule, ...]
    denials: tuple[MixerDenial, ...]


class _Window(NamedTuple):
    condition: Condition
    most: int
    length: float


def counted_here(
    rule: Rule,
    action: Action,
    instance: Instance,
    match: Expression | bool,
    known: Mapping[str, Any],
    vocabulary: Vocabulary,
    charges: Iterable[Charge],
) -> Quota:
    """``charges``: those of this quota that are for what arrives here. Raises Beyond."""
    params = action.handler.params
    limit = limit_for(params, instance.name) if isinstance(params, MemquotaParams) else None
    if not isinstance(limit, MemquotaLimit):
        raise Beyond(f"{action.handler.name} has no limit for it")
    dimensions = {field.way[1]: partial(field.tree, known, vocabulary) for field in instance.fields}
    where = matched(match)
    held = [
        Charged(within_bounds(both(where, _clauses(charge, known, vocabulary))), charge.amount) for charge in charges
    ]
    charged = [one for one in held if one.amount]
    if any(one.amount > LARGEST_CHARGE for one in charged):
        raise Beyond(f"a proxy takes at most {LARGEST_CHARGE} at once")
    windows = [
        (number, window)
        for number, window in enumerate(_windows(limit, dimensions))
        if charged and window.condition != NEVER
    ]
    conditions = [both(one.condition, window.condition) for _, window in windows for one in charged]
    within_bounds(AnyOf(tuple(conditions)), MOST_CONDITIONS)
    name = f"{NAMED}{rule.name}.{rule.namespace}/{instance.name}"
    body = refusal_text(RESOURCE_EXHAUSTED, f"Quota is exhausted for: {instance.name.partition('.')[0]}")
    keys = tuple(dict.fromkeys(key for tree in dimensions.values() for key in _keys(tree)))
    limits = [
        LimitRule(
            name=f"{name}/{number}" if number else name,
            origin=rule.origin,
            requests=window.most,
            interval=window.length,
            burst=window.most,
            keys=keys,
            charged=tuple(_expressible(both(one.condition, window.condition), one.amount) for one in charged),
            status=http_status(RESOURCE_EXHAUSTED),
            body=body,
        )
        for number, window in windows
    ]
    absent = either([text_conditions(tree, lambda _: NEVER)[1] for tree in _texts(dimensions.values())])
    lacking = within_bounds(both(either([one.condition for one in held]), absent))
    message = f"{action.handler.name}:{instance.name}: {NEEDS_ABSENT}"
    refused = denial(f"{rule.name}.{rule.namespace}", INVALID_ARGUMENT, message, lacking, rule)
    return Quota(tuple(limits), () if lacking == NEVER else (refused,))


def _expressible(condition: Condition, amount: int) -> Charged:
    try:
        expression(within_bounds(condition))
    except Inexpressible as problem:
        raise Beyond(str(problem)) from None
    return Charged(condition, amount)


# --- what is charged -------------------------------------------------------------------------------------------------


def _clauses(charge: Charge, known: Mapping[str, Any], vocabulary: Vocabulary) -> Condition:
    """When a request is charged. An attribute that is absent meets nothing."""
    if not charge.clauses:
        return ALWAYS
    found = []
    for clauses in charge.clauses:
        holding: Condition = ALWAYS
        for clause in clauses:
            holding = both(holding, _met(clause, partial(Attribute(clause.attribute), known, vocabulary)))
        found.append(holding)
    return either(found)


def _met(clause: Clause, tree: Expression) -> Condition:
    meets = clause.test()
    if isinstance(tree, Literal) and isinstance(tree.value, int) and not isinstance(tree.value, bool):
        return ALWAYS if meets(str(tree.value)) else NEVER

    def test(base: str | TextSource) -> Condition:
        if isinstance(base, str):
            return ALWAYS if meets(base) else NEVER
        if clause.kind == "regex":
            return base.where(pattern_of(clause.text))
        return base.where(StringMatcher(MatchKind(clause.kind), clause.text))

    return text_conditions(tree, test)[0]


# --- by what it is counted -------------------------------------------------------------------------------------------


def _is_address(tree: Expression) -> bool:
    return isinstance(tree, Attribute) and tree.name == "source.ip"


def _texts(trees: Iterable[Expression]) -> list[Expression]:
    """Those that may be absent, or differ from one request to another."""
    return [tree for tree in trees if not _is_address(tree) and not _is_other_constant(tree)]


def _is_other_constant(tree: Expression) -> bool:
    """Whether it is the same for all requests, and no text."""
    return isinstance(tree, Known) or (isinstance(tree, Literal) and not isinstance(tree.value, str | None))


def _keys(tree: Expression) -> list[BucketKey]:
    """What tells one value of a dimension from another. Raises Beyond."""
    if _is_address(tree):
        return [BucketKey(KeyKind.DIRECT_ADDRESS)]
    if _is_other_constant(tree):
        return []
    texts = bases(tree)
    default = next((base for base in texts if isinstance(base, str)), None)
    found = [_key(base, default) for base in texts if isinstance(base, TextSource)]
    if len(found) > 1:
        raise Beyond("it is counted by the first of several parts of a request")
    return found


def _key(source: TextSource, default: str | None) -> BucketKey:
    if source.kind == "path":
        return BucketKey(KeyKind.PATH)
    if source.kind == "principal":
        return BucketKey(KeyKind.PEER)
    if source.kind != "header":
        raise Beyond("it is counted by a part of the client's name")
    if not is_read_header(source.name):
        raise Beyond("it is counted by a header that there cannot be")
    if source.name in _KINDS:
        return BucketKey(_KINDS[source.name])
    return BucketKey(KeyKind.HEADER, (source.name,), default)


# --- how much there is -----------------------------------------------------------------------------------------------


def _windows(limit: MemquotaLimit, dimensions: Mapping[str, Expression]) -> Sequence[_Window]:
    """The limit itself, for requests that no override fits, and each override for those that none before it fits."""
    if len(limit.overrides) > MOST_OVERRIDES:
        raise Beyond(f"there are more than {MOST_OVERRIDES} overrides")
    found: list[_Window] = []
    before: list[Condition] = []
    for override in limit.overrides:
        fits: Condition = ALWAYS
        for name, value in override.dimensions.items():
            fits = both(fits, _equal(dimensions[name], value) if name in dimensions else NEVER)
        length = override.valid_duration or limit.valid_duration
        found.append(_window(both(fits, negated(either(before))), override.max_amount, length))
        before.append(fits)
    return [_window(negated(either(before)), limit.max_amount, limit.valid_duration), *found]


def _window(condition: Condition, most: int, length: float | None) -> _Window:
    if not length:
        raise Beyond("nothing of it comes back, which a proxy would forget")
    if not SHORTEST_S <= length <= LONGEST_S or most > LARGEST:
        raise Beyond(f"a proxy counts {SHORTEST_S:g} to {LONGEST_S} s, and up to {LARGEST}")
    return _Window(condition, most, float(length))


def _equal(tree: Expression, value: str) -> Condition:
    if _is_address(tree) or _is_other_constant(tree):
        raise Beyond("an override is for what is no text")

    def test(base: str | TextSource) -> Condition:
        if isinstance(base, str):
            return ALWAYS if base == value else NEVER
        return base.where(StringMatcher(MatchKind.EXACT, value))

    return text_conditions(tree, test)[0]
