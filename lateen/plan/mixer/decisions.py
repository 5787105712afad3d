"""Where each part of a rule is decided: in the proxy, by the mixer, or nowhere because it cannot concern a request.

Comes in: rules, and what is known beforehand where requests arrive. Goes out: decisions with their reasons. Deniers and
lists that are all written down are decided in the proxy, where it knows what they look at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from hashlib import blake2b
from typing import Any

import msgspec

from lateen.expressions.partial import cannot_hold, partial
from lateen.expressions.syntax import Attribute, Expression, Literal, attributes_of
from lateen.expressions.vocabulary import AFTERWARDS, Vocabulary
from lateen.mesh.mixer.model import Action, Instance, MixerRules, Rule
from lateen.plan.access.model import Condition, DirectAddress, Not
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.mixer.apis import absent_here, apis_here, attributes_of_apis, with_headers
from lateen.plan.mixer.compile import (
    ALWAYS,
    NEVER,
    Beyond,
    TextSource,
    anywhere,
    both,
    either,
    holds,
    text_conditions,
    within_bounds,
)
from lateen.plan.mixer.model import MixerDenial
from lateen.plan.mixer.operations import Names, changes, names_changed
from lateen.plan.mixer.roles import refused_by_roles
from lateen.plan.routes import HeaderOps
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
from lateen.resources.mixer.templates import Variety
from lateen.values.rpc_code import http_status, refusal_text

INVALID_ARGUMENT = 3
PERMISSION_DENIED = 7
FAILED_PRECONDITION = 9
LONGEST_LIST = 64
MOST_LISTED = 4 * LONGEST_LIST
PROXY, MIXER, NOWHERE = "proxy", "mixer", "nowhere"
UNCHECKED = "checks are switched off there"
TOO_EARLY = "its match needs what is known only afterwards"
REPORTED = "it is told of what is over, and nobody waits"
UNREPORTED = "reports of requests are switched off"
OPERATIONS = "operations on headers"
"""The part of a rule that refuses nothing."""


class Decision(msgspec.Struct, frozen=True):
    """One part of a rule: what it is, where it is decided, and why there. ``denials`` are what the proxy refuses,
    ``changes`` what it changes of the headers of requests and of answers.

    ``asked``: where the mixer does it, requests wait for that.
    """

    rule: Rule
    what: str
    where: str
    why: str
    denials: tuple[MixerDenial, ...] = ()
    changes: tuple[HeaderOps, HeaderOps] | None = None
    asked: bool = True


def decisions(
    rules: MixerRules, known: dict[str, Any], *, of_bytes: bool = False, checked: bool = True, reported: bool = True
) -> Iterator[Decision]:
    """Every part of every rule that has a say in what arrives here: in requests, or (``of_bytes``) in connections.

    ``checked``: whether checks are made here; ``reported``: whether reports are.
    """
    for one in _decisions(rules, known, of_bytes=of_bytes):
        if not checked and one.asked and one.where != NOWHERE:
            yield Decision(one.rule, one.what, NOWHERE, UNCHECKED)
        elif not reported and one.why == REPORTED:
            yield Decision(one.rule, one.what, NOWHERE, UNREPORTED)
        else:
            yield one


def _decisions(rules: MixerRules, known: dict[str, Any], *, of_bytes: bool) -> Iterator[Decision]:
    apis = apis_here(rules, known)
    found = found_here(rules, known)
    known = {**absent_here(apis), **known}
    known = {name: value for name, value in known.items() if value is not None or name not in found}
    early = {**dict.fromkeys(AFTERWARDS - found.keys()), **known}
    operating = (rule for rule in rules.rules if rule.request or rule.response)
    names = names_changed(rule for rule in operating if match_here(rule, known, rules.vocabulary) is not False)
    for rule in (with_headers(rule, apis) for rule in rules.rules):
        over = match_here(rule, known, rules.vocabulary)
        match = match_here(rule, early, rules.vocabulary) if _looks_at(over, AFTERWARDS) else over
        nowhere = _nowhere(rule, known) if over is False else TOO_EARLY
        yield from _finding(rule, over, known)
        checks = [
            (action, instance)
            for action in rule.actions
            for instance in action.instances
            if instance.variety is Variety.CHECK
        ]
        for action, instance in checks:
            what = f"{action.handler.adapter} {action.handler.name} on {instance.name}"
            if match is False:
                yield Decision(rule, what, NOWHERE, nowhere)
                continue
            if of_bytes:
                yield Decision(rule, what, MIXER, "the proxy passes bytes on here")
                continue
            try:
                _not_found_by_others(match, (field.tree for field in instance.fields), known, found)
                denials = _denials(rule, action, instance, match, known, rules)
            except Beyond as problem:
                yield Decision(rule, what, MIXER, str(problem))
            else:
                yield Decision(rule, what, PROXY, "the proxy knows all that it looks at", denials)
        yield from _counted(rule, match, nowhere, known, rules, of_bytes=of_bytes)
        if rule.request or rule.response:
            yield _operated(rule, match, nowhere, known, rules, found, names, of_bytes=of_bytes)
        yield from _reported(rule, over, known)


def _operated(
    rule: Rule,
    match: Expression | bool,
    nowhere: str,
    known: dict[str, Any],
    rules: MixerRules,
    found: dict[str, str],
    names: tuple[Names, Names],
    *,
    of_bytes: bool,
) -> Decision:
    """What a rule does with headers."""
    if match is False:
        return Decision(rule, OPERATIONS, NOWHERE, nowhere)
    if of_bytes:
        return Decision(rule, OPERATIONS, NOWHERE, "the proxy passes bytes on here")
    trees = [value for operation in (*rule.request, *rule.response) for value in operation.values]
    try:
        _not_found_by_others(match, trees, known, found)
        changed = changes(rule, match, known, rules.vocabulary, names)
    except Beyond as problem:
        return Decision(rule, OPERATIONS, MIXER, str(problem))
    return Decision(rule, OPERATIONS, PROXY, "the proxy knows all that it looks at", changes=changed)


def _reported(rule: Rule, match: Expression | bool, known: dict[str, Any]) -> Iterator[Decision]:
    """What a rule reports; no request waits for that."""
    for action in rule.actions:
        for instance in action.instances:
            if instance.variety is Variety.REPORT:
                what = f"{action.handler.adapter} {action.handler.name} on {instance.name}"
                if match is False:
                    yield Decision(rule, what, NOWHERE, _nowhere(rule, known))
                else:
                    yield Decision(rule, what, MIXER, REPORTED, asked=False)


def found_here(rules: MixerRules, known: dict[str, Any]) -> dict[str, str]:
    """The attributes that others may find about what arrives here, each with who does."""
    found = dict.fromkeys(attributes_of_apis(apis_here(rules, known)), "an HTTPAPISpec")
    for rule in rules.rules:
        bound = {
            binding.attribute: action.handler.name
            for action in rule.actions
            for instance in action.instances
            for binding in instance.bindings
        }
        if bound and match_here(rule, known, rules.vocabulary) is not False:
            found.update(bound)
    return {name: who for name, who in found.items() if known.get(name) is None}


def _finding(rule: Rule, match: Expression | bool, known: dict[str, Any]) -> Iterator[Decision]:
    """What a rule finds out; no request waits for that alone."""
    for action in rule.actions:
        for instance in action.instances:
            if instance.variety is Variety.ATTRIBUTE_GENERATOR:
                what = f"{action.handler.adapter} {action.handler.name} on {instance.name}"
                if match is False:
                    yield Decision(rule, what, NOWHERE, _nowhere(rule, known))
                else:
                    yield Decision(rule, what, MIXER, "what it finds is for rules that the mixer decides", asked=False)


def _not_found_by_others(
    match: Expression | bool, trees: Iterable[Expression], known: dict[str, Any], found: dict[str, str]
) -> None:
    """Raises Beyond where something is looked at that a generator may find."""
    for tree in (*(() if isinstance(match, bool) else (match,)), *trees):
        for name, _ in attributes_of(tree):
            if name in found and known.get(name) is None:
                raise Beyond(f"{name} may be found by {found[name]}")


def _counted(
    rule: Rule, match: Expression | bool, nowhere: str, known: dict[str, Any], rules: MixerRules, *, of_bytes: bool
) -> Iterator[Decision]:
    """What a rule counts: asked for where one of the charges may be for what arrives here. ``nowhere``: why its match
    fails, where it does."""
    host, labels = known.get("destination.service.host"), known.get("destination.labels")
    charged = {
        charge.quota
        for charge in rules.charges
        if not of_bytes and any(service.is_for(host, labels) for service in charge.services)
    }
    for action in rule.actions:
        for instance in action.instances:
            if instance.variety is not Variety.QUOTA:
                continue
            what = f"{action.handler.adapter} {action.handler.name} on {instance.name}"
            if match is False:
                yield Decision(rule, what, NOWHERE, nowhere)
            elif instance.name not in charged:
                yield Decision(rule, what, NOWHERE, "no QuotaSpec charges it here")
            else:
                yield Decision(rule, what, MIXER, "what all proxies use is counted in one place")


def match_here(rule: Rule, known: dict[str, Any], vocabulary: Vocabulary) -> Expression | bool:
    """What is left of a rule's match: False, True, or an expression."""
    if not rule.everywhere and known.get("destination.namespace") != rule.namespace:
        return False
    if rule.match is None:
        return True
    rest = partial(rule.match, known, vocabulary)
    if isinstance(rest, Literal):
        return rest.value is True
    return False if cannot_hold(rest) else rest


def _looks_at(match: Expression | bool, names: frozenset[str]) -> bool:
    return not isinstance(match, bool) and any(name in names for name, _ in attributes_of(match))


def _nowhere(rule: Rule, known: dict[str, Any]) -> str:
    if not rule.everywhere and known.get("destination.namespace") != rule.namespace:
        return f"it is for destinations in {rule.namespace}"
    return "its match cannot hold here"


def _denials(
    rule: Rule, action: Action, instance: Instance, match: Expression | bool, known: dict[str, Any], rules: MixerRules
) -> tuple[MixerDenial, ...]:
    """What the proxy has to refuse. Raises Beyond."""
    matched = ALWAYS if match is True else holds(match) if not isinstance(match, bool) else NEVER
    params = action.handler.params
    if action.handler.adapter == "noop":
        return ()
    if isinstance(params, DenierParams):
        status = params.status or Status()
        found = [(matched, status.code or FAILED_PRECONDITION, status.message)]
    elif isinstance(params, ListcheckerParams):
        found = _listed(params, instance, matched, known, rules.vocabulary)
    elif isinstance(params, RbacParams):
        not_allowed, absent = refused_by_roles(instance, rules.grants, known, rules.vocabulary)
        found = [
            (both(matched, not_allowed), PERMISSION_DENIED, NO_ROLE),
            (both(matched, absent), INVALID_ARGUMENT, NEEDS_ABSENT),
        ]
    else:
        raise Beyond(f"{action.handler.adapter} asks somebody else")
    name = f"{rule.name}.{rule.namespace}"
    return tuple(
        _denial(name, code, f"{action.handler.name}:{message}", condition, rule)
        for condition, code, message in found
        if condition != NEVER
    )


def _denial(name: str, code: int, message: str, condition: Condition, rule: Rule) -> MixerDenial:
    body = refusal_text(code, message)
    status = http_status(code)
    reply = blake2b(f"{status} {body}".encode(), digest_size=6).hexdigest()
    return MixerDenial(f"mixer-{reply}:{name}", reply, status, body, condition, rule.origin)


def _listed(
    params: ListcheckerParams, instance: Instance, matched: Condition, known: dict[str, Any], vocabulary: Vocabulary
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
        (within_bounds(both(matched, refused), MOST_LISTED), PERMISSION_DENIED, message),
        (within_bounds(both(matched, absent)), INVALID_ARGUMENT, NEEDS_ABSENT),
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
