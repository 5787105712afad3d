"""One copy of equal content, and the right watchers woken."""

from __future__ import annotations

from lateen.envoy.resources import CLUSTER, ENDPOINT, EnvoyResources
from lateen.xds.cache import ResourceCache
from lateen.xds.framing import delta_piece
from tests.unit.xds.exchange import named, resource, resources


def test_equal_sets_are_one_object() -> None:
    cache = ResourceCache()
    for proxy in "pq":
        cache.put(proxy, resources(clusters=[resource("a"), resource("b")]))
    first, second = cache.get("p"), cache.get("q")
    assert first is not None
    assert second is not None
    assert first.by_type[CLUSTER] is second.by_type[CLUSTER]
    assert len(cache) == 2


def test_proxies_that_take_the_same_step_share_the_result() -> None:
    cache = ResourceCache()
    for content in "12":
        for proxy in "pq":
            cache.put(proxy, resources(clusters=[resource("a")], endpoints=[resource("a", content), resource("b")]))
    first, second = cache.get("p"), cache.get("q")
    assert first is not None
    assert second is not None
    assert first.by_type[ENDPOINT] is second.by_type[ENDPOINT]
    assert first.by_type[ENDPOINT]["a"] == resource("a", "2")
    assert len(cache) == 3


def test_a_type_that_did_not_change_keeps_its_mapping() -> None:
    cache = ResourceCache()
    cache.put("p", resources(clusters=[resource("a")], endpoints=[resource("a")]))
    before = cache.get("p")
    cache.put("p", resources(clusters=[resource("a")], endpoints=[resource("a", "2")]))
    after = cache.get("p")
    assert before is not None
    assert after is not None
    assert after.by_type[CLUSTER] is before.by_type[CLUSTER]


def test_only_news_wakes_the_watchers_of_that_proxy() -> None:
    cache = ResourceCache()
    woken: list[str] = []
    end = cache.watch("p", lambda: woken.append("p"))
    cache.watch("q", lambda: woken.append("q"))
    cache.put("p", resources(clusters=[resource("a")]))
    assert woken == ["p"]
    cache.put("p", resources(clusters=[resource("a")]))
    assert woken == ["p"]
    cache.put("p", resources())
    cache.put("p", None)
    cache.put("p", None)
    assert woken == ["p", "p", "p"]
    end()
    end()
    cache.put("p", resources(clusters=[resource("a")]))
    assert woken == ["p", "p", "p"]


def test_a_proxy_with_nothing_is_known_all_the_same() -> None:
    cache = ResourceCache()
    cache.put("p", EnvoyResources({}))
    assert cache.get("p") == EnvoyResources({})
    cache.put("p", None)
    assert cache.get("p") is None


def test_pieces_are_made_once_and_forgotten_with_the_last_user() -> None:
    cache = ResourceCache()
    found = resource("a")
    cache.put("p", resources(clusters=[found]))
    assert cache.frame(CLUSTER, found) is cache.frame(CLUSTER, found)
    assert cache.frame(CLUSTER, found) == delta_piece(CLUSTER, found)
    cache.put("p", None)
    assert len(cache) == 0
    assert cache.frame(CLUSTER, found) == delta_piece(CLUSTER, found)


def test_differences_between_large_sets_are_found_once() -> None:
    cache = ResourceCache()
    before = named(*(resource(str(number)) for number in range(50)))
    after = {**before, "7": resource("7", "2"), "new": resource("new")}
    del after["9"]
    names = cache.differences(before, after)
    assert sorted(names) == ["7", "9", "new"]
    assert cache.differences(before, after) is names
