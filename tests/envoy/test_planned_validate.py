"""The example's resources, planned for every proxy and kind of network: Envoy takes all of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lateen.envoy.resources import CLUSTER, ENDPOINT, ROUTE, EnvoyResources
from lateen.envoy.static import static_bootstrap
from lateen.envoy.translate import translate
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.plan.planner import Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.protocol import Protocol
from tests.envoy.harness import Authority, validate

EXAMPLE = Path(__file__).parents[2] / "examples" / "bookinfo"
TASKS = sorted(EXAMPLE.glob("tasks/*.yaml"))
APPS = (
    ("productpage", "v1"),
    ("details", "v1"),
    ("reviews", "v1"),
    ("reviews", "v2"),
    ("reviews", "v3"),
    ("ratings", "v1"),
)
HERE = "/proc/self/ns/net"


def resources(*paths: Path) -> tuple[Resource, ...]:
    found = []
    for path in paths:
        for document in parse_documents(path.read_bytes(), str(path))[0]:
            resource, findings = decode(document)
            assert resource is not None, findings
            found.append(resource)
    return tuple(found)


def services() -> tuple[Resource, ...]:
    text = "---".join(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {"selector": {"app": name}, "ports": [{"name": "http", "port": 9080}]},
            }
        )
        + "\n"
        for name in dict(APPS)
    )
    documents, _ = parse_documents(text.encode(), "services.yaml")
    return tuple(resource for document in documents if (resource := decode(document)[0]) is not None)


def workloads(network: str) -> list[Workload]:
    port = WorkloadPort("http", 9080, 9080, Protocol.HTTP)
    netns = {"workload_netns": HERE, "mesh_netns": HERE} if network == "namespaces" else {}
    apps = [
        Workload(
            f"{name}-{version}-0",
            "default",
            f"{name}-{version}",
            (("app", name), ("version", version)),
            name,
            f"240.241.0.{number}",
            ports=(port,),
            ready=True,
            network=network,
            prefix=number,
            **netns,
        )
        for number, (name, version) in enumerate(APPS, 1)
    ]
    edge = Workload(
        "ingress-0",
        "istio-system",
        "ingress",
        (("istio", "ingressgateway"),),
        "ingress",
        "240.241.0.99",
        is_gateway=True,
        ready=True,
        network=network,
        prefix=99,
        **netns,
    )
    return [*apps, edge]


@pytest.mark.parametrize("task", [None, *TASKS], ids=lambda path: path.stem if path else "as it is")
@pytest.mark.parametrize("network", ["pod", "namespaces", "loopback"])
def test_every_proxy_of_the_example(network: str, task: Path | None, tmp_path: Path) -> None:
    running = workloads(network)
    files = [*sorted(EXAMPLE.glob("mesh/*.yaml")), *([task] if task else [])]
    planner = Planner(build_snapshot(Settings(), (*services(), *resources(*files)), running))
    pem = Authority().mesh("a")
    for workload in (running[0], running[2], running[-1]):
        plan = planner.plan(proxy_of(workload), access_log="/dev/null").plan
        translated = translate(plan)
        assert whole(translated) == []
        text = static_bootstrap(plan, translated, certificate=pem.certificate, key=pem.key, roots=pem.roots)
        assert validate(text, tmp_path) == ""


def whole(found: EnvoyResources) -> list[tuple[str, str]]:
    """References that lead nowhere; routes may name clusters that do not exist, and secrets come separately."""
    return [
        (type_url, name)
        for kind, by_name in found.by_type.items()
        for resource in by_name.values()
        for type_url, name in resource.references
        if type_url in (ENDPOINT, ROUTE, CLUSTER)
        and name not in found.by_type[type_url]
        and not (kind == ROUTE and type_url == CLUSTER)
    ]
