"""Whatever changes, whatever is refused, in whatever order messages cross: a proxy ends with what it should have.

And on the way there it never holds a route or listener that points at a cluster which it does not hold.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

from envoy.service.discovery.v3 import discovery_pb2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lateen.envoy.resources import CLUSTER, ENDPOINT, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.xds.cache import ResourceCache
from lateen.xds.client import DeltaClient
from lateen.xds.session import DeltaSession, SessionOptions

NAMES = "abcd"
PATIENCE = 10.0
Target = dict[str, Any]

targets = st.fixed_dictionaries(
    {
        "clusters": st.dictionaries(st.sampled_from(NAMES), st.integers(0, 3), min_size=1),
        "endpoints": st.dictionaries(st.sampled_from(NAMES), st.integers(0, 2)),
        "routes": st.dictionaries(
            st.sampled_from("xyz"), st.tuples(st.integers(0, 9), st.sets(st.sampled_from(NAMES)), st.integers(0, 9))
        ),
        "listeners": st.dictionaries(
            st.sampled_from("LMN"),
            st.tuples(st.integers(0, 9), st.sets(st.sampled_from("xyz")), st.sets(st.sampled_from(NAMES))),
        ),
    }
)
steps = st.one_of(
    targets,
    st.sampled_from(["server", "server", "client", "client", "client", "reconnect", "unknown"]),
)


def resource(name: str, references: list[tuple[str, str]], content: int, bad: bool = False) -> EnvoyResource:
    body = json.dumps([references, content, bad]).encode()
    return EnvoyResource(name, blake2b(body, digest_size=16).hexdigest(), body, None, tuple(references))


def build(target: Target) -> EnvoyResources:
    """Everything that is pointed at exists; content 3 of a cluster, or 0 of a route or listener, is refused."""
    clusters = target["clusters"]
    routes = {
        name: resource(name, [(CLUSTER, c) for c in sorted(to) if c in clusters], content * 10 + other, content == 0)
        for name, (content, to, other) in target["routes"].items()
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
        self.ever_bad: set[str] = set()
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
                self.check_order()
        elif step == "reconnect":
            self.connect()
        elif step == "unknown":
            self.cache.put("p", None)
        else:
            built = build(step)
            self.ever_bad.update(name for name, found in built.by_type[CLUSTER].items() if is_bad(found.body))
            self.cache.put("p", built)

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
        """But for clusters that were refused: those are not waited for."""
        held = self.client.versions.get(CLUSTER, {})
        for kind in (LISTENER, ROUTE):
            for name, body in self.client.bodies.get(kind, {}).items():
                for target_kind, cluster in references(body):
                    if target_kind == CLUSTER and cluster not in self.ever_bad:
                        assert cluster in held, f"{name} points at {cluster}, which is not there"


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(steps, max_size=40), targets)
def test_delta_converges_in_order(story: list[Any], last: Target) -> None:
    world = World()
    for step in story:
        world.step(step)
    world.step(last)
    world.drain()
    final = build(last)
    assert world.client.warming == set()
    for kind in (CLUSTER, LISTENER):
        wanted = final.by_type[kind]
        held = world.client.versions.get(kind, {})
        for name, found in wanted.items():
            if not is_bad(found.body):
                assert held.get(name) == found.version
        assert held.keys() <= wanted.keys() or kind == CLUSTER
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


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("pq"), st.one_of(st.none(), targets)), max_size=12))
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
