"""What a proxy has to refuse where ``rbac`` is asked: requests that no ServiceRole allows.

Comes in: an instance of ``authorization``, what is known beforehand, and grants. Goes out: conditions. Raises Beyond
where the proxy does not know something that is told in the instance, or where it could not say for sure that a role
does not fit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lateen.expressions.partial import partial
from lateen.expressions.syntax import Expression, Literal
from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.mesh.mixer.model import Grant, Instance
from lateen.mesh.mixer.roles import Test, asked_of_groups, passes, tests_of_rule, tests_of_subject
from lateen.plan.access.model import Condition
from lateen.plan.matching import MatchKind, StringMatcher
from lateen.plan.mixer.compile import (
    ALWAYS,
    NEVER,
    Beyond,
    TextSource,
    both,
    either,
    negated,
    text_conditions,
    within_bounds,
)
from lateen.resources.legacy_access import Subject

_WAYS: Mapping[tuple[str, ...], tuple[str, str]] = {
    ("subject", "user"): ("user", ""),
    ("subject", "groups"): ("groups", ""),
    **{("action", name): (name, "") for name in ("namespace", "service", "method", "path")},
}
_NOTHING = Literal("", ValueType.STRING)
_Fields = Mapping[tuple[str, str], Expression]


def refused_by_roles(
    instance: Instance, grants: Sequence[Grant], known: dict[str, Any], vocabulary: Vocabulary
) -> tuple[Condition, Condition]:
    """When no role allows it though all that is told is there; and when something of it is absent."""
    fields: dict[tuple[str, str], Expression] = {}
    for field in instance.fields:
        place = _WAYS.get(field.way) or (field.way[0], field.way[-1])
        fields[place] = partial(field.tree, known, vocabulary)
    absent = either([text_conditions(tree, _anything)[1] for tree in fields.values() if not _is_value(tree)])
    allowed = either([_allowed(grant, fields) for grant in grants])
    within_bounds(allowed)
    return both(negated(allowed), negated(absent)), absent


def _is_value(tree: Expression) -> bool:
    return isinstance(tree, Literal) and tree.value is not None and not isinstance(tree.value, str)


def _anything(base: str | TextSource) -> Condition:
    if isinstance(base, TextSource):
        _once(base)
    return ALWAYS


def _once(source: TextSource) -> None:
    if source.repeats:
        raise Beyond("a header that may come twice is held against roles")


def _allowed(grant: Grant, fields: _Fields) -> Condition:
    here = _meets(Test("namespace", (grant.namespace,)), fields)
    if here == NEVER:
        return NEVER
    to_do = [_all(list(tests_of_rule(rule)), fields) for rule in grant.rules]
    by_whom = [_subject(subject, fields) for subject in grant.subjects]
    return both(here, both(either(to_do), either(by_whom)))


def _subject(subject: Subject, fields: _Fields) -> Condition:
    groups = fields.get(("groups", ""), _NOTHING)
    if subject.group or subject.groups or subject.not_groups:
        if not isinstance(groups, Literal):
            raise Beyond("groups are told apart")
        if not asked_of_groups(subject, str(groups.value)):
            return NEVER
    return _all(list(tests_of_subject(subject)), fields)


def _all(tests: list[Test], fields: _Fields) -> Condition:
    found: Condition = ALWAYS
    for test in tests:
        found = both(found, _meets(test, fields))
    return found


def _meets(test: Test, fields: _Fields) -> Condition:
    tree = fields.get((test.part, test.key), _NOTHING)
    if isinstance(tree, Literal) and not isinstance(tree.value, str | None):
        return ALWAYS if passes(test, str(tree.value)) else NEVER

    def meets(base: str | TextSource) -> Condition:
        if isinstance(base, str):
            return ALWAYS if passes(test, base) else NEVER
        if test.blocks:
            raise Beyond("an address is worked out")
        _once(base)
        fit = either([_fits(base, pattern) for pattern in test.patterns])
        return fit if test.fitting else negated(fit)

    return text_conditions(tree, meets)[0]


def _fits(source: TextSource, pattern: str) -> Condition:
    if pattern == "*":
        return ALWAYS
    if pattern.startswith("*"):
        return source.where(StringMatcher(MatchKind.SUFFIX, pattern[1:]))
    if pattern.endswith("*"):
        return source.where(StringMatcher(MatchKind.PREFIX, pattern[:-1]))
    return source.where(StringMatcher(MatchKind.EXACT, pattern))
