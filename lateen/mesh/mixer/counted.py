"""Metrics that adapters cannot count, and metrics and quotas that they never will.

Comes in: resolved rules, and handlers as they are written. Goes out: warnings on instances of ``metric`` whose value is
no number or that a handler has no metric for, and on metrics and quotas of handlers that no rule gives an instance for,
or with dimensions that the instance lacks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import msgspec

from lateen.expressions.vocabulary import ValueType
from lateen.findings import Finding, warning
from lateen.mesh.mixer.model import Instance, Rule
from lateen.mesh.mixer.names import HANDLER_KINDS, full_name
from lateen.resources.mixer.adapters import (
    DogstatsdParams,
    MemquotaLimit,
    MemquotaParams,
    OpenTelemetryParams,
    PrometheusParams,
    RedisquotaLimit,
    RedisquotaParams,
    StatsdParams,
)
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


class _Counted(msgspec.Struct, frozen=True):
    """A metric or a quota of a handler: its place, the instance that it is of, and by place the dimensions it names."""

    place: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()


def never_counted(by_kind: Mapping[str, Sequence[Resource]], rules: Sequence[Rule]) -> Iterator[Finding]:
    """Of handlers that a rule gives metrics or quotas to: what of these and of their own does not meet, or is twice."""
    given: dict[str, dict[str, Instance]] = {}
    for action in (action for rule in rules for action in rule.actions):
        told = {instance.name: instance for instance in action.instances if instance.template in ("metric", "quota")}
        given.setdefault(action.handler.name, {}).update(told)
    scraped: dict[str, str] = {}
    for resource in (resource for kind in HANDLER_KINDS for resource in by_kind.get(kind, ())):
        content, instances = handler_content(resource), given.get(full_name(resource))
        if isinstance(content, HandlerContent) and instances:
            yield from _not_met(resource, content, instances)
            yield from _twice(resource, content, scraped)


def _not_met(resource: Resource, content: HandlerContent, given: Mapping[str, Instance]) -> Iterator[Finding]:
    handler = full_name(resource)
    counted: set[str] = set()
    for listed in _listed(content):
        meant = [instance for instance in given.values() if _means(listed.name, instance.name)]
        if not meant:
            message = f"no rule gives {handler} an instance {listed.name}, so this is never counted"
            remedy = f"name it in a rule, or write one that is given: {', '.join(sorted(given))}"
            yield warning("uncounted", message, resource.origin_at(listed.place), remedy)
        for instance in meant:
            dimensions = {field.way[1] for field in instance.fields if field.way[0] == "dimensions"}
            for place, name in listed.dimensions:
                if name not in dimensions:
                    message = f"{instance.name} has no dimension {name}, so this is always empty"
                    remedy = f"write one of {', '.join(sorted(dimensions))}" if dimensions else "give it dimensions"
                    yield warning("unknown-dimension", message, resource.origin_at(place), remedy)
            if instance.name in counted and isinstance(content.params, MemquotaParams | RedisquotaParams):
                message = f"{handler} has another limit for {instance.name} before, which holds"
                yield warning("duplicate-limit", message, resource.origin_at(listed.place), "keep one of them")
        counted.update(instance.name for instance in meant)
    for name in sorted(given.keys() - counted) if content.adapter.name in COUNTING else ():
        message = f"{handler} has no metric for {name}, which a rule gives it, so that is not counted"
        origin = resource.origin_at(f"{content.place}.metrics")
        yield warning("uncounted", message, origin, f"add one for {name} to metrics")


def _listed(content: HandlerContent) -> Iterator[_Counted]:
    params = content.params
    if isinstance(params, PrometheusParams | OpenTelemetryParams):
        for index, metric in enumerate(params.metrics):
            place = f"{content.place}.metrics[{index}]"
            labels = tuple((f"{place}.labelNames[{at}]", label) for at, label in enumerate(metric.label_names))
            yield _Counted(place, metric.instance_name, labels)
    elif isinstance(params, StatsdParams | DogstatsdParams):
        yield from (_Counted(f"{content.place}.metrics.{name}", name) for name in params.metrics)
    elif isinstance(params, MemquotaParams | RedisquotaParams):
        limits: tuple[MemquotaLimit | RedisquotaLimit, ...] = params.quotas
        for index, limit in enumerate(limits):
            place = f"{content.place}.quotas[{index}]"
            named = tuple(
                (f"{place}.overrides[{at}].dimensions.{name}", name)
                for at, override in enumerate(limit.overrides)
                for name in override.dimensions
            )
            yield _Counted(place, limit.name, named)


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


def _means(written: str, instance: str) -> bool:
    """Whether NAME, NAME.NAMESPACE or NAME.KIND.NAMESPACE means the instance of this full name."""
    name, _, rest = written.partition(".")
    own, _, home = instance.partition(".")
    namespace = rest.rpartition(".")[2]
    return name == own and namespace in ("", home.rpartition(".")[2])
