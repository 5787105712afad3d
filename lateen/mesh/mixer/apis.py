"""Descriptions of HTTP APIs: which attributes requests to services have by them.

Comes in: HTTPAPISpecs and their bindings. Goes out: APIs with typed values, and findings on what leads nowhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from lateen.expressions.functions import to_duration, to_timestamp
from lateen.expressions.vocabulary import ValueType, Vocabulary
from lateen.findings import Finding, error, warning
from lateen.mesh.mixer.charges import bound_to
from lateen.mesh.mixer.model import Api, ApiPattern, BoundTo
from lateen.resources.mixer.bound import AttributeSet, AttributeValue, HttpApiSpecBindingSpec, HttpApiSpecSpec
from lateen.resources.mixer.uri_template import pattern_of
from lateen.resources.resource import Resource
from lateen.values.names import ResourceKey

SPEC, BINDING = "HTTPAPISpec", "HTTPAPISpecBinding"
DEFAULT_KEYS = (("query", "key"), ("query", "api_key"), ("header", "x-api-key"))
"""Where the key of a call is looked for, if a spec does not say."""
_FIELDS: Mapping[str, ValueType] = {
    "string_value": ValueType.STRING,
    "int64_value": ValueType.INT64,
    "double_value": ValueType.DOUBLE,
    "bool_value": ValueType.BOOL,
    "timestamp_value": ValueType.TIMESTAMP,
    "duration_value": ValueType.DURATION,
    "string_map_value": ValueType.STRING_MAP,
}


def apis_of(
    by_kind: Mapping[str, Sequence[Resource]], vocabulary: Vocabulary
) -> tuple[tuple[Api, ...], tuple[Finding, ...]]:
    """The APIs that are bound to services, by their names. One with an attribute that cannot be is none."""
    specs = {resource.key: resource for resource in by_kind.get(SPEC, ())}
    bound: dict[ResourceKey, list[BoundTo]] = {}
    findings: list[Finding] = []
    for resource in by_kind.get(BINDING, ()):
        spec: HttpApiSpecBindingSpec = resource.spec
        services = [bound_to(service, resource.key.namespace) for service in spec.services]
        for index, one in enumerate(spec.api_specs):
            key = ResourceKey(SPEC, one.namespace or resource.key.namespace, one.name)
            if key in specs:
                bound.setdefault(key, []).extend(services)
            else:
                message = f"there is no HTTPAPISpec {one.name} in {key.namespace}"
                origin = resource.origin_at(f"spec.apiSpecs[{index}]")
                findings.append(error("unknown-api-spec", message, origin, "add it, or correct name and namespace"))
    found = []
    for key, resource in sorted(specs.items(), key=lambda pair: (pair[0].namespace, pair[0].name)):
        problems = list(_problems(resource, vocabulary))
        findings.extend(problems)
        if key not in bound:
            message = "no HTTPAPISpecBinding binds it to services, so no request has attributes by it"
            findings.append(warning("unused", message, resource.origin, "bind it, or remove it"))
        elif not problems:
            found.append(_api(resource.spec, tuple(bound[key])))
    return tuple(found), tuple(findings)


def attributes_set(by_kind: Mapping[str, Sequence[Resource]]) -> Iterator[str]:
    """Every attribute that a spec sets."""
    for resource in by_kind.get(SPEC, ()):
        yield from (name for _, name, _ in _values(resource.spec))


def _api(spec: HttpApiSpecSpec, services: tuple[BoundTo, ...]) -> Api:
    return Api(
        services=services,
        attributes=_typed(spec.attributes),
        patterns=tuple(
            ApiPattern(
                one.http_method.upper(),
                one.regex or pattern_of(one.uri_template),
                with_query=bool(one.regex),
                attributes=_typed(one.attributes),
            )
            for one in spec.patterns
        ),
        keys=tuple(
            ("query", one.query)
            if one.query
            else ("header", one.header.lower())
            if one.header
            else ("cookie", one.cookie)
            for one in spec.api_keys
        )
        or DEFAULT_KEYS,
    )


def _typed(given: AttributeSet | None) -> tuple[tuple[str, Any], ...]:
    values = given.attributes if given is not None else {}
    return tuple((name, _value(value)[1]) for name, value in values.items())


def _value(given: AttributeValue) -> tuple[ValueType, Any]:
    """Raises Unusable for a time that is none."""
    name = next(name for name in _FIELDS if getattr(given, name) is not None)
    value = getattr(given, name)
    if name == "timestamp_value":
        value = to_timestamp(value)
    elif name == "duration_value":
        value = to_duration(value)
    elif name == "string_map_value":
        value = dict(value.entries)
    return _FIELDS[name], value


def _problems(resource: Resource, vocabulary: Vocabulary) -> Iterator[Finding]:
    for place, name, value in _values(resource.spec):
        known, kind = vocabulary.type_of(name), _value(value)[0]
        if known is None:
            message, remedy = f"there is no attribute {name}", "define it in an attributemanifest"
            yield error("unknown-attribute", message, resource.origin_at(place), remedy)
        elif known is not kind:
            message, remedy = f"{name} is {known.value}, not {kind.value}", "give a value of its type"
            yield error("wrong-type", message, resource.origin_at(place), remedy)


def _values(spec: HttpApiSpecSpec) -> Iterator[tuple[str, str, AttributeValue]]:
    places = (
        ("spec", spec.attributes),
        *((f"spec.patterns[{n}]", one.attributes) for n, one in enumerate(spec.patterns)),
    )
    for place, given in places:
        for name, value in given.attributes.items() if given is not None else ():
            yield f"{place}.attributes.attributes.{name}", name, value
