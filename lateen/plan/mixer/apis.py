"""Descriptions of HTTP APIs, as far as a proxy can follow them.

Comes in: rules, and what is known beforehand where requests arrive. Goes out: which attributes no API sets here, and
rules in which the key of a call is what it is made of, where that is headers alone.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from lateen.expressions.syntax import EITHER, INDEX, Attribute, Call, Expression, Literal
from lateen.expressions.vocabulary import ValueType
from lateen.mesh.mixer.model import Api, Instance, MixerRules, Rule

KEY = "request.api_key"
BY_API = ("api.service", "api.version", "api.operation", "api.protocol")


def apis_here(rules: MixerRules, known: dict[str, Any]) -> list[Api]:
    """Those of the service that speaks for what arrives here."""
    host, labels = known.get("destination.service.host"), known.get("destination.labels")
    return [api for api in rules.apis if any(service.is_for(host, labels) for service in api.services)]


def attributes_of_apis(apis: list[Api]) -> frozenset[str]:
    """What they may set."""
    every = (attributes for api in apis for attributes in (api.attributes, *(one.attributes for one in api.patterns)))
    return frozenset(name for attributes in every for name, _ in attributes)


def absent_here(apis: list[Api]) -> dict[str, Any]:
    """Attributes that only APIs set, and none does here."""
    found = attributes_of_apis(apis)
    return {name: None for name in (*BY_API, *(() if apis else (KEY,))) if name not in found}


def with_headers(rule: Rule, apis: list[Api]) -> Rule:
    """The rule with headers in place of the key of a call, where keys come in headers alone."""
    places = [place for api in apis for place in api.keys]
    if not places or any(kind != "header" for kind, _ in places):
        return rule
    key = _first([name for _, name in places])
    actions = tuple(
        replace(action, instances=tuple(_rewritten(instance, key) for instance in action.instances))
        for action in rule.actions
    )
    return replace(rule, match=None if rule.match is None else _put(rule.match, key), actions=actions)


def _first(headers: list[str]) -> Expression:
    found: Expression | None = None
    for name in reversed(headers):
        one = Call(INDEX, (Attribute("request.headers"), Literal(name, ValueType.STRING)))
        found = one if found is None else Call(EITHER, (one, found))
    assert found is not None
    return found


def _rewritten(instance: Instance, key: Expression) -> Instance:
    return replace(instance, fields=tuple(replace(field, tree=_put(field.tree, key)) for field in instance.fields))


def _put(tree: Expression, key: Expression) -> Expression:
    if isinstance(tree, Attribute):
        return key if tree.name == KEY else tree
    if isinstance(tree, Call):
        return replace(tree, arguments=tuple(_put(part, key) for part in tree.arguments))
    return tree
