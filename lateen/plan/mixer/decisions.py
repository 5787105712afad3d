"""Where each part of a rule is decided: in the proxy, by the mixer, or nowhere because it cannot concern a request.

Comes in: rules, and what is known beforehand where requests arrive. Goes out: decisions with their reasons. Deniers,
lists that are all written down, roles, operations on headers, and quotas that proxies count are the proxy's, where it
knows what they look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import msgspec

from lateen.expressions.partial import cannot_hold, partial
from lateen.expressions.syntax import Attribute, Expression, Literal, attributes_of
from lateen.expressions.vocabulary import AFTERWARDS, Vocabulary
from lateen.mesh.mixer.model import Action, Charge, Instance, MixerRules, Rule
from lateen.plan.limits.model import LimitRule
from lateen.plan.mixer.apis import absent_here, apis_here, attributes_of_apis, with_headers
from lateen.plan.mixer.compile import Beyond
from lateen.plan.mixer.denials import denials_of
from lateen.plan.mixer.model import MixerDenial
from lateen.plan.mixer.operations import Names, changes, names_changed, not_changed
from lateen.plan.mixer.quotas import counted_here
from lateen.plan.routes import HeaderOps
from lateen.resources.mixer.templates import Variety

PROXY, MIXER, NOWHERE = "proxy", "mixer", "nowhere"
UNCHECKED = "checks are switched off there"
TOO_EARLY = "its match needs what is known only afterwards"
REPORTED = "it is told of what is over, and nobody waits"
BY_EACH = "each proxy counts by itself, as the handler says"
UNREPORTED = "reports of requests are switched off"
OPERATIONS = "operations on headers"
"""The part of a rule that refuses nothing."""


class Decision(msgspec.Struct, frozen=True):
    """One part of a rule: what it is, where it is decided, and why there. ``denials`` are what the proxy refuses,
    ``changes`` what it changes of the headers of requests and of answers; ``counted`` is the quota that it counts,
    by ``limits``.

    ``asked``: where the mixer does it, requests wait for that.
    """

    rule: Rule
    what: str
    where: str
    why: str
    denials: tuple[MixerDenial, ...] = ()
    changes: tuple[HeaderOps, HeaderOps] | None = None
    counted: str = ""
    limits: tuple[LimitRule, ...] = ()
    asked: bool = True


class _Here(NamedTuple):
    """Where requests arrive. ``found``: attributes that others may find there; ``names``: how many operations change
    each header; ``counting``: how many actions may count each quota, of which the first that matches does."""

    rules: MixerRules
    known: dict[str, Any]
    found: dict[str, str]
    names: tuple[Names, Names]
    counting: Counter[str]
    of_bytes: bool


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
    holding = [rule for rule in rules.rules if match_here(rule, known, rules.vocabulary) is not False]
    here = _Here(rules, known, found, names_changed(holding), Counter(_quotas(holding)), of_bytes)
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
                _not_found_by_others(match, (field.tree for field in instance.fields), here)
                denials = denials_of(rule, action, instance, match, known, rules)
            except Beyond as problem:
                yield Decision(rule, what, MIXER, str(problem))
            else:
                yield Decision(rule, what, PROXY, "the proxy knows all that it looks at", denials)
        yield from _counted(rule, match, nowhere, here)
        if rule.request or rule.response:
            yield _operated(rule, match, nowhere, here)
        yield from _reported(rule, over, known)


def _quotas(rules: Iterable[Rule]) -> Iterator[str]:
    for rule in rules:
        for action in rule.actions:
            yield from (one.name for one in action.instances if one.variety is Variety.QUOTA)


def _operated(rule: Rule, match: Expression | bool, nowhere: str, here: _Here) -> Decision:
    """What a rule does with headers."""
    if match is False:
        return Decision(rule, OPERATIONS, NOWHERE, nowhere)
    if here.of_bytes:
        return Decision(rule, OPERATIONS, NOWHERE, "the proxy passes bytes on here")
    trees = [value for operation in (*rule.request, *rule.response) for value in operation.values]
    try:
        _not_found_by_others(match, trees, here)
        changed = changes(rule, match, here.known, here.rules.vocabulary, here.names)
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


def _not_found_by_others(match: Expression | bool, trees: Iterable[Expression], here: _Here) -> None:
    """Raises Beyond where something is looked at that a generator may find."""
    for tree in (*(() if isinstance(match, bool) else (match,)), *trees):
        for name, _ in attributes_of(tree):
            if name in here.found and here.known.get(name) is None:
                raise Beyond(f"{name} may be found by {here.found[name]}")


def _counted(rule: Rule, match: Expression | bool, nowhere: str, here: _Here) -> Iterator[Decision]:
    """What a rule counts: asked for where one of the charges may be for what arrives here. ``nowhere``: why its match
    fails, where it does."""
    host, labels = here.known.get("destination.service.host"), here.known.get("destination.labels")
    for action in rule.actions:
        for instance in action.instances:
            if instance.variety is not Variety.QUOTA:
                continue
            what = f"{action.handler.adapter} {action.handler.name} on {instance.name}"
            charges = [
                charge
                for charge in here.rules.charges
                if charge.quota == instance.name and any(service.is_for(host, labels) for service in charge.services)
            ]
            if match is False:
                yield Decision(rule, what, NOWHERE, nowhere)
            elif not charges or here.of_bytes:
                yield Decision(rule, what, NOWHERE, "no QuotaSpec charges it here")
            elif not action.handler.by_proxies:
                yield Decision(rule, what, MIXER, "what all proxies use is counted in one place")
            else:
                yield _counted_alone(rule, action, instance, match, charges, what, here)


def _counted_alone(
    rule: Rule,
    action: Action,
    instance: Instance,
    match: Expression | bool,
    charges: list[Charge],
    what: str,
    here: _Here,
) -> Decision:
    """What the proxy counts, where it can."""
    clauses = (Attribute(clause.attribute) for charge in charges for part in charge.clauses for clause in part)
    trees = (*(field.tree for field in instance.fields), *clauses)
    try:
        if here.counting[instance.name] > 1:
            raise Beyond("several rules may count it")
        _not_found_by_others(match, trees, here)
        not_changed(trees if isinstance(match, bool) else (match, *trees), here.names[0])
        quota = counted_here(rule, action, instance, match, here.known, here.rules.vocabulary, charges)
    except Beyond as problem:
        return Decision(rule, what, MIXER, str(problem))
    return Decision(rule, what, PROXY, BY_EACH, quota.denials, counted=instance.name, limits=quota.limits)


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
