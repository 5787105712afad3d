"""Manifests and what is bound to services: what is wrong with them, what they define, and which are not used here."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lateen.expressions.vocabulary import ValueType
from lateen.mesh.mixer.resolve import resolve
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource


def read(kind: str, spec: dict[str, Any], name: str = "one") -> Resource:
    metadata = {"name": name, "namespace": "default"}
    text = json.dumps({"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": metadata, "spec": spec})
    (document,), _ = parse_documents(text.encode(), "mixer.yaml")
    resource, problems = decode(document)
    assert resource is not None, problems
    return resource


def wrong(kind: str, spec: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding.origin.field, finding.message) for finding in validate_resource(read(kind, spec))]


def manifest(name: str = "one", **attributes: str) -> Resource:
    named = {attribute.replace("__", "."): {"valueType": kind} for attribute, kind in attributes.items()}
    return read("attributemanifest", {"attributes": named}, name)


VALUES = "spec.attributes.attributes"


def value(name: str, **given: Any) -> dict[str, Any]:
    return {"attributes": {"attributes": {name: given}}}


def api(**pattern: str) -> dict[str, Any]:
    return {"patterns": [{"httpMethod": "GET", **pattern, **value("api.operation", stringValue="a")}]}


@pytest.mark.parametrize(
    ("kind", "spec", "field", "words"),
    [
        ("attributemanifest", {}, "spec", "defines no attributes"),
        ("attributemanifest", {"attributes": {"a b": {"valueType": "STRING"}}}, "spec.attributes.a b", "cannot stand"),
        ("attributemanifest", {"attributes": {"a.b": {}}}, "spec.attributes.a.b", "a.b has no type"),
        (
            "attributemanifest",
            {"attributes": {"source.ip": {"valueType": "STRING"}}},
            "spec.attributes.source.ip.valueType",
            "source.ip is IP_ADDRESS here",
        ),
        ("QuotaSpec", {}, "spec", "there are no rules"),
        ("QuotaSpec", {"rules": [{}]}, "spec.rules[0]", "charges no quotas"),
        ("QuotaSpec", {"rules": [{"quotas": [{}]}]}, "spec.rules[0].quotas[0]", "no quota is named"),
        (
            "QuotaSpec",
            {"rules": [{"quotas": [{"quota": "a", "charge": -1}]}]},
            "spec.rules[0].quotas[0].charge",
            "below 0",
        ),
        (
            "QuotaSpec",
            {"rules": [{"quotas": [{"quota": "a"}], "match": [{"clause": {"request.path": {"regex": "(("}}}]}]},
            "spec.rules[0].match[0].clause.request.path.regex",
            "does not compile",
        ),
        (
            "QuotaSpec",
            {"rules": [{"quotas": [{"quota": "a"}], "match": [{"clause": {"request.path": {}}}]}]},
            "spec.rules[0].match[0].clause.request.path",
            "one of exact, prefix and regex",
        ),
        ("QuotaSpecBinding", {"quotaSpecs": [{"name": "a"}]}, "spec", "no services are bound"),
        ("QuotaSpecBinding", {"services": [{}], "quotaSpecs": [{"name": "a"}]}, "spec.services[0]", "is named"),
        ("QuotaSpecBinding", {"services": [{"service": "*"}]}, "spec", "quotaSpecs is empty"),
        ("HTTPAPISpecBinding", {"services": [{"name": "a"}], "apiSpecs": [{}]}, "spec.apiSpecs[0]", "has no name"),
        ("HTTPAPISpec", {"patterns": [{"httpMethod": "GET"}]}, "spec.patterns[0]", "one of uriTemplate and regex"),
        ("HTTPAPISpec", {"patterns": [{"regex": "a"}]}, "spec.patterns[0]", "no method"),
        ("HTTPAPISpec", {}, "spec", "describes nothing"),
        ("HTTPAPISpec", api(uriTemplate="pets"), "spec.patterns[0].uriTemplate", "does not begin with /"),
        ("HTTPAPISpec", api(uriTemplate="/pets/{id:9999}"), "spec.patterns[0].uriTemplate", "does not compile"),
        ("HTTPAPISpec", api(regex="(("), "spec.patterns[0].regex", "does not compile"),
        (
            "HTTPAPISpec",
            {"patterns": [{"httpMethod": "GET", "uriTemplate": "/"}]},
            "spec.patterns[0]",
            "sets no attributes",
        ),
        ("HTTPAPISpec", value("api.service"), f"{VALUES}.api.service", "one value is needed"),
        ("HTTPAPISpec", value("a b", stringValue="c"), f"{VALUES}.a b", "is no attribute"),
        ("HTTPAPISpec", value("source.user", stringValue="c"), f"{VALUES}.source.user", "what a request itself tells"),
        ("HTTPAPISpec", value("a", bytesValue="YQ=="), f"{VALUES}.a.bytesValue", "made of bytes"),
        ("HTTPAPISpec", value("a", durationValue="soon"), f"{VALUES}.a.durationValue", "soon"),
        ("HTTPAPISpec", {"apiKeys": [{"query": "a", "header": "b"}]}, "spec.apiKeys[0]", "one of query, header"),
        ("HTTPAPISpec", {"apiKeys": [{"header": "x\n"}]}, "spec.apiKeys[0].header", "is no name of a header"),
    ],
)
def test_what_is_wrong_is_told_with_its_field(kind: str, spec: dict[str, Any], field: str, words: str) -> None:
    found = wrong(kind, spec)
    assert [one for one, message in found if words in message] == [field], found


def test_a_manifest_defines_attributes_that_rules_may_name() -> None:
    resource = manifest(own__level="INT64", source__ip="IP_ADDRESS")
    assert not [*validate_resource(resource), *check_support(resource)]
    rule = read(
        "rule", {"match": "(own.level | 0) > 2", "responseHeaderOperations": [{"name": "x", "values": ['"y"']}]}
    )
    rules, findings = resolve({"attributemanifest": [resource], "rule": [rule]}, "istio-system")
    assert rules.vocabulary.type_of("own.level") is ValueType.INT64
    assert len(rules.rules) == 1
    (told,) = findings
    assert not told.is_error
    assert (told.message, told.origin.field) == (
        "no request has own.level here: expressions that need it do not hold",
        "spec.attributes.own.level",
    )
    rules, findings = resolve({"rule": [rule]}, "istio-system")
    assert not rules.rules
    assert "there is no attribute own.level" in findings[0].message


def test_types_of_two_manifests_agree() -> None:
    first, second = manifest("first", own="INT64"), manifest("second", own="STRING")
    rules, findings = resolve({"attributemanifest": [second, first]}, "istio-system")
    assert rules.vocabulary.type_of("own") is ValueType.INT64
    assert [(one.message, one.origin.field) for one in findings if one.is_error] == [
        ("own is INT64 already, by default/first", "spec.attributes.own")
    ]
    assert rules.generation != resolve({"attributemanifest": [first]}, "istio-system")[0].generation


def test_sampling_is_for_rules_that_report() -> None:
    handler = read("noop", {}, "none")
    instances = [read("checknothing", {}, "check"), read("reportnothing", {}, "report")]
    said = {"random": {"percentSampled": {"numerator": 1, "denominator": "TEN_THOUSAND"}}}

    def resolved(instance: str) -> Any:
        action = {"handler": "none", "instances": [instance]}
        rule = read("rule", {"actions": [action], "sampling": said})
        by_kind = {"noop": [handler], "checknothing": instances[:1], "reportnothing": instances[1:], "rule": [rule]}
        return resolve(by_kind, "istio-system")

    rules, findings = resolved("check")
    assert not rules.rules
    assert "this rule reports nothing" in findings[0].message
    (found,) = resolved("report")[0].rules
    assert found.sampling is not None
    assert (found.sampling.share, found.sampling.denominator, found.sampling.window) == (0.0001, 10_000, None)
