"""The translation as a whole: what comes out, what it refers to, that it is the same every time."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import pytest
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.extensions.filters.network.http_connection_manager.v3 import http_connection_manager_pb2

from lateen.envoy import external, local_limits, mixer, shared_limits
from lateen.envoy.dynamic_dns import DYNAMIC_DNS_FILTER
from lateen.envoy.http_connection import GRPC_WEB_FILTER, HTTP_FILTERS, ROUTER_FILTER
from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource
from lateen.envoy.secrets import translate_secret
from lateen.envoy.static import static_bootstrap, to_json
from lateen.envoy.translate import translate, with_secrets
from lateen.plan.access.model import TOKEN_FILTER
from lateen.plan.clusters import Cluster, Discovery
from lateen.plan.tls import SecretRef
from lateen.values.names import ResourceKey
from tests.golden.plan_to_envoy.cases import CASES, REVIEWS, ROUTES, gateway, plan_of, route_features, sidecar

PRINT_VERSIONS = """
from lateen.envoy.translate import translate
from tests.golden.plan_to_envoy.cases import CASES
for case, build in CASES.items():
    for found in translate(build()).by_type.values():
        for name, resource in found.items():
            print(case, name, resource.version)
"""


def versions(seed: str) -> str:
    environment = {"PYTHONHASHSEED": seed, "PATH": ""}
    return subprocess.run(
        [sys.executable, "-c", PRINT_VERSIONS], env=environment, capture_output=True, text=True, check=True
    ).stdout


def test_versions_are_the_same_in_every_process() -> None:
    first = versions("1")
    assert first == versions("2")
    assert "virtualInbound" in first


def test_a_version_is_a_hash_of_the_content() -> None:
    by_name = translate(sidecar()).by_type[CLUSTER]
    assert all(len(found.version) == 32 for found in by_name.values())
    assert len({found.version for found in by_name.values()}) == len({found.body for found in by_name.values()})


def test_what_is_shared_is_made_once() -> None:
    first, second = translate(sidecar()).by_type, translate(sidecar()).by_type
    for type_url in (CLUSTER, ENDPOINT, ROUTE, LISTENER):
        for name, found in first[type_url].items():
            assert found is second[type_url][name]


def test_another_origin_is_another_resource_with_the_same_version() -> None:
    plan = plan_of(clusters=(Cluster("a", Discovery.NONE, ROUTES),))
    moved = msgspec.structs.replace(plan, clusters=(Cluster("a", Discovery.NONE, ROUTES.at("spec.host", 9)),))
    first, second = (translate(found).by_type[CLUSTER]["a"] for found in (plan, moved))
    assert first.version == second.version
    assert second.origin is not None
    assert second.origin.line == 9


def test_references_lead_to_what_is_needed_first() -> None:
    by_type = translate(sidecar()).by_type
    assert by_type[CLUSTER][REVIEWS].references == ((ENDPOINT, REVIEWS),)
    assert by_type[CLUSTER]["PassthroughCluster"].references == ()
    assert by_type[ROUTE]["9080"].references == ((CLUSTER, REVIEWS), (CLUSTER, "PassthroughCluster"))
    assert by_type[LISTENER]["0.0.0.0_9080"].references == ((ROUTE, "9080"),)
    assert by_type[LISTENER]["virtualInbound"].references == (
        (ROUTE, "inbound|9080||"),
        (CLUSTER, "InboundPassthroughCluster"),
    )
    assert (SECRET, "kubernetes://shop") in translate(gateway()).by_type[LISTENER]["0.0.0.0_8443"].references


def test_mirrors_are_references_too() -> None:
    references = translate(route_features()).by_type[ROUTE]["9080"].references
    assert {(CLUSTER, name) for name in ("v1", "v2", "v3")} <= set(references)


@pytest.mark.parametrize("case", CASES)
def test_references_to_endpoints_and_tables_are_kept(case: str) -> None:
    by_type = translate(CASES[case]()).by_type
    for found in by_type.values():
        for resource in found.values():
            for type_url, name in resource.references:
                assert type_url in (CLUSTER, SECRET) or name in by_type[type_url]


def test_a_cluster_that_waits_for_endpoints_gets_an_answer() -> None:
    by_type = translate(plan_of(clusters=(Cluster("a", Discovery.EDS, ROUTES),))).by_type
    assert endpoint_pb2.ClusterLoadAssignment.FromString(by_type[ENDPOINT]["a"].body).cluster_name == "a"


def test_secrets_are_added_from_keys() -> None:
    source = ResourceKey("Secret", "istio-system", "shop")
    made = translate_secret(SecretRef("kubernetes://shop", source=source), b"CERT", b"KEY", b"")
    assert made.origin is not None
    assert made.origin.name == "shop"
    resources = with_secrets(translate(gateway()), [made])
    assert resources.by_type[SECRET] == {"kubernetes://shop": made}
    assert with_secrets(resources, []).by_type[SECRET] == {}


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="neither a certificate"):
        translate_secret(SecretRef("s"), b"CERT", b"", b"")


def test_readable_json_keeps_keys_to_itself() -> None:
    made = translate_secret(SecretRef("s"), b"CERT", b"PRIVATE", b"")
    readable = to_json(with_secrets(translate(gateway()), [made]))
    assert set(readable) == {"listeners", "routes", "clusters", "endpoints", "secrets"}
    assert "(redacted)" in str(readable["secrets"])
    assert "UFJJVkFURQ" not in str(readable)


def test_the_static_file_asks_nobody() -> None:
    for build in CASES.values():
        plan = build()
        text = static_bootstrap(plan, translate(plan), certificate=b"C", key=b"K", roots=b"R").decode()
        assert '"ads"' not in text
        assert "sds_config" not in text
        assert '"rds"' not in text


def test_translation_leaves_its_input_and_output_apart() -> None:
    """Messages that are shared are never changed: the bytes of one proxy do not depend on those made before."""
    alone = translate(gateway()).by_type[ROUTE]["http.80"]
    for build in CASES.values():
        translate(build())
    assert translate(gateway()).by_type[ROUTE]["http.80"] == alone


# --- the table of filters --------------------------------------------------------------------------------------------


def test_every_filter_has_a_reason_and_the_router_is_last() -> None:
    assert HTTP_FILTERS[-1].name == ROUTER_FILTER
    assert all(len(row.reason) > 20 and row.reason.endswith(".") for row in HTTP_FILTERS)
    assert len({row.name for row in HTTP_FILTERS}) == len(HTTP_FILTERS)


def test_the_chain_has_its_filters_in_the_tables_order() -> None:
    found: EnvoyResource = translate(sidecar()).by_type[LISTENER]["virtualInbound"]
    body = listener_pb2.Listener.FromString(found.body).filter_chains[0].filters[-1].typed_config.value
    manager = http_connection_manager_pb2.HttpConnectionManager.FromString(body)
    names = [one.name for one in manager.http_filters]
    places = {row.name: names.index(row.name) if row.name in names else -1 for row in HTTP_FILTERS}
    assert {name for name, place in places.items() if place == -1} == {
        GRPC_WEB_FILTER,
        DYNAMIC_DNS_FILTER,
        TOKEN_FILTER,
        external.HTTP_FILTER,
        local_limits.KEYS_FILTER,
        local_limits.LOCAL_FILTER,
        shared_limits.CLOSED_FILTER,
        mixer.DENIAL_FILTER,
        mixer.CACHE_FILTER,
        mixer.CHECK_FILTER,
    }
    found_at = [place for place in places.values() if place != -1]
    assert found_at == sorted(found_at)
