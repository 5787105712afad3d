"""Small helpers that turn YAML into snapshots and plans, for tests that speak as a user writes."""

from __future__ import annotations

import textwrap

from lateen.mesh.build import build_snapshot
from lateen.mesh.model import Workload, WorkloadPort
from lateen.plan.planner import Planner, proxy_of
from lateen.resources.decode import decode
from lateen.resources.documents import parse_documents
from lateen.settings import Settings
from lateen.values.protocol import Protocol


def resources(text, path="test.yaml"):
    documents, findings = parse_documents(textwrap.dedent(text).encode(), path)
    assert not findings, findings
    result = []
    for document in documents:
        resource, problems = decode(document)
        assert resource is not None, problems
        result.append(resource)
    return tuple(result)


def service(name, namespace="default", ports="[{name: http, port: 80}]"):
    return f"""
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: {namespace}}}
spec: {{selector: {{app: {name}}}, ports: {ports}}}
---
"""


def workload(name, namespace="default", version="v1", ready=True, address="240.241.0.9", **more):
    fields = {
        "id": f"{name}-{version}-0",
        "namespace": namespace,
        "name": f"{name}-{version}",
        "labels": (("app", name), ("version", version)),
        "service_account": name,
        "address": address,
        "ports": (WorkloadPort("http", 80, 8080, Protocol.HTTP),),
        "ready": ready,
    }
    return Workload(**{**fields, **more})


def gateway(namespace="default"):
    labels = (("istio", "ingressgateway"),)
    return Workload("ingress-0", namespace, "ingress", labels, "ingress", "240.241.0.1", is_gateway=True, ready=True)


def snapshot(text, *workloads, **settings):
    return build_snapshot(Settings(**settings), resources(text), workloads)


def plan(text, who, *others, **settings):
    return Planner(snapshot(text, who, *others, **settings)).plan(proxy_of(who)).plan


def table(planned, name):
    return next(found for found in planned.route_tables if found.name == name)


def host(planned, table_name, host_name):
    return next(found for found in table(planned, table_name).virtual_hosts if found.name == host_name)


def cluster(planned, name):
    return next(found for found in planned.all_clusters if found.name == name)


def endpoints(planned, name):
    found = next(entry for entry in planned.all_endpoints if entry.cluster == name)
    return sorted(f"{one.address}:{one.port}" for group in found.localities for one in group.endpoints)
