"""Documents to resources: strict, with every mistake told at its line."""

from __future__ import annotations

import time

import pytest

from lateen.findings import Finding
from lateen.resources.decode import decode, parse_duration
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource

HEAD = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a, namespace: n}\n"


def _decode(text: str, **options: str) -> tuple[Resource | None, tuple[Finding, ...]]:
    documents, findings = parse_documents(text.encode(), "file.yaml")
    assert not findings
    return decode(documents[0], **options)


def _told(text: str) -> list[tuple[str, str, int]]:
    return [(finding.code, finding.origin.field, finding.origin.line) for finding in _decode(text)[1]]


def test_a_resource_knows_where_its_fields_stand() -> None:
    resource, findings = _decode(HEAD + "spec:\n  hosts: [a]\n  http:\n  - timeout: 1m30s\n    route: []\n")
    assert resource is not None and not findings
    assert str(resource.key) == "VirtualService n/a"
    assert resource.spec.http[0].timeout == 90.0
    origin = resource.origin_at("spec.http[0].timeout")
    assert (origin.path, origin.line, origin.field) == ("file.yaml", 7, "spec.http[0].timeout")
    assert resource.origin_at("spec.http[0].retries.attempts").line == 7


def test_all_mistakes_of_a_document_are_told() -> None:
    text = HEAD + (
        "spec:\n  host: [a]\n  http:\n  - timeout: soon\n    match:\n    - uri: {prefx: /}\n      port: many\n"
        "    corsPolicy: {unmatchedPreflights: LATER}\n"
    )
    assert _told(text) == [
        ("unknown-field", "spec.host", 5),
        ("invalid-value", "spec.http[0].timeout", 7),
        ("unknown-field", "spec.http[0].match[0].uri.prefx", 9),
        ("wrong-type", "spec.http[0].match[0].port", 10),
        ("invalid-value", "spec.http[0].corsPolicy.unmatchedPreflights", 11),
    ]
    remedies = [finding.remedy for finding in _decode(text)[1]]
    assert remedies[0] == "did you mean hosts?"
    assert remedies[2] == "did you mean prefix?"


def test_snake_case_names_and_nulls_are_accepted() -> None:
    resource, findings = _decode(HEAD + "spec:\n  hosts: [a]\n  export_to: [.]\n  gateways: null\n")
    assert resource is not None and not findings
    assert resource.spec.export_to == (".",)


@pytest.mark.parametrize("value", ["yes", "5", "{a: 1}", "[a]", "null"])
def test_values_of_the_wrong_type(value: str) -> None:
    found = _told(HEAD + f"spec:\n  hosts:\n  - {value}\n")
    wrong = value not in ("yes",)
    assert [code for code, _, _ in found] == (["wrong-type"] if wrong else [])


def test_an_address_that_yaml_took_for_a_mapping() -> None:
    _, findings = _decode(HEAD + "spec:\n  hosts:\n  - 2001:db8::\n")
    assert findings[0].remedy == 'put it into quotes: "2001:db8::"'


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("kind: VirtualService\n", "missing-kind"),
        ("- 1\n", "not-a-resource"),
        (HEAD.replace("/v1", "/v3"), "unknown-version"),
        (HEAD.replace("VirtualService", "VirtualServise"), "unknown-kind"),
        ("apiVersion: config.istio.io/v1alpha2\nkind: rules\nmetadata: {name: a}\n", "unknown-kind"),
        ("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n", "ignored-kind"),
        (HEAD.replace("{name: a, namespace: n}", "{}"), "missing-name"),
    ],
)
def test_documents_that_give_no_resource(text: str, code: str) -> None:
    resource, findings = _decode(text)
    assert resource is None
    assert [finding.code for finding in findings] == [code]
    assert findings[0].is_error is (code != "ignored-kind")


@pytest.mark.parametrize(
    ("metadata", "field", "message", "remedy"),
    [
        ("{name: 5}", "metadata.name", "5 stands where text is expected", 'put it into quotes: "5"'),
        (
            "{name: a, namespace: 17}",
            "metadata.namespace",
            "17 stands where text is expected",
            'put it into quotes: "17"',
        ),
        ("{name: a, labels: []}", "metadata.labels", "labels are no mapping", "write a name and a text for each"),
        (
            "{name: a, annotations: text}",
            "metadata.annotations",
            "annotations are no mapping",
            "write a name and a text for each",
        ),
        ("{name: a, namespace: [b]}", "metadata.namespace", "a list stands where text is expected", "write text"),
    ],
)
def test_names_that_are_no_text_are_told_and_never_taken_for_the_default(
    metadata: str, field: str, message: str, remedy: str
) -> None:
    resource, findings = _decode(HEAD.replace("{name: a, namespace: n}", metadata))
    assert resource is None
    assert [(one.origin.field, one.message, one.remedy) for one in findings] == [(field, message, remedy)]


def test_true_without_quotes_is_true_in_annotations() -> None:
    resource, _ = _decode(HEAD.replace("namespace: n}", "annotations: {istio.io/dry-run: true}}"))
    assert resource is not None
    assert resource.annotations == {"istio.io/dry-run": "true"}


def test_mesh_config_needs_neither_kind_nor_name() -> None:
    resource, findings = _decode("trustDomain: a.b\nconnectTimeout: 5s\n", kind_hint="MeshConfig")
    assert resource is not None and not findings
    assert (resource.spec.trust_domain, resource.spec.connect_timeout) == ("a.b", 5.0)
    resource, findings = _decode("kind: MeshConfig\ntrustDomian: a.b\n")
    assert resource is None
    assert (findings[0].code, findings[0].origin.line) == ("unknown-field", 2)


def test_secrets_show_no_values() -> None:
    text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ntype: kubernetes.io/tls\nstringData: {tls.key: hidden}\n"
    resource, _ = _decode(text)
    assert resource is not None
    assert "hidden" not in repr(resource.spec)
    assert resource.spec.value("tls.key") == b"hidden"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10s", 10),
        ("0.5s", 0.5),
        ("100ms", 0.1),
        ("1m", 60),
        ("1h30m", 5400),
        ("0s", 0),
        ("-1s", -1),
        ("250us", 0.00025),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "10", "s", "1 s", "1d", "1s1", "--1s", "1e3s", "9" * 80 + "s"])
def test_no_durations(text: str) -> None:
    with pytest.raises(ValueError, match="not a duration"):
        parse_duration(text)


def test_two_hundred_documents_take_little_time() -> None:
    one = (
        HEAD
        + "spec:\n  hosts: [a]\n  http:\n"
        + "  - match: [{uri: {prefix: /x}}]\n    route:\n    - destination:\n        host: a\n"
    )
    data = "\n---\n".join([one] * 200).encode()
    started = time.process_time()
    documents, _ = parse_documents(data, "file.yaml")
    resources = [decode(document)[0] for document in documents]
    assert len([resource for resource in resources if resource]) == 200
    assert time.process_time() - started < 5.0
