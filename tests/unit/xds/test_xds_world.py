"""The state-of-the-world protocol, message by message."""

from __future__ import annotations

from lateen.envoy.resources import CLUSTER, ENDPOINT, ROUTE
from lateen.xds.session import WorldSession
from lateen.xds.subscription import version_of_set
from tests.unit.xds.exchange import World, bodies, resource, resources

A, B = resource("a"), resource("b")


def test_clusters_come_as_a_whole_set() -> None:
    client = World()
    client.aim(resources(clusters=[A, B]))
    (first,) = client.ask(CLUSTER)
    assert bodies(first) == ["a=1", "b=1"]
    assert first.version_info == version_of_set([B, A])
    assert client.answer(first) == []
    (second,) = client.aim(resources(clusters=[A, resource("b", "2")]))
    assert sorted(bodies(second)) == ["a=1", "b=2"]
    client.answer(second)
    (third,) = client.aim(resources(clusters=[A]))
    assert bodies(third) == ["a=1"]


def test_named_types_come_as_far_as_they_changed() -> None:
    client = World()
    client.aim(resources(endpoints=[A, B]))
    (first,) = client.ask(ENDPOINT, "a", "b")
    assert client.answer(first, "a", "b") == []
    (second,) = client.aim(resources(endpoints=[A, resource("b", "2")]))
    assert bodies(second) == ["b=2"]
    assert second.version_info == version_of_set([A, resource("b", "2")])


def test_a_new_name_is_answered_and_a_name_left_out_is_left() -> None:
    client = World()
    client.aim(resources(endpoints=[A, B]))
    (first,) = client.ask(ENDPOINT, "a")
    (second,) = client.answer(first, "a", "b")
    assert bodies(second) == ["b=1"]
    assert client.answer(second, "b") == []
    assert client.aim(resources(endpoints=[resource("a", "2"), B])) == []


def test_one_that_asks_again_is_answered_again() -> None:
    """Envoy does so for endpoints when their cluster has changed."""
    client = World()
    client.aim(resources(endpoints=[A]))
    (first,) = client.ask(ENDPOINT, "a")
    assert client.answer(first, "a") == []
    (second,) = client.answer(first, "a")
    assert bodies(second) == ["a=1"]
    assert client.answer(second, "a") == []


def test_an_old_nonce_changes_no_names() -> None:
    client = World()
    client.aim(resources(endpoints=[A, B]))
    (first,) = client.ask(ENDPOINT, "a")
    (second,) = client.answer(first, "a", "b")
    assert client.answer(first, "a") == []
    assert client.session.subscriptions[ENDPOINT].names == {"a", "b"}
    assert client.answer(second, "a", "b") == []


def test_a_refused_cluster_stands_in_the_set_as_it_was() -> None:
    client = World()
    client.aim(resources(clusters=[A, B]))
    client.answer(*client.ask(CLUSTER))
    bad = resource("b", "bad")
    (pushed,) = client.aim(resources(clusters=[A, bad]))
    assert client.answer(pushed, error="Error adding/updating cluster(s) b: bad", version="x") == []
    assert client.aim(resources(clusters=[A, resource("b", "bad")])) == []
    (after,) = client.aim(resources(clusters=[resource("a", "2"), bad]))
    assert sorted(bodies(after)) == ["a=2", "b=1"]


def test_a_cluster_stays_in_the_set_until_its_route_has_moved() -> None:
    client = World()
    client.aim(resources(clusters=[A], routes=[resource("r", "1", (CLUSTER, "a"))]))
    client.answer(*client.ask(CLUSTER))
    client.answer(*client.ask(ROUTE, "r"), "r")
    (added,) = client.aim(resources(clusters=[B], routes=[resource("r", "2", (CLUSTER, "b"))]))
    assert sorted(bodies(added)) == ["a=1", "b=1"]
    (moved,) = client.answer(added)
    assert bodies(moved) == ["r=2"]
    (gone,) = client.answer(moved, "r")
    assert bodies(gone) == ["b=1"]


def test_one_that_comes_back_with_the_present_version_needs_nothing() -> None:
    version = version_of_set([A, B])
    known = World()
    known.aim(resources(clusters=[A, B]))
    assert known.ask(CLUSTER, version=version) == []
    early = World()
    assert early.ask(CLUSTER, version=version) == []
    assert early.aim(resources(clusters=[A, B])) == []
    other = World()
    other.aim(resources(clusters=[A]))
    (response,) = other.ask(CLUSTER, version=version)
    assert bodies(response) == ["a=1"]


def test_endpoints_are_said_again_to_one_that_comes_back() -> None:
    client = World()
    client.aim(resources(endpoints=[A]))
    (response,) = client.ask(ENDPOINT, "a", version=version_of_set([A]))
    assert bodies(response) == ["a=1"]


def test_an_empty_wildcard_is_answered_once() -> None:
    client = World()
    client.aim(resources())
    (response,) = client.ask(CLUSTER)
    assert bodies(response) == []
    assert client.answer(response) == []


def test_names_of_clusters_narrow_the_set() -> None:
    """As gRPC's own client asks."""
    client = World(WorldSession())
    client.aim(resources(clusters=[A, B]))
    (response,) = client.ask(CLUSTER, "b")
    assert bodies(response) == ["b=1"]
