"""The seam from resources to plans, field by field: each case is a file ``cases/NAME.yaml`` of resources.

Its first document may say who is planned and who runs beside it, where that matters (all of it is optional):

    proxy: {type: gateway, namespace: shop, labels: {app: client}}
    workloads:
    - {name: reviews-v1, labels: {app: reviews, version: v1}, ports: {http: 8080}, locality labels and so on}
    settings: {outbound_policy: REGISTRY_ONLY}

``expected/NAME.json`` holds the findings and the plan, without what every proxy has. The table in
``docs/reference`` from field to test is made from the fields that these cases set.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import yaml

from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.plan.model import Destinations
from lateen.plan.planner import Planned, Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.names import BUILT_IN
from lateen.values.protocol import parse_protocol
from tests.golden.resources_to_plan.golden import as_text
from tests.golden.writing import rewrite_folder

CASES = Path(__file__).parent / "cases"
FOLDER = Path(__file__).parent / "expected"
HEAD = {"proxy", "workloads", "settings"}
USUAL_TELEMETRY = ("reporter", "tags", "access_log_format")


def cases() -> list[str]:
    return sorted(path.stem for path in CASES.glob("*.yaml"))


def resources_of(case: str) -> tuple[dict[str, Any], list[Resource]]:
    """The head of a case (empty where it has none) and its resources. Wrong resources fail."""
    path = CASES / f"{case}.yaml"
    documents = list(yaml.safe_load_all(path.read_text()))
    has_head = bool(documents) and HEAD.issuperset(documents[0])
    text = path.read_text()
    found: list[Resource] = []
    parsed, findings = parse_documents(text.encode(), path.name)
    assert not findings, findings
    for document in parsed[1:] if has_head else parsed:
        resource, problems = decode(document)
        assert resource is not None, problems
        found.append(resource)
    return (documents[0] if has_head else {}), found


def _workload(fields: dict[str, Any], place: int) -> Workload:
    labels = {"app": fields["name"], **fields.get("labels", {})}
    ports = tuple(
        WorkloadPort(name, number, number, parse_protocol(name)) for name, number in fields.get("ports", {}).items()
    )
    return Workload(
        id=f"{fields['name']}-0",
        namespace=fields.get("namespace", "default"),
        name=fields["name"],
        labels=tuple(sorted(labels.items())),
        service_account=fields.get("service_account", labels["app"]),
        address=fields.get("address", f"240.241.0.{place}"),
        ports=ports,
        ready=fields.get("ready", True),
        network=fields.get("network", "pod"),
        prefix=fields.get("prefix", 0),
        is_gateway=fields.get("type") == "gateway",
    )


def rendered(case: str) -> str:
    """What the file of a case should hold."""
    head, resources = resources_of(case)
    own = _workload({"name": "client", **head.get("proxy", {})}, 1)
    others = [_workload(fields, place) for place, fields in enumerate(head.get("workloads", []), 2)]
    settings = Settings(**head.get("settings", {}))
    planned = Planner(build_snapshot(settings, resources, [own, *others])).plan(proxy_of(own))
    return json.dumps(_without(json.loads(as_text(_without_common(planned)))), indent=1) + "\n"


def _without(value: Any) -> Any:
    """The same without the proxy, which is alike in all cases, and without telemetry where it is as usual."""
    if isinstance(value, dict):
        kept = {name: item for name, item in value.items() if name != "proxy" and item != _usual(item, name)}
        return {name: _without(item) for name, item in kept.items()}
    return [_without(item) for item in value] if isinstance(value, list) else value


def _usual(item: Any, name: str) -> Any:
    return {field: item[field] for field in USUAL_TELEMETRY if field in item} if name == "telemetry" else None


def _without_common(planned: Planned) -> Planned:
    """Leave out the clusters and listeners that every proxy has."""
    plan = planned.plan
    return msgspec.structs.replace(
        planned,
        plan=msgspec.structs.replace(
            plan,
            listeners=tuple(found for found in plan.listeners if found.origin != BUILT_IN),
            clusters=tuple(found for found in plan.all_clusters if found.origin != BUILT_IN),
            endpoints=plan.all_endpoints,
            shared=Destinations(),
        ),
    )


def rewrite() -> list[Path]:
    """Write every file that differs and remove those of no case; gives what changed."""
    return rewrite_folder(FOLDER, {case: rendered(case) for case in cases()})
