"""The incremental protocol, message by message."""

from __future__ import annotations

import pytest

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, SECRET, EnvoyResource
from lateen.values.names import Origin
from lateen.xds.session import RETRY_S, DeltaSession, SessionOptions, SessionRefused
from lateen.xds.subscription import Rejection
from tests.unit.xds.exchange import Delta, resource, resources, said

A, B = resource("a"), resource("b")
ORIGIN = Origin("VirtualService", "default", "reviews", "reviews.yaml", 3)


def served(name: str, content: str = "1") -> tuple[EnvoyResource, EnvoyResource]:
    """A cluster and its endpoints."""
    return resource(name, content, (ENDPOINT, name)), resource(name, content)


def test_a_proxy_that_is_not_known_yet_waits() -> None:
    client = Delta()
    assert client.ask(CLUSTER) == []
    (response,) = client.aim(resources(clusters=[A]))
    assert said(response) == ("Cluster", ["a"], [])
    assert response.resources[0].version == A.version
    assert response.resources[0].resource.value == A.body


def test_an_empty_wildcard_is_answered_once() -> None:
    client = Delta()
    client.aim(resources())
    (response,) = client.ask(LISTENER)
    assert said(response) == ("Listener", [], [])
    assert client.answer(response) == []


def test_only_what_changed_is_sent() -> None:
    client = Delta()
    client.aim(resources(clusters=[A, B]))
    client.settle(client.ask(CLUSTER))
    changed = resource("b", "2")
    (response,) = client.aim(resources(clusters=[A, changed]))
    assert said(response) == ("Cluster", ["b"], [])
    client.answer(response)
    (response,) = client.aim(resources(clusters=[A]))
    assert said(response) == ("Cluster", [], ["b"])
    assert client.answer(response) == []
    assert client.aim(resources(clusters=[A])) == []


def test_equal_content_in_other_objects_is_not_sent() -> None:
    client = Delta()
    client.aim(resources(clusters=[A]))
    client.settle(client.ask(CLUSTER))
    assert client.aim(resources(clusters=[resource("a")])) == []


def test_named_types_get_what_they_name() -> None:
    client = Delta()
    client.aim(resources(endpoints=[A, B]))
    (response,) = client.ask(ENDPOINT, "b")
    assert said(response) == ("ClusterLoadAssignment", ["b"], [])
    client.answer(response)
    assert client.aim(resources(endpoints=[resource("a", "2"), B])) == []


def test_a_name_that_does_not_exist_is_said_to_be_gone() -> None:
    client = Delta()
    client.aim(resources())
    (response,) = client.ask(ROUTE, "nowhere")
    assert said(response) == ("RouteConfiguration", [], ["nowhere"])
    assert client.answer(response) == []
    (response,) = client.aim(resources(routes=[resource("nowhere")]))
    assert said(response) == ("RouteConfiguration", ["nowhere"], [])


def test_a_name_asked_for_again_is_answered_again() -> None:
    client = Delta()
    client.aim(resources(endpoints=[A]))
    client.settle(client.ask(ENDPOINT, "a"))
    (response,) = client.ask(ENDPOINT, "a")
    assert said(response) == ("ClusterLoadAssignment", ["a"], [])


def test_what_was_unsubscribed_is_not_sent() -> None:
    client = Delta()
    client.aim(resources(endpoints=[A, B]))
    client.settle(client.ask(ENDPOINT, "a", "b"))
    assert client.ask(ENDPOINT, leave=["a"]) == []
    (response,) = client.aim(resources(endpoints=[resource("a", "2"), resource("b", "2")]))
    assert said(response) == ("ClusterLoadAssignment", ["b"], [])


def test_a_wildcard_can_be_left_for_names() -> None:
    client = Delta()
    client.aim(resources(clusters=[A, B]))
    client.settle(client.ask(CLUSTER, "*", "a"))
    assert client.ask(CLUSTER, leave=["*"]) == []
    (response,) = client.aim(resources(clusters=[resource("a", "2"), resource("b", "2")]))
    assert said(response) == ("Cluster", ["a"], [])


def test_a_named_cluster_left_under_a_wildcard_is_said_once_more() -> None:
    client = Delta()
    client.aim(resources(clusters=[A]))
    client.settle(client.ask(CLUSTER, "*", "a"))
    (response,) = client.ask(CLUSTER, leave=["a"])
    assert said(response) == ("Cluster", ["a"], [])


def test_changes_between_two_readings_are_sent_once() -> None:
    client = Delta()
    client.aim(resources(clusters=[A]))
    client.settle(client.ask(CLUSTER))
    for content in "2345":
        client.session.on_resources(resources(clusters=[resource("a", content)]))
    (response,) = client.read()
    assert response.resources[0].resource.value == b"a=5"


def test_one_that_comes_back_gets_the_difference() -> None:
    client = Delta()
    client.aim(resources(clusters=[A, resource("b", "2"), resource("c")]))
    (response,) = client.ask(CLUSTER, versions={"a": A.version, "b": B.version})
    assert said(response) == ("Cluster", ["b", "c"], [])


def test_one_that_comes_back_is_told_what_is_gone_once_its_referrers_are_known() -> None:
    client = Delta()
    client.aim(resources(clusters=[A]))
    assert client.ask(CLUSTER, versions={"a": A.version, "old": "1"}) == []
    assert [said(response) for response in client.ask(LISTENER)] == [("Cluster", [], ["old"]), ("Listener", [], [])]


def test_one_that_comes_back_before_its_resources_are_known_keeps_all() -> None:
    client = Delta()
    assert client.ask(CLUSTER, versions={"a": A.version}) == []
    assert client.aim(resources(clusters=[A])) == []


def test_endpoints_are_said_again_to_one_that_comes_back() -> None:
    """Its cluster may have been warming when the last stream ended."""
    client = Delta()
    cluster, endpoints = served("a")
    client.aim(resources(clusters=[cluster], endpoints=[endpoints]))
    client.ask(CLUSTER, versions={"a": cluster.version})
    (response,) = client.ask(ENDPOINT, "a", versions={"a": endpoints.version})
    assert said(response) == ("ClusterLoadAssignment", ["a"], [])


def test_a_changed_cluster_gets_its_endpoints_again() -> None:
    client = Delta()
    cluster, endpoints = served("a")
    client.aim(resources(clusters=[cluster], endpoints=[endpoints]))
    client.settle(client.ask(CLUSTER) + client.ask(ENDPOINT, "a"))
    responses = client.aim(resources(clusters=[served("a", "2")[0]], endpoints=[endpoints]))
    assert [said(response) for response in responses] == [
        ("Cluster", ["a"], []),
        ("ClusterLoadAssignment", ["a"], []),
    ]


def test_a_changed_endpoint_set_is_all_that_is_sent() -> None:
    client = Delta()
    cluster, endpoints = served("a")
    client.aim(resources(clusters=[cluster], endpoints=[endpoints]))
    client.settle(client.ask(CLUSTER) + client.ask(ENDPOINT, "a"))
    (response,) = client.aim(resources(clusters=[cluster], endpoints=[resource("a", "2")]))
    assert said(response) == ("ClusterLoadAssignment", ["a"], [])


def test_a_route_waits_until_its_cluster_serves() -> None:
    client = Delta()
    route = resource("9080", "1")
    client.aim(resources(routes=[route]))
    client.settle(client.ask(CLUSTER) + client.ask(ROUTE, "9080"))
    cluster, endpoints = served("new")
    pointing = resource("9080", "2", (CLUSTER, "new"))
    (first,) = client.aim(resources(clusters=[cluster], endpoints=[endpoints], routes=[pointing]))
    assert said(first)[0] == "Cluster"
    (second,) = client.ask(ENDPOINT, "new")
    assert said(second)[0] == "ClusterLoadAssignment"
    assert client.answer(first) == []
    (third,) = client.answer(second)
    assert said(third) == ("RouteConfiguration", ["9080"], [])


def test_a_cluster_goes_only_after_the_route_has_left_it() -> None:
    client = Delta()
    client.aim(resources(clusters=[A, B], routes=[resource("9080", "1", (CLUSTER, "a"))]))
    client.settle(client.ask(CLUSTER))
    client.settle(client.ask(ROUTE, "9080"))
    (moved,) = client.aim(resources(clusters=[B], routes=[resource("9080", "2", (CLUSTER, "b"))]))
    assert said(moved) == ("RouteConfiguration", ["9080"], [])
    (gone,) = client.answer(moved)
    assert said(gone) == ("Cluster", [], ["a"])


def test_a_cluster_stays_while_a_refused_route_needs_it() -> None:
    client = Delta()
    client.aim(resources(clusters=[A, B], routes=[resource("9080", "1", (CLUSTER, "a"))]))
    client.settle(client.ask(CLUSTER))
    client.settle(client.ask(ROUTE, "9080"))
    (moved,) = client.aim(resources(clusters=[B], routes=[resource("9080", "2", (CLUSTER, "b"))]))
    client.now = 1000.0
    assert client.answer(moved, "no such thing") == []
    assert client.session.deadline() is None


def test_a_refused_cluster_does_not_hold_its_route_back() -> None:
    client = Delta()
    client.aim(resources())
    client.settle(client.ask(CLUSTER) + client.ask(ROUTE, "9080"))
    (cluster,) = client.aim(resources(clusters=[A], routes=[resource("9080", "1", (CLUSTER, "a"))]))
    (route,) = client.answer(cluster, "Error adding/updating cluster(s) a: bad")
    assert said(route) == ("RouteConfiguration", ["9080"], [])


def test_a_client_that_never_answers_is_not_waited_for_without_end() -> None:
    client = Delta(DeltaSession(options=SessionOptions(patience=10.0)), now=100.0)
    client.aim(resources())
    client.settle(client.ask(CLUSTER) + client.ask(ROUTE, "9080"))
    client.aim(resources(clusters=[A], routes=[resource("9080", "1", (CLUSTER, "a"))]))
    assert client.session.deadline() == 110.0
    client.now = 109.9
    assert client.read() == []
    client.now = 110.0
    assert [said(response) for response in client.read()] == [("RouteConfiguration", ["9080"], [])]


def test_what_was_refused_is_not_sent_again_until_it_changes() -> None:
    refused: list[Rejection] = []
    client = Delta(DeltaSession(on_rejection=refused.append), now=7.0)
    good = resource("9080", "1")
    client.aim(resources(routes=[good]))
    client.settle(client.ask(ROUTE, "9080"))
    bad = resource("9080", "2", origin=ORIGIN)
    (response,) = client.aim(resources(routes=[bad]))
    assert client.answer(response, "what is this") == []
    assert refused == [Rejection(ROUTE, "9080", bad.version, "what is this", ORIGIN, 7.0)]
    assert client.session.subscriptions[ROUTE].accepted("9080") == good
    assert client.aim(resources(routes=[resource("9080", "2")])) == []
    (mended,) = client.aim(resources(routes=[resource("9080", "3")]))
    assert client.answer(mended) == []
    assert client.session.subscriptions[ROUTE].rejected == {}


def test_going_back_to_what_the_client_has_ends_a_rejection_without_a_word() -> None:
    client = Delta()
    client.aim(resources(routes=[resource("9080", "1")]))
    client.settle(client.ask(ROUTE, "9080"))
    (response,) = client.aim(resources(routes=[resource("9080", "2")]))
    client.answer(response, "bad")
    assert client.aim(resources(routes=[resource("9080", "1")])) == []
    assert client.session.subscriptions[ROUTE].rejected == {}


def test_envoy_names_the_guilty_and_keeps_the_others() -> None:
    client = Delta()
    client.aim(resources(listeners=[A, B, resource("c")]))
    (response,) = client.ask(LISTENER)
    assert client.answer(response, "Error adding/updating listener(s) b: no filter: chain\n") == []
    subscription = client.session.subscriptions[LISTENER]
    assert sorted(subscription.rejected) == ["b"]
    assert subscription.accepted("a") == A
    assert subscription.accepted("b") is None


def test_where_nobody_is_named_the_guilty_is_found_by_halves() -> None:
    """Of eight secrets one is bad: seven arrive, and one is reported."""
    refused: list[Rejection] = []
    client = Delta(DeltaSession(on_rejection=refused.append))
    secrets = [resource(name) for name in "abcdefgh"]
    client.aim(resources(secrets=secrets))
    waiting = client.ask(SECRET, *"abcdefgh")
    rounds = 0
    while waiting:
        response = waiting.pop(0)
        bad = any(found.name == "f" for found in response.resources)
        waiting.extend(client.answer(response, "malformed" if bad else ""))
        rounds += 1
    subscription = client.session.subscriptions[SECRET]
    assert [rejection.name for rejection in refused] == ["f"]
    assert {name for name in "abcdefgh" if subscription.accepted(name)} == set("abcdegh")
    assert rounds <= 7


def test_a_large_change_goes_out_in_parts() -> None:
    client = Delta(DeltaSession(options=SessionOptions(max_response=25)))
    client.aim(resources(endpoints=[resource(name, "0123456789") for name in "abcd"]))
    responses = client.ask(ENDPOINT, *"abcd")
    assert [said(response)[1] for response in responses] == [["a", "b"], ["c", "d"]]
    assert len({response.nonce for response in responses}) == 2


def test_an_answer_to_nothing_is_passed_over() -> None:
    client = Delta()
    client.aim(resources(clusters=[A]))
    (response,) = client.ask(CLUSTER)
    response.nonce = "never sent"
    assert client.answer(response, "bad") == []
    assert client.session.subscriptions[CLUSTER].rejected == {}


def test_types_that_are_not_served_are_passed_over() -> None:
    client = Delta(DeltaSession(options=SessionOptions(types=(SECRET,))))
    client.aim(resources(clusters=[A], secrets=[B]))
    assert client.ask(CLUSTER) == []
    assert client.ask("type.googleapis.com/some.Other") == []
    (response,) = client.ask("", "b")
    assert said(response) == ("Secret", ["b"], [])


def test_a_client_that_comes_back_with_all_its_names_is_taken_again() -> None:
    client = Delta(DeltaSession(options=SessionOptions(max_names=3)))
    client.aim(resources(endpoints=[A]))
    client.ask(ENDPOINT, "a", "b", "c", versions={"a": A.version, "b": "1", "c": "1"})
    client.ask(ENDPOINT, "a", "b", "c")


def test_a_client_may_not_hold_names_without_end() -> None:
    client = Delta(DeltaSession(options=SessionOptions(max_names=3)))
    client.ask(ENDPOINT, "a", "b")
    with pytest.raises(SessionRefused, match="the limit is 3"):
        client.ask(ENDPOINT, "c", "d")


def test_answers_are_remembered_within_bounds() -> None:
    client = Delta()
    client.ask(ENDPOINT, "a")
    responses = [client.aim(resources(endpoints=[resource("a", str(n))]))[0] for n in range(100)]
    subscription = client.session.subscriptions[ENDPOINT]
    assert len(subscription.unanswered) <= 32
    client.answer(responses[-1])
    assert subscription.accepted("a") == resource("a", "99")


def test_a_listener_whose_address_is_taken_is_sent_again_until_it_is_free() -> None:
    """It stays refused meanwhile, and what is refused for itself is not sent again."""
    told: list[Rejection] = []
    envoy = Delta(DeltaSession(on_rejection=told.append))
    envoy.aim(resources(listeners=[resource("a"), resource("b")]))
    [first] = envoy.ask(LISTENER)
    taken = "Error adding/updating listener(s) a: cannot bind '127.0.0.1:80': Address already in use, b: no such filter"
    assert envoy.answer(first, taken) == []
    for _ in range(3):
        assert envoy.session.deadline() == envoy.now + RETRY_S
        envoy.now += RETRY_S
        [again] = envoy.read()
        assert [one.name for one in again.resources] == ["a"]
        assert envoy.session.subscriptions[LISTENER].rejected.keys() == {"a", "b"}
        assert envoy.session.deadline() is None
        assert envoy.answer(again, taken.partition(", b")[0]) == []
    envoy.now += RETRY_S
    [again] = envoy.read()
    assert envoy.answer(again) == []
    assert envoy.session.subscriptions[LISTENER].rejected.keys() == {"b"}
    assert envoy.session.deadline() is None
    assert [one.name for one in told] == ["a", "b", "a"]
