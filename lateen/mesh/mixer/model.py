"""Mixer's configuration with all names resolved: handlers, instances and rules, each knowing where it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from lateen.expressions.functions import compile_pattern
from lateen.expressions.syntax import Expression, attributes_of
from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.resources.base import Spec
from lateen.resources.legacy_access import RoleRule, Subject
from lateen.resources.mixer.templates import Variety
from lateen.values.names import Origin


class Handler(msgspec.Struct, frozen=True):
    """``name`` is in full, as messages say it: ``deny.denier.default``, or ``deny.default``.

    ``templates``: whose instances it takes. ``by_proxies``: each proxy counts by itself, where it can.
    """

    name: str
    adapter: str
    params: Spec
    origin: Origin
    templates: frozenset[str] = frozenset()
    by_proxies: bool = False


class InstanceField(msgspec.Struct, frozen=True):
    """One expression: its way in the template's struct, and the settled tree."""

    way: tuple[str, ...]
    tree: Expression
    type: ValueType


class Binding(msgspec.Struct, frozen=True):
    """An attribute that takes what a settled tree says of the outputs (``$out.NAME``) of an attribute generator."""

    attribute: str
    tree: Expression


class Instance(msgspec.Struct, frozen=True):
    """``bindings`` are an attribute generator's."""

    name: str
    template: str
    variety: Variety
    fields: tuple[InstanceField, ...]
    origin: Origin
    bindings: tuple[Binding, ...] = ()


class Action(msgspec.Struct, frozen=True):
    handler: Handler
    instances: tuple[Instance, ...]
    name: str = ""


class HeaderOperation(msgspec.Struct, frozen=True):
    """``operation`` is ``replace``, ``append`` or ``remove``; ``values`` are settled trees of texts."""

    name: str
    operation: str
    values: tuple[Expression, ...] = ()


class Sampling(msgspec.Struct, frozen=True):
    """Which requests are reported.

    ``share``: that part of them, from 0 to 1 (None: all); ``numerator`` over ``denominator`` in its place, where it
    is said; drawn by the request's id, or ``independent`` of it. ``window`` (seconds; None: no limit): within it,
    ``most`` of them, and of the others one of ``rate``.
    """

    share: float | None = None
    numerator: Expression | None = None
    denominator: int = 100
    independent: bool = False
    window: float | None = None
    most: int = 0
    rate: int = 1


class Rule(msgspec.Struct, frozen=True):
    """``everywhere``: it stands in the root namespace and holds for all; else for destinations of its own namespace.

    ``match`` None: always.
    """

    name: str
    namespace: str
    everywhere: bool
    match: Expression | None
    actions: tuple[Action, ...]
    request: tuple[HeaderOperation, ...]
    response: tuple[HeaderOperation, ...]
    origin: Origin
    sampling: Sampling | None = None


def attributes_in(rule: Rule) -> Iterator[str]:
    """Every attribute that a rule looks at, but for what its attribute generators are given."""
    trees = [
        *(one.tree for one in _fields(rule)),
        *(value for one in (*rule.request, *rule.response) for value in one.values),
    ]
    drawn = rule.sampling.numerator if rule.sampling is not None else None
    trees += [tree for tree in (rule.match, drawn) if tree is not None]
    for tree in trees:
        yield from (name for name, _ in attributes_of(tree))


def _fields(rule: Rule) -> Iterator[InstanceField]:
    for action in rule.actions:
        for instance in action.instances:
            if instance.variety is not Variety.ATTRIBUTE_GENERATOR:
                yield from instance.fields


class BoundTo(msgspec.Struct, frozen=True):
    """Services that a quota is bound to: ``host`` in full (empty: all), and labels that the workload has to have."""

    host: str
    labels: tuple[tuple[str, str], ...] = ()

    def is_for(self, host: object, labels: object) -> bool:
        """Whether it means a service, at a workload with these labels."""
        known = labels if isinstance(labels, Mapping) else {}
        return self.host in ("", host) and all(known.get(name) == value for name, value in self.labels)


class Clause(msgspec.Struct, frozen=True):
    """A test of an attribute: ``kind`` is exact, prefix or regex."""

    attribute: str
    kind: str
    text: str

    def test(self) -> Callable[[str], bool]:
        """Whether it is met by a text."""
        if self.kind == "exact":
            return lambda value: value == self.text
        if self.kind == "prefix":
            return lambda value: value.startswith(self.text)
        program = compile_pattern(self.text)
        return lambda value: program.fullmatch(value) is not None


class Charge(msgspec.Struct, frozen=True):
    """An amount that a request to one of the services takes off a quota.

    ``quota`` is the full name of an instance. One of ``clauses`` has to hold with all of its tests; without any, all
    requests are charged.
    """

    quota: str
    amount: int
    clauses: tuple[tuple[Clause, ...], ...]
    services: tuple[BoundTo, ...]
    origin: Origin


Values = tuple[tuple[str, Any], ...]
"""Attributes with their values."""


class ApiPattern(msgspec.Struct, frozen=True):
    """Requests of a method whose path as a whole is of a pattern of RE2 (``with_query``: with its query)."""

    method: str
    path: str
    with_query: bool
    attributes: Values = ()


class Api(msgspec.Struct, frozen=True):
    """What is known of requests to some services. ``keys``: where a call's key is, as kind (query, header, cookie)
    and name."""

    services: tuple[BoundTo, ...]
    attributes: Values = ()
    patterns: tuple[ApiPattern, ...] = ()
    keys: tuple[tuple[str, str], ...] = ()


class Grant(msgspec.Struct, frozen=True):
    """What one ServiceRoleBinding lets its subjects do in its namespace."""

    namespace: str
    rules: tuple[RoleRule, ...]
    subjects: tuple[Subject, ...]


class MixerRules(msgspec.Struct, frozen=True):
    """All that Mixer has to do. ``generation`` changes with it. ``grants``: of roles, where a rule asks ``rbac``."""

    rules: tuple[Rule, ...] = ()
    charges: tuple[Charge, ...] = ()
    grants: tuple[Grant, ...] = ()
    apis: tuple[Api, ...] = ()
    vocabulary: Vocabulary = Vocabulary()
    generation: str = ""
