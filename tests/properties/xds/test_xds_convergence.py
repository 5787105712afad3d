"""Whatever changes, whatever is refused, in whatever order messages cross: a proxy ends with what it should have.

And on the way there it never holds a route or listener that points at a cluster which it does not hold.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import given, strategies as st

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.xds.cache import ResourceCache
from lateen.xds.client import DeltaClient
from lateen.xds.session import DeltaSession, SessionOptions
from tests.properties.length import examples

NAMES = "abcd"
PATIENCE = 10.0
Target = dict[str, Any]


def target_of(good: bool) -> st.SearchStrategy[Target]:
    """Content 3 of a cluster, or 0 of a route or listener, is refused."""
    low, high = (1, 2) if good else (0, 3)
    clusters = st.sets(st.sampled_from(NAMES), max_size=3)
    return st.fixed_dictionaries(
        {
            "clusters": st.dictionaries(st.sampled_from(NAMES), st.integers(low, high), min_size=1, max_size=3),
            "endpoints": st.dictionaries(st.sampled_from(NAMES), st.integers(0, 1)),
            "routes": st.dictionaries(st.sampled_from("xy"), st.tuples(st.integers(low, 2), clusters)),
            "listeners": st.dictionaries(
                st.sampled_from("LM"), st.tuples(st.integers(low, 2), st.sets(st.sampled_from("xy")), clusters)
            ),
        }
    )


def stories(good: bool) -> st.SearchStrategy[list[tuple[str, Target, list[str]]]]:
    """What happens to the stream, what the proxy should have then, and how messages cross afterwards."""
    crossing = st.one_of(
        st.just(["server", "client"] * 40),
        st.lists(st.sampled_from(["server", "client"]), max_size=12),
    )
    happening = st.sampled_from(["", "", "", "reconnect", "unknown"])
    return st.lists(st.tuples(happening, target_of(good), crossing), min_size=1, max_size=6)


def resource(name: str, references: list[tuple[str, str]], content: int, bad: bool = False) -> EnvoyResource:
    body = json.dumps([references, content, bad]).encode()
    return EnvoyResource(name, blake2b(body, digest_size=16).hexdigest(), body, None, tuple(references))


def build(target: Target) -> EnvoyResources:
    """Everything that is pointed at exists."""
    clusters = target["clusters"]
    routes = {
        name: resource(name, [(CLUSTER, c) for c in sorted(to) if c in clusters], content, content == 0)
        for name, (content, to) in target["routes"].items()
    }
    listeners = {
        name: resource(
            name,
            [(ROUTE, r) for r in sorted(to) if r in routes] + [(CLUSTER, c) for c in sorted(direct) if c in clusters],
            content,
            content == 0,
        )
        for name, (content, to, direct) in target["listeners"].items()
    }
    return EnvoyResources(
        {
            CLUSTER: {
                name: resource(name, [(ENDPOINT, name)], number, number == 3) for name, number in clusters.items()
            },
            ENDPOINT: {name: resource(name, [], target["endpoints"].get(name, 0)) for name in clusters},
            LISTENER: listeners,
            ROUTE: routes,
        }
    )


def references(body: bytes) -> list[tuple[str, str]]:
    return [(kind, name) for kind, name in json.loads(body)[0]]


def is_bad(body: bytes) -> bool:
    return bool(json.loads(body)[2])


class World:
    """One client, one stream, messages on the way."""

    def __init__(self) -> None:
        self.client = DeltaClient(
            needs=lambda kind, _, body: [r for r in references(body) if r[0] in (ENDPOINT, ROUTE)],
            refuses=lambda kind, _, body: "no" if is_bad(body) else None,
            keep_bodies=True,
        )
        self.cache = ResourceCache()
        self.now = 0.0
        self.connect()

    def connect(self) -> None:
        self.session = DeltaSession(options=SessionOptions(patience=PATIENCE, max_response=200), frame=self.cache.frame)
        self.to_server = self.client.start()
        self.to_client: list[bytes] = []

    def step(self, step: Any) -> None:
        if step == "server":
            if self.to_server:
                message = discovery_pb2.DeltaDiscoveryRequest.FromString(self.to_server.pop(0))
                self.session.on_request(message, self.now)
            self.session.on_resources(self.cache.get("p"))
            response = self.session.next_response(self.now)
            if response is not None:
                self.to_client.append(response)
        elif step == "client":
            if self.to_client:
                self.to_server.extend(self.client.on_response(self.to_client.pop(0)))
        elif step == "reconnect":
            self.connect()
        elif step == "unknown":
            self.cache.put("p", None)
        else:
            self.cache.put("p", build(step))

    def live(self, story: list[tuple[str, Target, list[str]]], check: bool) -> EnvoyResources:
        """The whole story, and then all messages that remain. Gives what the client should have at last."""
        for happening, target, crossing in story:
            if happening:
                self.step(happening)
            self.step(target)
            for step in crossing:
                self.step(step)
                if check:
                    self.check_order()
        self.drain()
        return build(story[-1][1])

    def drain(self) -> None:
        for _ in range(2):
            for _ in range(2000):
                self.step("server")
                if not self.to_client and not self.to_server and self.session.next_response(self.now) is None:
                    break
                self.step("client")
            else:
                raise AssertionError("it never ends")
            self.now += PATIENCE

    def check_order(self) -> None:
        for kind in (LISTENER, ROUTE):
            for name, body in self.client.bodies.get(kind, {}).items():
                for target_kind, cluster in references(body):
                    if target_kind == CLUSTER:
                        assert cluster in self.client.active, f"{name} points at {cluster}, which does not serve"


@given(stories(good=True))
@examples(200, 3000)
def test_order_and_convergence(story: list[Any]) -> None:
    world = World()
    final = world.live(story, check=True)
    held = world.client.versions
    assert world.client.warming == set()
    for kind in (CLUSTER, LISTENER):
        assert held.get(kind, {}) == {name: found.version for name, found in final.by_type[kind].items()}
    check_named(world, final)


@given(stories(good=False))
@examples(200, 3000)
def test_convergence_beside_what_is_refused(story: list[Any]) -> None:
    world = World()
    final = world.live(story, check=False)
    assert world.client.warming == set()
    for kind in (CLUSTER, LISTENER):
        held = world.client.versions.get(kind, {})
        for name, found in final.by_type[kind].items():
            if not is_bad(found.body):
                assert held.get(name) == found.version
    assert world.client.versions.get(LISTENER, {}).keys() <= final.by_type[LISTENER].keys()
    check_named(world, final)
    check_removed(world, final)


def check_named(world: World, final: EnvoyResources) -> None:
    for kind in (ENDPOINT, ROUTE):
        for name, version in world.client.versions.get(kind, {}).items():
            found = final.by_type[kind].get(name)
            if found is not None and not is_bad(found.body):
                assert version == found.version


def check_removed(world: World, final: EnvoyResources) -> None:
    """A cluster outlives its end only where something that the client still has points at it."""
    used = {
        name
        for kind in (LISTENER, ROUTE)
        for body in world.client.bodies.get(kind, {}).values()
        for target_kind, name in references(body)
        if target_kind == CLUSTER
    }
    assert world.client.versions.get(CLUSTER, {}).keys() <= final.by_type[CLUSTER].keys() | used


@given(st.lists(st.tuples(st.sampled_from("pq"), st.one_of(st.none(), target_of(True))), max_size=12))
@examples(50, 1000)
def test_cache_holds_what_is_used_and_no_more(story: list[tuple[str, Target | None]]) -> None:
    cache = ResourceCache()
    current: dict[str, EnvoyResources] = {}
    for proxy, target in story:
        built = build(target) if target is not None else None
        cache.put(proxy, built)
        if built is None:
            current.pop(proxy, None)
        else:
            current[proxy] = built
        assert cache.get(proxy) == current.get(proxy)
        held = {
            (kind, name, found.version)
            for resources in current.values()
            for kind, named in resources.by_type.items()
            for name, found in named.items()
        }
        assert len(cache) == len(held)
