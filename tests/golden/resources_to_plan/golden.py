"""The seam from resources to plans: the example with each of its tasks, as three of its proxies would be planned.

A case is a task of ``examples/bookinfo/tasks`` (or ``mesh`` for what holds at the start) and a proxy. Its file holds
the plan as JSON; origins are kept by kind, name and line, so a moved rule shows in the diff.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec

from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.plan.model import Destinations
from lateen.plan.planner import Planned, Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.protocol import Protocol
from tests.golden.writing import rewrite_folder

EXAMPLE = Path(__file__).parents[3] / "examples" / "bookinfo"
FOLDER = Path(__file__).parent / "expected"
SERVICES = ("productpage", "details", "reviews", "ratings")
PROXIES = {"productpage": "productpage-v1", "reviews": "reviews-v2", "gateway": "ingress"}


def cases() -> dict[str, tuple[str, str]]:
    """Name of each case -> (task, proxy)."""
    tasks = ["mesh", *sorted(path.stem for path in (EXAMPLE / "tasks").glob("*.yaml"))]
    return {f"{task}.{proxy}": (task, proxy) for task in tasks for proxy in PROXIES}


def _resources(task: str) -> list[Resource]:
    files = sorted((EXAMPLE / "mesh").glob("*.yaml"))
    if task != "mesh":
        files.append(EXAMPLE / "tasks" / f"{task}.yaml")
    found = [_of(file.read_bytes(), file.name) for file in files]
    text = "---\n".join(
        f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\n"
        f"spec: {{selector: {{app: {name}}}, ports: [{{name: http, port: 9080}}]}}\n"
        for name in SERVICES
    )
    return [resource for resources in (*found, _of(text.encode(), "services.yaml")) for resource in resources]


def _of(data: bytes, name: str) -> list[Resource]:
    return [resource for resource, _ in map(decode, parse_documents(data, name)[0]) if resource is not None]


def _workloads() -> list[Workload]:
    ports = (WorkloadPort("http", 9080, 9080, Protocol.HTTP),)
    running = [("productpage", "v1"), ("details", "v1"), ("ratings", "v1"), *(("reviews", f"v{n}") for n in (1, 2, 3))]
    found = [
        Workload(
            id=f"{app}-{version}",
            namespace="default",
            name=f"{app}-{version}",
            labels=(("app", app), ("version", version)),
            service_account=f"bookinfo-{app}",
            address=f"240.241.0.{place}",
            ports=ports,
            ready=True,
        )
        for place, (app, version) in enumerate(running, 1)
    ]
    labels = (("istio", "ingressgateway"),)
    gateway = Workload(
        "ingress", "istio-ingress", "ingress", labels, "bookinfo-gateway", "240.241.0.9", is_gateway=True
    )
    return [*found, gateway]


def rendered(case: str) -> str:
    """The plan of a case as its file should hold it."""
    task, proxy = cases()[case]
    snapshot = build_snapshot(Settings(), _resources(task), _workloads())
    planned = Planner(snapshot).plan(proxy_of(snapshot.workloads[PROXIES[proxy]]))
    return as_text(planned)


def as_text(planned: Planned) -> str:
    """A plan with its findings, as a golden file holds it."""
    plan = planned.plan
    whole = msgspec.structs.replace(
        plan, clusters=plan.all_clusters, endpoints=plan.all_endpoints, shared=Destinations()
    )
    value: Any = msgspec.to_builtins(
        msgspec.structs.replace(planned, plan=whole), str_keys=True, builtin_types=(bytes,), enc_hook=float
    )
    return json.dumps(_short(value), indent=1, default=lambda data: data.decode()) + "\n"


def _short(value: Any) -> Any:
    """Leave out what is empty, and write an origin on one line."""
    if isinstance(value, dict):
        if {"kind", "namespace", "name", "path", "line", "field"} == value.keys():
            place = f"{value['path']}:{value['line']} " if value["path"] else ""
            return f"{place}{value['kind']} {value['namespace']}/{value['name']} {value['field']}".strip()
        found = {name: _short(item) for name, item in value.items()}
        return {name: item for name, item in found.items() if item not in (None, [], {}, "")}
    return [_short(item) for item in value] if isinstance(value, list | tuple) else value


def rewrite() -> list[Path]:
    """Write every file that differs and remove those of no case; gives what changed."""
    return rewrite_folder(FOLDER, {case: rendered(case) for case in cases()})
