"""Mixer's kinds: what is refused, with the field, and what to write instead."""

from __future__ import annotations

import json
from typing import Any

import pytest

from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.mixer.content import COUNTED_BY, LANGUAGE
from lateen.resources.support import check_support
from lateen.resources.validate import validate_resource


def findings(kind: str, spec: dict[str, Any], annotations: dict[str, str] | None = None) -> list[tuple[str, str, str]]:
    metadata = {"name": "one", "annotations": annotations or {}}
    text = json.dumps({"apiVersion": "config.istio.io/v1alpha2", "kind": kind, "metadata": metadata, "spec": spec})
    documents, problems = parse_documents(text.encode(), "mixer.yaml")
    assert not problems
    resource, found = decode(documents[0])
    if resource is not None:
        found = (*validate_resource(resource), *check_support(resource))
    return [(finding.origin.field, finding.message, finding.remedy) for finding in found]


def test_the_kind_of_an_adapter_that_is_not_there_is_told_once() -> None:
    ((_, message, remedy),) = findings("stackdriver", {})
    assert message == "Lateen has no adapter stackdriver"
    assert remedy.startswith("use opentelemetry")


def handler(adapter: str, **params: Any) -> list[tuple[str, str, str]]:
    return findings("handler", {"compiledAdapter": adapter, "params": params})


def instance(template: str, **params: Any) -> list[tuple[str, str, str]]:
    return findings("instance", {"compiledTemplate": template, "params": params})


def bound(attribute: str, text: str) -> list[tuple[str, str, str]]:
    spec = {"compiledTemplate": "kubernetes", "params": {}, "attributeBindings": {attribute: text}}
    return findings("instance", spec)


RANDOM = "spec.sampling.random"
ACTIONS = [{"handler": "a", "instances": ["b"]}]
BUCKETS = "spec.params.metrics[0].buckets"
COUNTER = {"quotas": [{"name": "a", "maxAmount": 1}]}
METRIC = {"kind": "COUNTER", "name": "a", "instanceName": "a"}


def sampled(**sampling: Any) -> list[tuple[str, str, str]]:
    return findings("rule", {"actions": [{"handler": "a", "instances": ["b"]}], "sampling": sampling})


def buckets(**shape: Any) -> list[tuple[str, str, str]]:
    metric = {"name": "a", "instanceName": "a", "kind": "DISTRIBUTION", "buckets": shape}
    return handler("prometheus", metrics=[metric])


@pytest.mark.parametrize(
    ("found", "field", "words"),
    [
        (handler("denyer"), "spec.compiledAdapter", "there is no adapter denyer"),
        (handler("stackdriver"), "spec.compiledAdapter", "Lateen has no adapter stackdriver"),
        (findings("stackdriver", {"project_id": "x"}), "kind", "Lateen has no adapter stackdriver"),
        (findings("handler", {}), "spec.adapter", "no adapter is named"),
        (findings("handler", {"adapter": "noop", "compiledAdapter": "denier"}), "spec.adapter", "exclude each other"),
        (findings("handler", {"adapter": "denier", "connection": {"address": "x:1"}}), "", ""),
        (findings("handler", {"adapter": "denier", "connection": {}}), "spec.connection", "no address is given"),
        (instance("kubernetes", source_uid="source.uid"), "spec.attributeBindings", "no attribute takes what is found"),
        (instance("listentry", value="$out.a"), "spec.params.value", "there is no attribute $out.a, as only"),
        (bound("source.ip", "$out.source_pod_name"), "spec.attributeBindings.source.ip", "STRING, where IP_ADDRESS"),
        (bound("$out.a", "source.uid"), "spec.attributeBindings.$out.a", "is no attribute"),
        (handler("kubernetesenv", kubeconfigPath="/a"), "spec.params.kubeconfigPath", "has no effect"),
        (handler("rbac", configStoreUrl="fs:///a"), "spec.params.configStoreUrl", "roles are those of the mesh"),
        (handler("rbac", cacheDuration="-1s"), "spec.params.cacheDuration", "below 0"),
        (handler("rbac", configStoreUrl="k8s://"), "", ""),
        (handler("zipkin", url="http://a"), "spec.params.sampleProbability", "no span is sent"),
        (
            handler(
                "prometheus",
                metricsExpirationPolicy={"metricsExpiryDuration": "1m", "expiryCheckIntervalDuration": "1s"},
            ),
            "spec.params.metricsExpirationPolicy.expiryCheckIntervalDuration",
            "no effect",
        ),
        (handler("opentelemetry", url="grpc://collector"), "spec.params.url", "is not grpc://HOST:PORT"),
        (handler("opentelemetry", url="collector:4317"), "spec.params.url", "address of the collector"),
        (handler("opentelemetry", url="grpc://collector:4317"), "", ""),
        (handler("opentelemetry", headers={"a b": "c"}), "spec.params.headers.a b", "cannot be sent"),
        (handler("fluentd", pushTimeoutDuration="-1s"), "spec.params.pushTimeoutDuration", "below 0"),
        (handler("statsd", flushDuration="-1s"), "spec.params.flushDuration", "below 0"),
        (handler("statsd", flushBytes=70000), "spec.params.flushBytes", "no datagram has more"),
        (handler("statsd", samplingRate=0), "spec.params", "nothing is sent"),
        (
            handler("prometheus", metricsExpirationPolicy={"metricsExpiryDuration": "-5s"}),
            "spec.params.metricsExpirationPolicy.metricsExpiryDuration",
            "below 0",
        ),
        (handler("opentelemetry", pushInterval="10ms"), "spec.params.pushInterval", "shorter than a second"),
        (handler("opentelemetry", sampleProbability=2), "spec.params.sampleProbability", "not between 0 and 1"),
        (
            handler("opentelemetry", metrics=[{"kind": "GAUGE", "name": "a"}]),
            "spec.params.metrics[0]",
            "no instanceName",
        ),
        (handler("denier", status={"code": 99}), "spec.params.status.code", "99 is no code"),
        (handler("denier", valid_duration="soon"), "spec.params.valid_duration", "'soon' is not a duration"),
        (handler("denier", statuss={}), "spec.params.statuss", "there is no field statuss"),
        (findings("denier", {"status": {"code": 99}}), "spec.status.code", "99 is no code"),
        (handler("listchecker", overrides=["(("], entryType="REGEX"), "spec.params.overrides[0]", "does not compile"),
        (handler("listchecker", overrides=["x"], entryType="IP_ADDRESSES"), "spec.params.overrides[0]", "not an IP"),
        (handler("listchecker", providerUrl="file:///x"), "spec.params.providerUrl", "no URL of http or https"),
        (handler("listchecker", refreshInterval="0.1s"), "spec.params.refreshInterval", "shorter than a second"),
        (
            handler("opa", checkMethod="data.a.b", url="http://x", policy=[" "]),
            "spec.params.policy[0]",
            "is empty",
        ),
        (handler("opa", url="http://x"), "spec.params.checkMethod", "no rule is named"),
        (instance("listentri"), "spec.compiledTemplate", "there is no template listentri"),
        (instance("listentry", value="source.ipp"), "", ""),
        (instance("listentry", value="source.ip ="), "spec.params.value", "at 1:11: = means nothing here"),
        (instance("authorization", subject={"user": "request.size"}), "spec.params.subject.user", "its value is INT64"),
        (instance("metric", dimensions={"a": "1 +"}), "spec.params.dimensions.a", "at 1:4: it ends"),
        (findings("listentry", {"value": "1 +"}), "spec.value", "at 1:4: it ends"),
        (findings("rule", {}), "spec", "the rule does nothing"),
        (
            findings("rule", {"actions": [{"handler": "a", "instances": ["b"], "name": "c"}]}),
            "spec.actions[0].name",
            "told to nobody",
        ),
        (sampled(random={}), "spec.sampling.random", "no share is given"),
        (sampled(random={"percentSampled": {"numerator": 101}}), f"{RANDOM}.percentSampled.numerator", "more than all"),
        (
            sampled(random={"percentSampled": {"numerator": 1}, "attributeExpression": '"a"'}),
            f"{RANDOM}.attributeExpression",
            "its value is STRING",
        ),
        (sampled(rateLimit={"samplingRate": 1}), "spec.sampling.rateLimit", "it says no time"),
        (
            sampled(rateLimit={"samplingDuration": "1s"}),
            "spec.sampling.rateLimit.samplingRate",
            "one of how many is not said",
        ),
        (
            handler("statsd", metrics={"a": {"nameTemplate": "{{.a}}-{{if .b}}x"}}),
            "spec.params.metrics.a.nameTemplate",
            "no other actions",
        ),
        (buckets(linearBuckets={"numFiniteBuckets": 3}), BUCKETS, "do not rise"),
        (buckets(exponentialBuckets={"numFiniteBuckets": 3, "growthFactor": 1, "scale": 1}), BUCKETS, "do not rise"),
        (buckets(explicitBuckets={"bounds": [1, 1]}), BUCKETS, "do not rise"),
        (
            handler("prometheus", metrics=[{**METRIC, "labelNames": ["a-b", "a.b"]}]),
            "spec.params.metrics[0].labelNames",
            "one name for Prometheus",
        ),
        (findings("rule", {"match": "1", "actions": [{"handler": "a", "instances": ["b"]}]}), "spec.match", "INT64"),
        (findings("rule", {"actions": [{"instances": ["b"]}]}), "spec.actions[0]", "names no handler"),
        (findings("rule", {"actions": [{"handler": "b"}]}), "spec.actions[0]", "names no instances"),
        (
            findings("rule", {"requestHeaderOperations": [{"name": ":path", "values": ['"x"']}]}),
            "spec.requestHeaderOperations[0].name",
            "no header that can be changed",
        ),
        (
            findings("rule", {"responseHeaderOperations": [{"name": "x", "values": ["1"]}]}),
            "spec.responseHeaderOperations[0].values[0]",
            "its value is INT64, where STRING is expected",
        ),
        (
            findings("rule", {"responseHeaderOperations": [{"name": "x", "operation": "REMOVE", "values": ['"a"']}]}),
            "spec.responseHeaderOperations[0].values",
            "REMOVE takes no values",
        ),
        (
            findings("rule", {"requestHeaderOperations": [{"name": "x", "operation": "REMOVE"}], "sampling": {}}),
            "spec.sampling",
            "it says nothing",
        ),
        (
            findings("instance", {"compiledTemplate": "checknothing"}, {"policy.istio.io/lang": "COMPAT"}),
            "metadata.annotations.policy.istio.io/lang",
            "expressions in COMPAT are not read",
        ),
    ],
)
def test_a_finding(found: list[tuple[str, str, str]], field: str, words: str) -> None:
    if not field:
        assert found == []
        return
    assert any(one[0] == field and words in one[1] and one[2] for one in found), found


def test_the_older_form_and_snake_case_are_read() -> None:
    assert findings("denier", {"status": {"code": 7}, "valid_duration": "5s"}) == []
    assert findings("checknothing", {}) == []
    assert findings("listentry", {"value": 'source.labels["version"]'}) == []
    assert handler("listchecker", overrides=["10.0.0.0/8", "::1"], entry_type="IP_ADDRESSES") == []


def test_metrics_say_what_they_are() -> None:
    metric = {"name": "a", "instanceName": "a"}
    (told,) = findings("prometheus", {"metrics": [metric]})
    assert told == ("spec.metrics[0]", "kind is required", "give kind: COUNTER or DISTRIBUTION or GAUGE")
    (told,) = findings("prometheus", {"metrics": [{**metric, "kind": "UNSPECIFIED"}]})
    assert told[0] == "spec.metrics[0].kind"
    (told,) = findings(
        "prometheus", {"metrics": [{**metric, "kind": "COUNTER", "buckets": {"explicitBuckets": {"bounds": [1]}}}]}
    )
    assert told[:2] == ("spec.metrics[0].buckets", "a COUNTER has no buckets, so these have no effect")


def test_labels_that_would_have_the_whole_page_refused_are_told() -> None:
    labels = ["__name__", "le", "1a", "a-b"]
    told = handler("prometheus", metrics=[{**METRIC, "kind": "DISTRIBUTION", "labelNames": labels}])
    assert [field for field, _, _ in told] == [f"spec.params.metrics[0].labelNames[{number}]" for number in (0, 1)]


def test_an_instance_is_of_one_template_and_has_a_value() -> None:
    both = findings("instance", {"compiledTemplate": "listentry", "template": "checknothing"})
    assert both == [
        ("spec.template", "template and compiledTemplate exclude each other", "keep the one whose template is meant")
    ]
    (told,) = findings("listentry", {})
    assert told == ("spec", "instances of listentry need value", "give value, which is an expression")
    (told,) = findings("instance", {"compiledTemplate": "metric", "params": {"dimensions": {"a": "source.user"}}})
    assert told[:2] == ("spec.params", "instances of metric need value")


def test_a_pattern_that_requests_would_give_is_told() -> None:
    (told,) = findings("rule", {"match": 'request.path.matches("^/a")', "actions": ACTIONS})
    assert told[0] == "spec.match"
    assert told[2] == 'write "PATTERN".matches(VALUE)'
    (told,) = findings("rule", {"match": "request.path.matches()", "actions": ACTIONS})
    assert told[2] == "write STRING.matches(STRING)"
    assert findings("rule", {"match": '"^/a".matches(request.path)', "actions": ACTIONS}) == []
    cel = findings("rule", {"match": 'request.path.matches("^/a")', "actions": ACTIONS}, {LANGUAGE: "CEL"})
    assert cel == []


def test_what_is_found_is_told_with_what_to_write() -> None:
    (told,) = findings("rule", {"match": '$out.source_pod_name == "a"', "actions": ACTIONS})
    assert told[2] == "bind it to an attribute, and write that"


def test_findings_have_the_line_of_their_field_in_either_spelling() -> None:
    text = """apiVersion: config.istio.io/v1alpha2
kind: prometheus
metadata: {name: one}
spec:
  metrics:
  - name: a
    instance_name: b
    kind: COUNTER
    label_names:
    - ok
    - __bad
"""
    (document,), _ = parse_documents(text.encode(), "mixer.yaml")
    resource, _ = decode(document)
    assert resource is not None
    (finding,) = validate_resource(resource)
    assert (finding.origin.field, finding.origin.line) == ("spec.metrics[0].labelNames[1]", 11)


def test_addresses_of_adapters_outside_have_a_port() -> None:
    for address, wrong in (("nohost", True), ("127.0.0.1:1", False), ("unix:///a", False), ("dns:///a:1", False)):
        found = findings("handler", {"adapter": "mine", "connection": {"address": address}})
        assert [field for field, _, _ in found] == (["spec.connection.address"] if wrong else [])
    (told,) = findings("bypass", {"backend_address": "nohost"})
    assert told[0] == "spec.backendAddress"


def test_an_adapter_outside_needs_a_connection() -> None:
    (told,) = findings("handler", {"adapter": "elsewhere"})
    assert told[2] == "give connection, for an adapter outside Mixer, or write one that docs/reference/mixer.md lists"


@pytest.mark.parametrize("name", ["Content-Length", "transfer-encoding", "connection"])
@pytest.mark.parametrize("side", ["requestHeaderOperations", "responseHeaderOperations"])
def test_headers_that_frame_a_message_are_not_changed(side: str, name: str) -> None:
    (told,) = findings("rule", {side: [{"name": name, "values": ['"1"']}]})
    assert told[0] == f"spec.{side}[0].name"


@pytest.mark.parametrize(
    ("kind", "spec", "said", "remedy"),
    [
        ("memquota", COUNTER, "me", "write proxy or mixer"),
        ("memquota", COUNTER, "mixer", ""),
        (
            "handler",
            {"compiledAdapter": "memquota", "params": COUNTER},
            "proxy",
            "",
        ),
        ("handler", {"compiledAdapter": "denier"}, "proxy", "remove it"),
        ("denier", {}, "proxy", "remove it"),
        ("checknothing", {}, "proxy", "remove it"),
        ("rule", {"actions": ACTIONS}, "proxy", "remove it"),
    ],
)
def test_who_counts_is_said_of_memquota_alone(kind: str, spec: dict[str, Any], said: str, remedy: str) -> None:
    found = findings(kind, spec, {COUNTED_BY: said})
    assert [(field, wanted) for field, _, wanted in found] == (
        [(f"metadata.annotations.{COUNTED_BY}", remedy)] if remedy else []
    )
