"""What rules of Mixer refuse that a proxy can refuse by itself: deniers, lists that are all written down, roles.

Comes in: an action of a rule, and what is left of the rule's match. Goes out: denials; ``Beyond`` says why there are
none.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any

from lateen.expressions.partial import partial
from lateen.expressions.syntax import Attribute, Expression
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer.model import Action, Instance, MixerRules, Rule
from lateen.plan.access.model import Condition, DirectAddress, Not
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.mixer.compile import (
    ALWAYS,
    NEVER,
    Beyond,
    TextSource,
    anywhere,
    both,
    either,
    matched,
    text_conditions,
    within_bounds,
)
from lateen.plan.mixer.model import MixerDenial
from lateen.plan.mixer.roles import refused_by_roles
from lateen.resources.mixer.adapters import (
    LISTED,
    NEEDS_ABSENT,
    NO_ROLE,
    NOT_LISTED,
    DenierParams,
    ListcheckerParams,
    RbacParams,
    Status,
)
from lateen.values.rpc_code import FAILED_PRECONDITION, INVALID_ARGUMENT, PERMISSION_DENIED, http_status, refusal_text

LONGEST_LIST = 64
MOST_LISTED = 4 * LONGEST_LIST


def denials_of(
    rule: Rule, action: Action, instance: Instance, match: Expression | bool, known: dict[str, Any], rules: MixerRules
) -> tuple[MixerDenial, ...]:
    """What the proxy has to refuse. Raises Beyond."""
    where = matched(match)
    params = action.handler.params
    if action.handler.adapter == "noop":
        return ()
    if isinstance(params, DenierParams):
        status = params.status or Status()
        found = [(where, status.code or FAILED_PRECONDITION, status.message)]
    elif isinstance(params, ListcheckerParams):
        found = _listed(params, instance, where, known, rules.vocabulary)
    elif isinstance(params, RbacParams):
        not_allowed, absent = refused_by_roles(instance, rules.grants, known, rules.vocabulary)
        found = [
            (both(where, not_allowed), PERMISSION_DENIED, NO_ROLE),
            (both(where, absent), INVALID_ARGUMENT, NEEDS_ABSENT),
        ]
    else:
        raise Beyond(f"{action.handler.adapter} asks somebody else")
    name = f"{rule.name}.{rule.namespace}"
    return tuple(
        denial(name, code, f"{action.handler.name}:{message}", condition, rule)
        for condition, code, message in found
        if condition != NEVER
    )


def denial(name: str, code: int, message: str, condition: Condition, rule: Rule) -> MixerDenial:
    body = refusal_text(code, message)
    status = http_status(code)
    reply = blake2b(f"{status} {body}".encode(), digest_size=6).hexdigest()
    return MixerDenial(f"mixer-{reply}:{name}", reply, status, body, condition, rule.origin)


def _listed(
    params: ListcheckerParams, instance: Instance, where: Condition, known: dict[str, Any], vocabulary: Vocabulary
) -> list[tuple[Condition, int, str]]:
    if params.provider_url:
        raise Beyond("its list is fetched")
    if len(params.overrides) > LONGEST_LIST:
        raise Beyond(f"its list has more than {LONGEST_LIST} entries")
    value = next((field.tree for field in instance.fields), None)
    if value is None:
        raise Beyond("its instance has no value")
    rest = partial(value, known, vocabulary)
    kind = params.entry_type or "STRINGS"
    if kind == "IP_ADDRESSES":
        held, absent = _addresses(rest, params.overrides), either([])
        refused = held if params.blacklist else Not(held)
    else:
        refused, absent = text_conditions(rest, _tests(kind, params.overrides, blacklist=params.blacklist))
    message = LISTED if params.blacklist else NOT_LISTED
    return [
        (within_bounds(both(where, refused), MOST_LISTED), PERMISSION_DENIED, message),
        (within_bounds(both(where, absent)), INVALID_ARGUMENT, NEEDS_ABSENT),
    ]


def _addresses(value: Expression, entries: tuple[str, ...]) -> Condition:
    if not isinstance(value, Attribute) or value.name != "source.ip":
        raise Beyond("an address is worked out")
    if any("::ffff:" in entry.lower() for entry in entries):
        raise Beyond("an address of IPv4 is written as IPv6")
    return either([DirectAddress(entry) for entry in entries])


def _tests(kind: str, entries: tuple[str, ...], *, blacklist: bool) -> Callable[[str | TextSource], Condition]:
    """When a text is refused."""
    if kind == "CASE_INSENSITIVE_STRINGS":
        raise Beyond("what is the same but for case, Unicode says")

    def test(base: str | TextSource) -> Condition:
        if isinstance(base, str):
            if kind == "REGEX":
                raise Beyond("a literal is held against patterns")
            return ALWAYS if (base in entries) is blacklist else NEVER
        matchers = [
            anywhere(entry) if kind == "REGEX" else StringMatcher(MatchKind.EXACT, entry) for entry in entries if entry
        ]
        if blacklist:
            return either([base.where(matcher) for matcher in matchers])
        refused: Condition = ALWAYS
        for matcher in matchers:
            refused = both(refused, base.lacks(matcher))
        return refused

    return test
