"""Instances of templates, made of the attributes of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from lateen.expressions.evaluate import Bag, compile_expression
from lateen.expressions.vocabulary import Vocabulary
from lateen.mesh.mixer import model
from lateen.mixer import templates

STRUCTS: Mapping[str, type[templates.Instance]] = {
    "listentry": templates.ListEntry,
    "checknothing": templates.CheckNothing,
    "authorization": templates.Authorization,
    "apikey": templates.ApiKey,
    "quota": templates.Quota,
    "metric": templates.Metric,
    "logentry": templates.LogEntry,
    "tracespan": templates.TraceSpan,
    "edge": templates.Edge,
    "reportnothing": templates.ReportNothing,
    "kubernetes": templates.Kubernetes,
}
"""What instances of a template become for its adapters."""
_NESTED: Mapping[str, type[msgspec.Struct]] = {"subject": templates.Subject, "action": templates.Action}


class InstanceMaker:
    """One instance, ready to be made of a bag."""

    def __init__(self, instance: model.Instance, vocabulary: Vocabulary) -> None:
        self.name = instance.name
        self._struct = STRUCTS[instance.template]
        self._fields = [(field.way, compile_expression(field.tree, vocabulary)) for field in instance.fields]

    def made_of(self, bag: Bag) -> templates.Instance:
        """Raises AbsentError or Unusable where a field has no value."""
        flat: dict[str, Any] = {"name": self.name}
        for way, evaluate in self._fields:
            below = flat
            for step in way[:-1]:
                below = below.setdefault(step, {})
            below[way[-1]] = evaluate(bag)
        for name, struct in _NESTED.items():
            if isinstance(flat.get(name), dict):
                flat[name] = struct(**flat[name])
        return self._struct(**flat)
