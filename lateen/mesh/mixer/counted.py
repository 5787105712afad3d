"""Metrics that adapters cannot count.

Comes in: resolved rules. Goes out: warnings on instances of ``metric`` whose value is no number, each once.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from lateen.expressions.vocabulary import ValueType
from lateen.findings import Finding, warning
from lateen.mesh.mixer.model import Rule

COUNTING = frozenset({"prometheus", "statsd", "dogstatsd", "opentelemetry"})
NUMBERS = frozenset({ValueType.INT64, ValueType.DOUBLE, ValueType.DURATION})


def uncountable(rules: Sequence[Rule]) -> Iterator[Finding]:
    """``stdio`` and adapters of your own take any value."""
    given = {
        instance.name: (action.handler.adapter, instance)
        for rule in rules
        for action in rule.actions
        for instance in action.instances
        if action.handler.adapter in COUNTING and instance.template == "metric"
    }
    for adapter, instance in given.values():
        for field in instance.fields:
            if field.way == ("value",) and field.type not in NUMBERS:
                message = f"its value is {field.type.value}, which {adapter} cannot count"
                yield warning("not-a-number", message, instance.origin, "write a number or a duration")
