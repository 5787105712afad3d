"""Metrics that adapters cannot count, or never will.

Comes in: resolved rules, and handlers as they are written. Goes out: warnings on instances of ``metric`` whose value is
no number or that a handler has no metric for, and on metrics of handlers that no rule gives an instance for, or with
labels that the instance lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from lateen.expressions.vocabulary import ValueType
from lateen.findings import Finding, warning
from lateen.mesh.mixer.model import Instance, Rule
from lateen.mesh.mixer.names import HANDLER_KINDS, full_name
from lateen.resources.mixer.adapters import DogstatsdParams, OpenTelemetryParams, PrometheusParams, StatsdParams
from lateen.resources.mixer.content import HandlerContent, handler_content
from lateen.resources.resource import Resource

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


def never_counted(by_kind: Mapping[str, Sequence[Resource]], rules: Sequence[Rule]) -> Iterator[Finding]:
    """Of handlers that a rule gives metrics to: what of these and of their own metrics does not meet, or is twice."""
    given: dict[str, dict[str, Instance]] = {}
    for action in (action for rule in rules for action in rule.actions):
        metrics = {instance.name: instance for instance in action.instances if instance.template == "metric"}
        given.setdefault(action.handler.name, {}).update(metrics)
    scraped: dict[str, str] = {}
    for resource in (resource for kind in HANDLER_KINDS for resource in by_kind.get(kind, ())):
        content, instances = handler_content(resource), given.get(full_name(resource))
        if isinstance(content, HandlerContent) and instances:
            yield from _not_met(resource, content, instances)
            yield from _twice(resource, content, scraped)


def _twice(resource: Resource, content: HandlerContent, scraped: dict[str, str]) -> Iterator[Finding]:
    """``scraped``: which handler has each name on the page that Prometheus reads."""
    if not isinstance(content.params, PrometheusParams):
        return
    for index, metric in enumerate(content.params.metrics):
        name = f"{metric.namespace or 'istio'}_{metric.name}"
        if name in scraped:
            message = f"{scraped[name]} has a metric {name} too, of which Prometheus may take one alone"
            place = f"{content.place}.metrics[{index}].name"
            yield warning("duplicate-metric", message, resource.origin_at(place), "give it another name")
        scraped.setdefault(name, full_name(resource))


def _not_met(resource: Resource, content: HandlerContent, given: Mapping[str, Instance]) -> Iterator[Finding]:
    handler = full_name(resource)
    counted: set[str] = set()
    for place, name, labels in _listed(content):
        meant = [instance for instance in given.values() if _means(name, instance.name)]
        counted.update(instance.name for instance in meant)
        if not meant:
            message = f"no rule gives {handler} an instance {name}, so this is never counted"
            remedy = f"name it in a rule, or write one that is given: {', '.join(sorted(given))}"
            yield warning("uncounted-metric", message, resource.origin_at(place), remedy)
        for instance in meant:
            dimensions = {field.way[1] for field in instance.fields if field.way[0] == "dimensions"}
            for number, label in enumerate(labels):
                if label not in dimensions:
                    message = f"{instance.name} has no dimension {label}, so this label is always empty"
                    remedy = f"write one of {', '.join(sorted(dimensions))}" if dimensions else "give it dimensions"
                    yield warning("empty-label", message, resource.origin_at(f"{place}.labelNames[{number}]"), remedy)
    if not isinstance(content.params, OpenTelemetryParams | PrometheusParams | StatsdParams | DogstatsdParams):
        return
    for name in sorted(given.keys() - counted):
        message = f"{handler} has no metric for {name}, which a rule gives it, so that is not counted"
        remedy = f"add one for {name} to metrics"
        yield warning("uncounted-metric", message, resource.origin_at(f"{content.place}.metrics"), remedy)


def _listed(content: HandlerContent) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """Of each metric: its place, the instance that it is of, its labels."""
    place, params = f"{content.place}.metrics", content.params
    if isinstance(params, PrometheusParams | OpenTelemetryParams):
        for index, metric in enumerate(params.metrics):
            yield f"{place}[{index}]", metric.instance_name, metric.label_names
    elif isinstance(params, StatsdParams | DogstatsdParams):
        yield from ((f"{place}.{name}", name, ()) for name in params.metrics)


def _means(written: str, instance: str) -> bool:
    """Whether NAME, NAME.NAMESPACE or NAME.KIND.NAMESPACE means the instance of this full name."""
    name, _, rest = written.partition(".")
    own, _, home = instance.partition(".")
    namespace = rest.rpartition(".")[2]
    return name == own and namespace in ("", home.rpartition(".")[2])
