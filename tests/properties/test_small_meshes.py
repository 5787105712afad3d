"""Whatever validation accepts, the real Envoy accepts, in small meshes: large ones hide one resource behind another."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from tests.properties.any_resource import documents
from tests.properties.judged import assert_taken
from tests.properties.kubernetes_leaves import metadata
from tests.properties.length import examples

ROUTING = ("VirtualService", "DestinationRule", "Gateway", "ServiceEntry", "WorkloadEntry", "Sidecar")
POLICIES = ("RequestAuthentication", "AuthorizationPolicy", "PeerAuthentication", "RateLimit")
TOLD = ("Telemetry", "Telemetry", "ProxyConfig", "ServiceEntry", "VirtualService", "Service")
CLUSTER = ("Service", "Service", "Ingress", "IngressClass", "Pod", "EndpointSlice", "Endpoints")


def small(*kinds: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.one_of(*map(placed, kinds)), min_size=2, max_size=4)


def placed(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    return st.tuples(metadata(kind), documents(kind)).map(lambda one: {**one[1], "metadata": one[0]})


@given(small(*ROUTING, *POLICIES))
@examples(12, 1000, shrinks=False)
def test_envoy_takes_a_few_resources(found: list[dict[str, Any]]) -> None:
    assert_taken(found)


@given(small(*CLUSTER, *CLUSTER, *ROUTING))
@examples(12, 1000, shrinks=False)
def test_envoy_takes_what_a_cluster_says(found: list[dict[str, Any]]) -> None:
    assert_taken(found)


@given(documents("MeshConfig"), small(*TOLD))
@examples(10, 1000, shrinks=False)
def test_envoy_takes_what_a_small_mesh_says_of_all_proxies(mesh: dict[str, Any], found: list[dict[str, Any]]) -> None:
    assert_taken([mesh, *found])
