"""EnvoyFilter: values that Envoy does not know are found at their line, and merging follows Istio's rules."""

from __future__ import annotations

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf import json_format

from lateen.control.coordinator import Coordinator
from lateen.envoy.patches.check import check_patches
from lateen.envoy.patches.merging import merge
from lateen.envoy.resources import CLUSTER, LISTENER, ROUTE, EnvoyResources
from lateen.resources.resource import Resource
from lateen.resources.support import check_support
from lateen.settings import Settings
from tests.envoy.filter_support import envoy_filter, lua, mark, patch
from tests.unit.plan.building import resources, service, workload

LIMIT = "type.googleapis.com/envoy.extensions.filters.http"


def one(*patches: str, head: str = "") -> Resource:
    return resources(envoy_filter("f", *patches, head=head))[0]


@pytest.mark.parametrize(
    ("value", "told", "field"),
    [
        ("{connect_timeout: 3s, nope: 1}", "nope", ""),
        ("{circuit_breakers: {thresholds: [{nope: 1}]}}", "nope", ".circuit_breakers.thresholds[0]"),
        ("{type: SOMETIMES}", "SOMETIMES", ".type"),
        ("{connect_timeout: often}", "often", ".connect_timeout"),
        (f'{{transport_socket: {{name: a, typed_config: {{"@type": {LIMIT}.nope.v3.Nope}}}}}}', "no type", ""),
        ('{transport_socket: {name: a, typed_config: {"@type": type.googleapis.com/istio.Stats}}}', "no type", ""),
        (f'{{transport_socket: {{name: a, typed_config: {{"@type": {LIMIT}.gzip.v3.Gzip}}}}}}', "built without", ""),
    ],
)
def test_a_value_that_envoy_does_not_know_is_told_where_it_stands(value: str, told: str, field: str) -> None:
    found = check_patches(one(patch("CLUSTER", "MERGE", value)))
    assert [finding.code for finding in found] == ["wrong-envoy-value"]
    assert told in found[0].message
    assert found[0].origin.field.startswith(f"spec.configPatches[0].patch.value{field}")
    assert found[0].remedy
    assert found[0].origin.line > 0


def test_what_an_added_thing_is_called_must_be_said_and_a_merge_does_not_rename() -> None:
    assert [found.code for found in check_patches(one(patch("CLUSTER", "ADD", "{connect_timeout: 1s}")))] == [
        "missing-field"
    ]
    found = check_patches(one(patch("CLUSTER", "MERGE", "{name: other}")))
    assert [(finding.code, finding.is_error) for finding in found] == [("without-effect", False)]
    assert not check_patches(one(patch("HTTP_FILTER", "ADD", mark("a"))))


@pytest.mark.parametrize(
    ("text", "head"),
    [
        (patch("BOOTSTRAP", "MERGE", "{}"), ""),
        (patch("ROUTE_CONFIGURATION", "ADD", "{name: a}"), ""),
        (patch("CLUSTER", "INSERT_FIRST", "{name: a}"), ""),
        (patch("HTTP_FILTER", "REMOVE", "", "context: WAYPOINT"), ""),
        (patch("LISTENER", "REMOVE", "", "listener: {portName: http}"), ""),
        (patch("HTTP_FILTER", "INSERT_FIRST", mark("a"), "", ", filterClass: STATS"), ""),
        (patch("CLUSTER", "REMOVE"), "targetRefs: [{kind: Gateway, group: gateway.networking.k8s.io, name: a}]\n"),
    ],
)
def test_what_would_have_no_effect_is_refused(text: str, head: str) -> None:
    assert [finding.code for finding in check_support(one(text, head=head))] == ["unsupported-field"]


def merged(first: dict[str, object], second: dict[str, object], *, replace_lists: bool = False) -> dict[str, object]:
    target, source = (json_format.ParseDict(value, Cluster()) for value in (first, second))
    merge(target, source, second, replace_lists=replace_lists)
    found: dict[str, object] = json_format.MessageToDict(target, preserving_proto_field_name=True)
    return found


def test_messages_are_merged_lists_appended_and_durations_taken_whole() -> None:
    lists = [{"connect_timeout": "1.5s", "health_checks": [{"timeout": f"{n}s"}]} for n in (1, 2)]
    assert [check["timeout"] for check in merged(*lists)["health_checks"]] == ["1s", "2s"]  # type: ignore[attr-defined]
    assert len(merged(*lists, replace_lists=True)["health_checks"]) == 1  # type: ignore[arg-type]
    assert merged({"connect_timeout": "1.5s"}, {"connect_timeout": "2s"}) == {"connect_timeout": "2s"}
    assert merged({"lb_policy": "RANDOM"}, {"lbPolicy": "ROUND_ROBIN"}) == {}
    outlier = merged({"outlier_detection": {"interval": "1s"}}, {"outlier_detection": {"consecutive_5xx": 0}})
    assert outlier == {"outlier_detection": {"interval": "1s", "consecutive_5xx": 0}}


def test_content_of_one_type_is_merged_and_of_another_taken() -> None:
    tls = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
    raw = "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"

    def socket(**content: object) -> dict[str, object]:
        return {"transport_socket": {"name": "socket", "typed_config": content}}

    check_patches(
        one(patch("CLUSTER", "MERGE", f'{{transport_socket: {{name: a, typed_config: {{"@type": {tls}}}}}}}'))
    )
    check_patches(
        one(patch("CLUSTER", "MERGE", f'{{transport_socket: {{name: a, typed_config: {{"@type": {raw}}}}}}}'))
    )
    first = socket(**{"@type": tls, "sni": "a"})
    both = merged(first, socket(**{"@type": tls, "allow_renegotiation": True}))
    assert both == socket(**{"@type": tls, "sni": "a", "allow_renegotiation": True})
    assert merged(first, socket(**{"@type": raw})) == socket(**{"@type": raw})


def test_only_what_a_patch_matches_is_made_anew_and_a_patch_without_effect_is_told() -> None:
    given: dict[str, EnvoyResources | None] = {}
    coordinator = Coordinator(Settings(), given.__setitem__)
    client = workload("client", address="240.241.0.2")
    base = tuple(resources(service("a") + service("b")))
    coordinator.update(base, [client])
    before = given[client.id]
    text = envoy_filter(
        "f",
        patch(
            "CLUSTER",
            "MERGE",
            "{connect_timeout: 3s}",
            "context: SIDECAR_OUTBOUND, cluster: {service: a.default.svc.cluster.local}",
        ),
        patch("HTTP_FILTER", "INSERT_AFTER", lua("x"), "listener: {filterChain: {filter: {name: nothing}}}"),
        patch("HTTP_FILTER", "REMOVE", "", "context: GATEWAY"),
    )
    coordinator.update((*base, *resources(text)), [client])
    after = given[client.id]
    assert before is not None and after is not None
    changed = [
        name
        for kind, named in after.by_type.items()
        for name, found in named.items()
        if found is not before.by_type[kind][name]
    ]
    assert changed == ["outbound|80||a.default.svc.cluster.local"]
    assert after.by_type[LISTENER].keys() == before.by_type[LISTENER].keys()
    lost = [finding.origin.field for finding in coordinator.findings if finding.code == "patch-without-effect"]
    assert lost == ["spec.configPatches[1]"]


def test_what_resources_point_at_follows_the_patches() -> None:
    given: dict[str, EnvoyResources | None] = {}
    coordinator = Coordinator(Settings(), given.__setitem__)
    client = workload("client", address="240.241.0.2")
    text = envoy_filter(
        "f",
        patch("CLUSTER", "REMOVE", "", "cluster: {name: outbound|80||a.default.svc.cluster.local}"),
        patch("CLUSTER", "ADD", "{name: own}"),
        patch("HTTP_ROUTE", "ADD", "{match: {prefix: /}, route: {cluster: own}}", "context: SIDECAR_OUTBOUND"),
    )
    coordinator.update(tuple(resources(service("a") + service("b") + text)), [client])
    after = given[client.id]
    assert after is not None
    clusters = [name for kind, name in after.by_type[ROUTE]["80"].references if kind == CLUSTER]
    assert "own" in clusters
    assert "outbound|80||b.default.svc.cluster.local" in clusters
    assert "outbound|80||a.default.svc.cluster.local" not in clusters
