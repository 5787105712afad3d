"""The generated reference says what the code does."""

import re
from pathlib import Path

import pytest

from docs.catalogue import monitoring, page
from docs.coverage import INVALID, coverage, uncovered, unknown_marks
from docs.generate import mesh_config, supported_fields
from docs.mixer import mixer
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.validate import validate_resource

ROOT = Path(__file__).parents[2]


def test_the_list_of_fields_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "fields.md").read_text()
    assert written == supported_fields(), "run: python -m docs.generate"


def test_the_page_on_metrics_the_dashboards_and_the_alerts_are_the_codes_own():
    assert (ROOT / "docs" / "reference" / "metrics.md").read_text() == page(), "run: python -m docs.generate"
    folder = ROOT / "docs" / "monitoring"
    assert {path.name: path.read_text() for path in folder.iterdir()} == monitoring(), "run: python -m docs.generate"


def test_tests_name_fields_that_exist():
    assert unknown_marks() == []


def test_the_page_on_the_mesh_configuration_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "mesh-config.md").read_text()
    assert written == mesh_config(), "run: python -m docs.generate"


def test_the_page_on_mixer_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "mixer.md").read_text()
    assert written == mixer(), "run: python -m docs.generate"


def test_the_table_from_field_to_test_is_the_codes_own():
    written = (ROOT / "docs" / "reference" / "coverage.md").read_text()
    assert written == coverage(), "run: python -m docs.generate"


def test_every_supported_field_is_shown_by_a_golden_case_or_a_live_test():
    assert uncovered() == []


SIDECAR = """
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: own}}
spec:
  ingress: [{{port: {{number: 9443, protocol: HTTPS, name: https{port}}}, tls: {{mode: MUTUAL, {tls}}}}}]
  egress: [{{port: {{number: 80, protocol: HTTP, name: http{port}}}, hosts: ["*/*"]}}]
"""
VALUES = {
    "subjectAltNames": "[a]",
    "httpsRedirect": "true",
    "credentialName": "a",
    "credentialNames": "[a]",
    "tlsCertificates": "[{serverCertificate: /c, privateKey: /k}]",
}


@pytest.mark.parametrize("field", sorted(INVALID["Sidecar"]))
def test_fields_that_are_called_invalid_are_refused(field: str):
    name = field.rpartition(".")[2]
    tls = f"{name}: {VALUES[name]}" if name in VALUES else "serverCertificate: /c, privateKey: /k, caCertificates: /r"
    text = SIDECAR.format(port=", targetPort: 9" if name == "targetPort" else "", tls=tls)
    (document,), _ = parse_documents(text.encode(), "f")
    resource, findings = decode(document)
    assert resource is not None, findings
    refused = [finding.origin.field for finding in validate_resource(resource) if finding.is_error]
    assert f"spec.{field.replace('[]', '[0]')}" in refused


def test_the_page_on_failures_names_tests_that_exist():
    written = (ROOT / "docs" / "reference" / "failures.md").read_text()
    named = re.findall(r"`((?:unit|envoy|features)/[^`]+)`", written)
    assert len(named) > 15
    for place in named:
        file, _, test = place.partition("::")
        text = (ROOT / "tests" / file).read_text()
        assert not test or f"def {test}(" in text, place
