"""The example's files belong together: what the resources name is what lateen.yaml runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from lateen.local.project import Project
from lateen.local.project_file import read_project

EXAMPLE = Path(__file__).parents[2] / "examples" / "bookinfo"
FILES = sorted([*EXAMPLE.glob("mesh/*.yaml"), *EXAMPLE.glob("tasks/*.yaml")])


def documents(file: Path) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(file.read_text()))


def of_kind(kind: str) -> list[tuple[Path, dict[str, Any]]]:
    return [(file, document) for file in FILES for document in documents(file) if document["kind"] == kind]


@pytest.fixture(scope="module")
def project() -> Project:
    file = EXAMPLE / "lateen.yaml"
    project, findings = read_project(file.read_bytes(), str(file))
    assert findings == []
    assert project is not None
    return project


def test_current_api_versions() -> None:
    networking = dict.fromkeys(("Gateway", "VirtualService", "DestinationRule"), "networking.istio.io/v1")
    versions = {**networking, "Telemetry": "telemetry.istio.io/v1", "MeshConfig": "mesh.istio.io/v1alpha1"}
    for file in FILES:
        for document in documents(file):
            assert document["apiVersion"] == versions.get(document["kind"], "security.istio.io/v1")


def test_every_task_explains_itself() -> None:
    assert all(file.read_text().startswith("# ") for file in FILES)


def test_routes_lead_to_services_and_subsets_that_exist(project: Project) -> None:
    services = {service.name for service in project.services}
    versions = {(workload.service, workload.version) for workload in project.workloads}
    subsets = {
        (document["spec"]["host"], subset["name"]): subset["labels"]["version"]
        for _, document in of_kind("DestinationRule")
        for subset in document["spec"].get("subsets", [])
    }
    assert set(subsets) <= versions
    for file, document in of_kind("VirtualService"):
        for route in document["spec"]["http"]:
            mirror = [route["mirror"]] if "mirror" in route else []
            for destination in [entry["destination"] for entry in route["route"]] + mirror:
                assert destination["host"] in services, file
                assert "subset" not in destination or (destination["host"], destination["subset"]) in subsets, file


def test_the_gateway_is_there(project: Project) -> None:
    ((_, gateway),) = of_kind("Gateway")
    (workload,) = project.gateways
    assert dict(workload.labels) == gateway["spec"]["selector"]
    assert {port.number for port in workload.ports} == {entry["port"]["number"] for entry in gateway["spec"]["servers"]}


def test_policies_name_identities_and_workloads_that_exist(project: Project) -> None:
    identities = {f"cluster.local/ns/{one.namespace}/sa/{one.service_account}" for one in project.workloads}
    apps = {dict(workload.labels).get("app") for workload in project.workloads}
    for file, document in of_kind("AuthorizationPolicy") + of_kind("PeerAuthentication"):
        spec = document["spec"]
        if "selector" in spec:
            assert spec["selector"]["matchLabels"]["app"] in apps, file
        for rule in spec.get("rules", []):
            for entry in rule["from"]:
                assert set(entry["source"]["principals"]) <= identities, file


def test_a_task_replaces_what_it_is_copied_over() -> None:
    """The tutorial copies reviews-*.yaml to reviews.yaml: each holds the one resource that the others hold, too."""
    for prefix in ("reviews", "ratings"):
        for file in EXAMPLE.glob(f"tasks/{prefix}-*.yaml"):
            (document,) = documents(file)
            assert (document["kind"], document["metadata"]["name"]) == ("VirtualService", prefix)
