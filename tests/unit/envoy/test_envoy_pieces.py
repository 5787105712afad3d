"""The small makers: values, TLS, clusters, routes, the bootstrap."""

from __future__ import annotations

import json

import pytest
from envoy.type.v3 import percent_pb2
from hypothesis import given, strategies as st
from msgspec.structs import replace

from lateen.envoy import wire
from lateen.envoy.bootstrap import bootstrap
from lateen.envoy.clusters import cluster_message
from lateen.envoy.fault import route_fault
from lateen.envoy.matching import route_match
from lateen.envoy.metrics import LabelSet, first_of, request_loggers
from lateen.envoy.mixer import CACHE_FILTER, by_route
from lateen.envoy.profile import DEFAULT_PROFILE
from lateen.envoy.route_actions import forward, redirect
from lateen.envoy.tls import secret_references, verifies_by_sni
from lateen.plan.clusters import Cluster, ConnectionPool, Discovery, OutlierDetection
from lateen.plan.matching import MatchKind, RouteMatch, StringMatcher
from lateen.plan.mixer.model import MixerCheck
from lateen.plan.model import MetricRule
from lateen.plan.proxy import Bind
from lateen.plan.routes import Fault, FaultAbort, Forward, Redirect, WeightedCluster
from lateen.plan.tls import WORKLOAD_CERTIFICATE, ClientTls, SecretRef
from tests.golden.plan_to_envoy.cases import ROUTES, mesh_client


@given(st.integers(0, 10**11))
def test_durations_are_exact(milliseconds: int) -> None:
    made = wire.duration(milliseconds / 1000)
    assert made.seconds * 1000 + made.nanos / 1_000_000 == milliseconds
    assert 0 <= made.nanos < 10**9


@pytest.mark.parametrize(("percentage", "numerator"), [(0, 0), (0.0001, 1), (12.5, 125_000), (100, 1_000_000)])
def test_percentages(percentage: float, numerator: int) -> None:
    made = wire.fraction(percentage)
    assert (made.numerator, made.denominator) == (numerator, percent_pb2.FractionalPercent.MILLION)


def test_addresses() -> None:
    assert wire.socket_address("unix:///run/a.sock", 0).pipe.path == "/run/a.sock"
    placed = wire.socket_address("240.240.0.1", 80, "/proc/1/fd/5").socket_address
    assert (placed.port_value, placed.network_namespace_filepath) == (80, "/proc/1/fd/5")
    assert wire.cidr_range("192.0.2.1").prefix_len.value == 32
    assert wire.cidr_range("2001:db8::1").prefix_len.value == 128


def test_a_pattern_that_ignores_case_stays_one_pattern() -> None:
    made = wire.string_matcher(StringMatcher(MatchKind.REGEX, "a|b", ignore_case=True))
    assert made.safe_regex.regex == "(?i:a|b)"


def test_a_label_has_always_a_value() -> None:
    made = first_of(("UPSTREAM_METADATA", "lateen:workload"))
    operators = json.loads(made.removeprefix("%COALESCE(").removesuffix(")%"))["operators"]
    assert operators[-1] == {"command": "START_TIME", "param": "unknown"}


# --- clusters ---


def made(cluster: Cluster) -> object:
    return cluster_message(cluster, None, False, DEFAULT_PROFILE)


def test_limits_that_nobody_set_are_none() -> None:
    message = cluster_message(Cluster("a", Discovery.EDS, ROUTES), None, False, DEFAULT_PROFILE)
    limits = message.circuit_breakers.thresholds[0]
    assert {limits.max_connections.value, limits.max_pending_requests.value, limits.max_retries.value} == {2**32 - 1}


def test_a_limit_of_0_is_0() -> None:
    cluster = Cluster("a", Discovery.EDS, ROUTES, pool=ConnectionPool(max_pending_requests=0))
    message = cluster_message(cluster, None, False, DEFAULT_PROFILE)
    assert message.circuit_breakers.thresholds[0].max_pending_requests.value == 0


def test_detectors() -> None:
    outlier = OutlierDetection(consecutive_5xx=0, consecutive_gateway_errors=3)
    message = cluster_message(Cluster("a", Discovery.EDS, ROUTES, outlier=outlier), None, False, DEFAULT_PROFILE)
    found = message.outlier_detection
    assert found.HasField("enforcing_consecutive_5xx")
    assert found.enforcing_consecutive_5xx.value == 0
    assert (found.consecutive_gateway_failure.value, found.enforcing_consecutive_gateway_failure.value) == (3, 100)
    assert found.enforcing_success_rate.value == 0
    assert message.common_lb_config.healthy_panic_threshold.value == 0


def test_the_source_of_connections() -> None:
    cluster = Cluster("a", Discovery.EDS, ROUTES, source=Bind("240.241.0.7", 0, "/proc/1/fd/5"))
    source = cluster_message(cluster, None, False, DEFAULT_PROFILE).upstream_bind_config.source_address
    assert (source.address, source.network_namespace_filepath) == ("240.241.0.7", "/proc/1/fd/5")


def test_an_unknown_protocol_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no protocol"):
        made(Cluster("a", Discovery.EDS, ROUTES, "http4"))


# --- TLS ---


def test_only_secrets_of_the_control_plane_are_references() -> None:
    named = SecretRef("kubernetes://a")
    assert [name for _, name in secret_references(WORKLOAD_CERTIFICATE, SecretRef("f", ca_file="/a"), named, None)] == [
        "kubernetes://a"
    ]


def test_the_name_asked_for_is_verified_outside_the_mesh_alone() -> None:
    assert verifies_by_sni(ClientTls(ROUTES, system_roots=True, sni="a.example"))
    assert not verifies_by_sni(ClientTls(ROUTES, system_roots=True, sni="a.example", sans=("b.example",)))
    assert not verifies_by_sni(ClientTls(ROUTES, verify=False, sni="a.example"))
    assert not verifies_by_sni(mesh_client())


def test_verifying_against_nothing_is_a_bug() -> None:
    with pytest.raises(ValueError, match="no roots"):
        made(Cluster("a", Discovery.EDS, ROUTES, tls=ClientTls(ROUTES)))


# --- routes ---


def test_no_timeout_is_written_out() -> None:
    message = forward(Forward((WeightedCluster("a", 1),)))
    assert message.HasField("timeout")
    assert message.timeout.seconds == 0


def test_an_empty_host_rewrite_is_none() -> None:
    targets = (WeightedCluster("a", 1), WeightedCluster("b", 1))
    for target in forward(Forward(targets)).weighted_clusters.clusters:
        assert not target.HasField("host_rewrite_literal")
    assert not forward(Forward(targets[:1])).HasField("host_rewrite_literal")


def test_what_routes_cannot_say_is_a_bug() -> None:
    with pytest.raises(ValueError, match="by suffix"):
        route_match(RouteMatch(StringMatcher(MatchKind.SUFFIX, ".css")))
    with pytest.raises(ValueError, match="status 304"):
        redirect(Redirect(304))
    with pytest.raises(ValueError, match="either"):
        route_fault(Fault(abort=FaultAbort(1, 500, 14)))


def test_a_percent_sign_in_a_name_is_no_format() -> None:
    made = request_loggers(LabelSet((("source_workload", "100%"),)), ())
    assert b"source_workload=100~25 " in made[0].typed_config.value


OWN_LABEL = (("kind", "request.headers['x-kind']"),)


@pytest.mark.parametrize(
    ("rules", "counts", "by_durations"),
    [
        ((), False, True),
        ((MetricRule("REQUEST_COUNT", labels=OWN_LABEL),), True, False),
        (tuple(MetricRule(kind, labels=OWN_LABEL) for kind in ("REQUEST_COUNT", "REQUEST_DURATION")), False, True),
        ((MetricRule("REQUEST_DURATION", disabled=True),), True, False),
        ((MetricRule("REQUEST_COUNT", disabled=True),), False, False),
    ],
    ids=["as they are", "other labels", "the same other labels", "no durations", "no counts"],
)
def test_requests_are_counted_by_their_durations_where_labels_are_the_same(
    rules: tuple[MetricRule, ...], counts: bool, by_durations: bool
) -> None:
    labels = LabelSet((("reporter", "source"),))
    made = request_loggers(labels, rules, has_messages=False)[0].typed_config.value
    assert (b"requests_total" in made, b"requests= reporter=source" in made) == (counts, by_durations)


# --- the bootstrap ---


@pytest.mark.parametrize(("files", "connections"), [(0, 50_000), (1_000_000, 50_000), (1024, 448), (100, 1)])
def test_an_envoy_takes_no_more_connections_than_it_has_files_for(files: int, connections: int) -> None:
    text = bootstrap(
        "a",
        node_cluster="a",
        xds_socket="/x",
        sds_socket=None,
        admin_socket="/a",
        token="t",
        open_files=files,
    )
    (monitor,) = json.loads(text)["overload_manager"]["resource_monitors"]
    assert int(monitor["typed_config"]["max_active_downstream_connections"]) == connections


def test_the_bootstrap() -> None:
    text = bootstrap(
        "reviews-v1-0",
        node_cluster="reviews.default",
        xds_socket="/run/xds.sock",
        sds_socket=None,
        admin_socket="/run/admin.sock",
        token="t0k3n",
        node_metadata={"NAMESPACE": "default"},
        upstream_source=Bind("240.241.0.7", 0, "/proc/1/fd/5"),
    )
    found = json.loads(text)
    ads = found["dynamic_resources"]["ads_config"]
    assert ads["api_type"] == "DELTA_GRPC"
    (token,) = found["static_resources"]["secrets"]
    assert token["generic_secret"] == {"secret": {"inline_string": "Bearer t0k3n"}}
    assert text.count(b"t0k3n") == 1  # nowhere else, as Envoy's dumps leave out secrets alone
    assert found["admin"]["address"]["pipe"] == {"path": "/run/admin.sock", "mode": 0o600}
    assert [cluster["name"] for cluster in found["static_resources"]["clusters"]] == ["xds-grpc"]
    assert found["node"] == {"id": "reviews-v1-0", "cluster": "reviews.default", "metadata": {"NAMESPACE": "default"}}
    source = found["cluster_manager"]["upstream_bind_config"]["source_address"]
    assert source["network_namespace_filepath"] == "/proc/1/fd/5"
    assert "initial_fetch_timeout" in found["dynamic_resources"]["cds_config"]


def test_kept_answers_end_when_the_proxy_does_more_by_itself() -> None:
    """They have operations that it would do a second time."""
    check = MixerCheck("echo-v1-0", 8000, generation="1")
    before, after = (by_route(one)[CACHE_FILTER] for one in (check, replace(check, changed=("rule.default",))))
    assert before.filter_context["generation"] != after.filter_context["generation"]
