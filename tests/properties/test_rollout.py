"""However changes and answers come, gateways serve before sidecars send, and in the end all have what they should."""

from __future__ import annotations

from hypothesis import given, strategies as st

from lateen.control.rollout import PATIENCE_S, Rollout
from lateen.envoy.resources import CLUSTER, ROUTE, EnvoyResource, EnvoyResources
from tests.properties.length import examples

GATEWAY, SIDECARS = "gateway", ("one", "two")
HOSTS = ("a", "b", "c")


def resource(name: str) -> EnvoyResource:
    return EnvoyResource(name, f"version of {name}", name.encode())


def having(hosts: frozenset[str]) -> EnvoyResources:
    named = {host: resource(host) for host in hosts}
    return EnvoyResources({CLUSTER: named, ROUTE: dict(named)})


class Mesh:
    """Proxies that answer when they are told to; each change is the same set of hosts for all."""

    def __init__(self) -> None:
        self.now = 0.0
        self.has: dict[str, EnvoyResources] = {}
        self.pending: set[str] = set()
        self.rollout = Rollout(self.deliver, lambda name: name not in self.pending)

    def deliver(self, name: str, resources: EnvoyResources | None) -> None:
        assert resources is not None
        if name in self.has:
            self.pending.add(name)
        self.has[name] = resources

    def change(self, hosts: frozenset[str]) -> None:
        for name in (*SIDECARS, GATEWAY):
            self.rollout.aim(name, having(hosts), is_gateway=name == GATEWAY)
        self.rollout.start(self.now)

    def answer(self, name: str) -> None:
        self.pending.discard(name)
        self.rollout.progress(self.now)

    def routes(self, name: str) -> set[str]:
        return set(self.has[name].by_type[ROUTE])

    def check(self) -> None:
        for name in SIDECARS:
            assert self.routes(name) <= self.routes(GATEWAY)
        for name in (*SIDECARS, GATEWAY):
            assert self.routes(name) <= set(self.has[name].by_type[CLUSTER])


sets = st.frozensets(st.sampled_from(HOSTS))
steps = st.lists(st.one_of(sets, st.sampled_from((*SIDECARS, GATEWAY))), max_size=30)


@given(sets, steps)
@examples(100, 5000)
def test_nobody_sends_where_nobody_serves(first: frozenset[str], taken: list[frozenset[str] | str]) -> None:
    mesh, last = Mesh(), first
    mesh.change(first)
    for step in taken:
        if isinstance(step, str):
            mesh.answer(step)
        else:
            last = step
            mesh.change(step)
        mesh.check()
    while mesh.pending:
        mesh.answer(sorted(mesh.pending)[0])
        mesh.check()
    assert all(_versions(mesh.has[name]) == _versions(having(last)) for name in (*SIDECARS, GATEWAY))


def test_a_proxy_that_does_not_answer_holds_up_the_others_for_a_while_only() -> None:
    mesh = Mesh()
    mesh.change(frozenset("a"))
    mesh.change(frozenset("b"))
    mesh.answer(GATEWAY)
    mesh.answer("one")
    assert mesh.routes("one") == {"a"}
    mesh.now += PATIENCE_S
    mesh.rollout.progress(mesh.now)
    assert mesh.routes("one") == {"b"}


def _versions(resources: EnvoyResources) -> dict[str, set[str]]:
    return {kind: set(named) for kind, named in resources.by_type.items()}
