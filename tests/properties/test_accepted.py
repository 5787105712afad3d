"""Whatever validation accepts, the real Envoy accepts. A patch of an EnvoyFilter can be judged by Envoy alone."""

from __future__ import annotations

from typing import Any

from hypothesis import given, strategies as st

from tests.properties.any_resource import documents
from tests.properties.judged import assert_taken
from tests.properties.length import examples

KINDS = (
    "VirtualService",
    "DestinationRule",
    "Gateway",
    "ServiceEntry",
    "WorkloadEntry",
    "Sidecar",
    "RequestAuthentication",
    "AuthorizationPolicy",
    "RateLimit",
)
TOLD = ("Telemetry", "Telemetry", "PeerAuthentication", "AuthorizationPolicy", "ProxyConfig", "DestinationRule")
FIRST = ("ServiceRole", "ServiceRoleBinding", "ClusterRbacConfig", "Policy", "MeshPolicy")


def some(*kinds: str) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.one_of(*map(documents, kinds)), min_size=12, max_size=24)


@given(some(*KINDS))
@examples(10, 300, shrinks=False)
def test_envoy_takes_whatever_validation_takes(found: list[dict[str, Any]]) -> None:
    assert_taken(found)


def with_provider(document: dict[str, Any]) -> dict[str, Any]:
    """The document with a provider where there has to be one, and without one elsewhere."""
    if document["kind"] != "AuthorizationPolicy":
        return document
    spec = {name: value for name, value in document["spec"].items() if name != "provider"}
    asks = spec.get("action") == "CUSTOM"
    return {**document, "spec": {**spec, "provider": {"name": "p0"}} if asks else spec}


@given(documents("MeshConfig"), some(*TOLD))
@examples(6, 300, shrinks=False)
def test_envoy_takes_what_a_mesh_says_of_all_proxies(mesh: dict[str, Any], found: list[dict[str, Any]]) -> None:
    assert_taken([mesh, *map(with_provider, found)])


@given(some(*FIRST))
@examples(5, 200, shrinks=False)
def test_envoy_takes_what_the_first_generation_says(found: list[dict[str, Any]]) -> None:
    assert_taken(found)
