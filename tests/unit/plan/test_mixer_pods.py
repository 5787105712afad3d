"""What the adapter ``kubernetesenv`` knows of: replicas that run, gateways, and Pods that files tell of."""

from __future__ import annotations

import asyncio
import ipaddress
from typing import Any

from lateen.control.mixer_link import order_of
from lateen.mesh.build import build_snapshot
from lateen.mixer.adapters.kubernetesenv import KubernetesEnv, Pods
from lateen.mixer.order import encoded, read_order
from lateen.mixer.templates import Kubernetes
from lateen.settings import Settings
from tests.unit.plan.building import gateway, resources, workload

FIND = """
apiVersion: config.istio.io/v1alpha2
kind: kubernetesenv
metadata: {name: env, namespace: istio-system}
spec: {}
---
apiVersion: config.istio.io/v1alpha2
kind: kubernetes
metadata: {name: who, namespace: istio-system}
spec: {source_ip: source.ip, attribute_bindings: {source.name: $out.source_pod_name}}
---
apiVersion: config.istio.io/v1alpha2
kind: rule
metadata: {name: find, namespace: istio-system}
spec: {actions: [{handler: env.kubernetesenv, instances: [who.kubernetes]}]}
---
"""
PODS = """
apiVersion: v1
kind: Pod
metadata: {name: web-5f7-x2x, namespace: shop, labels: {app: web, pod-template-hash: 5f7}}
spec:
  serviceAccountName: seller
  containers:
  - {name: main, ports: [{containerPort: 8080}]}
  - {name: side, ports: [{containerPort: 9090}]}
status: {podIP: 10.1.0.1, hostIP: 192.0.2.1, phase: Running}
---
apiVersion: v1
kind: Pod
metadata: {name: done, namespace: shop}
spec: {containers: []}
status: {podIP: 10.1.0.2, phase: Succeeded}
"""


def found(text: str, **asked: Any) -> dict[str, object]:
    """What is found by an order as the mixer reads it."""
    given = resources(text)
    snapshot = build_snapshot(Settings(), given, [workload("a"), gateway()])
    order = read_order(encoded(order_of(snapshot, given, ())))
    return asyncio.run(KubernetesEnv(lambda: Pods(order.pods)).find(Kubernetes(**asked)))


def test_a_replica_that_runs_here() -> None:
    told = found(
        FIND + PODS, source_ip=ipaddress.ip_address("240.241.0.9"), destination_uid="kubernetes://a-v1-0.default"
    )
    assert told["source_pod_uid"] == "kubernetes://a-v1-0.default"
    assert told["source_labels"] == {"app": "a", "version": "v1"}
    assert told["source_owner"] == "kubernetes://apis/apps/v1/namespaces/default/deployments/a-v1"
    assert told["destination_workload_name"] == "a-v1"
    assert "source_host_ip" not in told


def test_a_gateway_calls_too() -> None:
    assert found(FIND, source_ip=ipaddress.ip_address("240.241.0.1"))["source_workload_name"] == "ingress"


def test_a_pod_that_a_file_tells_of() -> None:
    uid = "kubernetes://web-5f7-x2x.shop"
    told = found(FIND + PODS, source_ip=ipaddress.ip_address("10.1.0.1"), destination_uid=uid, destination_port=9090)
    assert (told["source_workload_name"], told["source_service_account_name"]) == ("web", "seller")
    assert told["source_host_ip"] == ipaddress.ip_address("192.0.2.1")
    assert told["destination_container_name"] == "side"
    assert found(FIND + PODS, source_ip=ipaddress.ip_address("10.1.0.2")) == {}


def test_without_a_rule_that_asks_nothing_is_known() -> None:
    without = "---".join(FIND.split("---")[:2]) + "---" + PODS
    given = resources(without)
    assert order_of(build_snapshot(Settings(), given, [workload("a")]), given, ()).pods == ()
