"""What rules ask of checks that only reports know.

Comes in: resolved parts of a rule. Goes out: findings. Checks are made before a request goes on: there is no response
yet. A match that needs one never holds for them, which is told; an instance that needs one could never be made, so that
every request would be refused, and its rule is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from lateen.expressions.partial import cannot_hold, must_fail, partial
from lateen.expressions.syntax import Expression, attributes_of
from lateen.expressions.vocabulary import AFTERWARDS, Vocabulary
from lateen.findings import Finding, error, warning
from lateen.mesh.mixer.model import Action, HeaderOperation, Instance
from lateen.resources.mixer.templates import Variety
from lateen.resources.resource import Resource

ASKED = frozenset({Variety.CHECK, Variety.QUOTA})
"""Instances that requests wait for."""


class Early:
    """``set_here``: attributes that something else gives requests."""

    def __init__(self, vocabulary: Vocabulary, set_here: Collection[str]) -> None:
        self._vocabulary = vocabulary
        self._absent = dict.fromkeys(AFTERWARDS.difference(set_here))

    def instance(self, instance: Instance, rule: Resource, place: str) -> Iterator[Finding]:
        """An error where a check or a quota could never be asked for."""
        for field in instance.fields if instance.variety in ASKED else ():
            if must_fail(partial(field.tree, self._absent, self._vocabulary)):
                message = (
                    f"{instance.name} needs {self._named(field.tree)}, which checks do not know yet: all are refused"
                )
                remedy = "take what requests have, or give another by |"
                yield error("not-yet-known", message, rule.origin_at(place), remedy)

    def match(self, match: Expression, actions: list[Action], rule: Resource) -> Iterator[Finding]:
        """A warning where a rule never holds for checks, and has some."""
        spec = rule.spec
        waited_for = any(instance.variety in ASKED for action in actions for instance in action.instances)
        if not (waited_for or spec.request_header_operations or spec.response_header_operations):
            return
        if cannot_hold(partial(match, self._absent, self._vocabulary)) and self._named(match):
            message = f"checks do not know {self._named(match)} yet, so that this never holds for them"
            yield warning("not-yet-known", message, rule.origin_at("spec.match"), "match by what requests have")

    def operation(self, operation: HeaderOperation, rule: Resource, place: str) -> Iterator[Finding]:
        """A warning where a header never gets its value."""
        for number, value in enumerate(operation.values):
            if must_fail(partial(value, self._absent, self._vocabulary)):
                message = f"checks do not know {self._named(value)} yet, so that {operation.name} is not set by this"
                origin = rule.origin_at(f"{place}.values[{number}]")
                yield warning("not-yet-known", message, origin, "take what requests have")

    def _named(self, tree: Expression) -> str:
        return ", ".join(sorted({name for name, _ in attributes_of(tree)} & self._absent.keys()))
