"""What a spare Envoy refuses never reaches a proxy, and the resource that it comes of is told with Envoy's reason."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster

from lateen.control.approval import Approval
from lateen.control.coordinator import Coordinator
from lateen.control.trial import Trial
from lateen.envoy import wire
from lateen.envoy.resources import CLUSTER, LISTENER, ROUTE, EnvoyResource, EnvoyResources
from lateen.mesh.model import Workload
from lateen.resources.resource import Resource
from lateen.settings import Settings
from lateen.values.names import ResourceKey
from tests.envoy.filter_support import envoy_filter, lua, patch
from tests.unit.plan.building import resources, service, workload

CLIENT = workload("client", address="240.241.0.2")
UNKNOWN = '"%NOSUCHCOMMAND(1)%"'
"""A format that our checks do not know to be wrong."""


def route(name: str, value: str) -> Resource:
    return resources(f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec:
  hosts: [{name}]
  http:
  - headers: {{request: {{set: {{x-a: {value}}}}}}}
    route: [{{destination: {{host: {name}}}}}]
""")[0]


class Mesh:
    """A coordinator behind an approval, as the control plane has them."""

    def __init__(self) -> None:
        self.given: dict[str, EnvoyResources | None] = {}
        self.coordinator = Coordinator(Settings(), self.given.__setitem__)
        self.approval = Approval(Trial())

    def update(self, wanted: Sequence[Resource], running: Sequence[Workload] = (CLIENT,)) -> None:
        async def go() -> None:
            draft = await self.approval.approved(
                lambda refused: self.coordinator.draft(tuple(wanted), running, refused),
                self.coordinator.effective,
                wanted,
            )
            self.coordinator.adopt(draft)

        asyncio.run(go())

    def routes(self) -> bytes:
        given = self.given[CLIENT.id]
        assert given is not None
        return b"".join(found.body for found in given.by_type[ROUTE].values())

    def refusals(self) -> Mapping[str, str]:
        return {
            finding.origin.name: finding.message
            for finding in self.coordinator.findings
            if finding.code == "refused-by-envoy"
        }


SERVICES = resources("".join(service(name) for name in "abcd"))


def test_the_last_good_version_goes_on_and_the_rest_of_the_change_holds() -> None:
    mesh = Mesh()
    mesh.update((*SERVICES, *(route(name, "first") for name in "abcd")))
    assert not mesh.refusals()
    mesh.update((*SERVICES, route("a", "second"), route("b", UNKNOWN), route("c", "second"), route("d", "second")))
    assert list(mesh.refusals()) == ["b"]
    assert "NOSUCHCOMMAND" in mesh.refusals()["b"]
    assert "its last version goes on" in mesh.refusals()["b"]
    assert (mesh.routes().count(b"first"), mesh.routes().count(b"second")) == (1, 3)
    assert b"NOSUCH" not in mesh.routes()


def test_a_refused_resource_that_is_mended_holds() -> None:
    mesh = Mesh()
    mesh.update((*SERVICES, route("a", UNKNOWN)))
    assert "it is not used" in mesh.refusals()["a"]
    mesh.update((*SERVICES, route("a", UNKNOWN), route("b", "other")))
    assert list(mesh.refusals()) == ["a"]
    mesh.update((*SERVICES, route("a", "mended")))
    assert not mesh.refusals()
    assert b"mended" in mesh.routes()


def test_several_are_found_among_many() -> None:
    mesh = Mesh()
    mesh.update((*SERVICES, route("a", "fine"), route("b", UNKNOWN), route("c", UNKNOWN), route("d", "fine")))
    assert sorted(mesh.refusals()) == ["b", "c"]
    assert mesh.routes().count(b"fine") == 2


class Broken(Trial):
    """A spare Envoy to which no cluster is good."""

    async def refused(self, resources: object) -> dict[tuple[str, str, str], str]:
        pairs: list[tuple[str, EnvoyResource]] = list(resources)  # type: ignore[call-overload]
        return {(kind, one.name, one.version): "no" for kind, one in pairs if kind == CLUSTER}


@pytest.mark.parametrize("name", ["outbound|80||a.default.svc.cluster.local"])
def test_what_nobody_wrote_is_left_out_and_told(name: str) -> None:
    mesh = Mesh()
    mesh.approval = Approval(Broken())
    mesh.update(SERVICES)
    given = mesh.given[CLIENT.id]
    assert given is not None
    assert name not in given.by_type[CLUSTER]
    assert "proxies do without it" in mesh.refusals()["mesh"]


def test_a_key_is_not_held_back_for_ever() -> None:
    mesh = Mesh()
    mesh.update((*SERVICES, route("a", UNKNOWN)))
    mesh.update(SERVICES)
    assert not mesh.refusals()
    assert ResourceKey("VirtualService", "default", "a") not in {one.key for one in mesh.coordinator.effective}


def test_an_envoy_filter_that_envoy_refuses_is_quarantined_and_the_others_hold() -> None:
    mesh = Mesh()
    place = "cluster: {service: a.default.svc.cluster.local}"
    good = envoy_filter("good", patch("CLUSTER", "MERGE", "{connect_timeout: 7s}", place))
    bad = envoy_filter("bad", patch("HTTP_FILTER", "INSERT_FIRST", lua("this is not Lua")))
    mesh.update((*SERVICES, *resources(good + bad), route("a", "first")))
    assert list(mesh.refusals()) == ["bad"]
    assert "script load error" in mesh.refusals()["bad"]
    refused = next(found for found in mesh.coordinator.findings if found.origin.name == "bad")
    assert (refused.origin.kind, refused.is_error) == ("EnvoyFilter", True)
    assert (refused.origin.field, refused.origin.line > 1) == ("spec.configPatches[0]", True)
    given = mesh.given[CLIENT.id]
    assert given is not None
    assert b"this is not Lua" not in b"".join(found.body for found in given.by_type[LISTENER].values())
    cluster = Cluster.FromString(given.by_type[CLUSTER]["outbound|80||a.default.svc.cluster.local"].body)
    assert cluster.connect_timeout.seconds == 7
    mended = envoy_filter("bad", patch("HTTP_FILTER", "INSERT_FIRST", lua("function envoy_on_request(h) end")))
    mesh.update((*SERVICES, *resources(good + mended), route("a", "first")))
    assert not mesh.refusals()


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        (Cluster(name="a", lb_policy=77), "LbPolicy: value must be one of the defined enum values"),  # type: ignore[arg-type]
        (Cluster(name="a", connect_timeout={"seconds": -1}), "Expected positive duration"),
    ],
)
def test_of_a_message_that_envoy_quotes_what_is_wrong_with_it_is_told(cluster: Cluster, told: str) -> None:
    (reason,) = asyncio.run(Trial().refused([(CLUSTER, wire.resource("a", cluster))])).values()
    assert told in reason
    assert "goo.gle" not in reason


def test_what_keeps_envoy_from_answering_is_refused_too() -> None:
    mesh = Mesh()
    mesh.approval = Approval(Trial(limit=3))
    endless = envoy_filter("endless", patch("HTTP_FILTER", "INSERT_FIRST", lua("while true do end")))
    mesh.update((*SERVICES[:1], *resources(endless), route("a", "first")))
    assert list(mesh.refusals()) == ["endless"]
    assert "does not answer" in mesh.refusals()["endless"]
    assert b"first" in mesh.routes()
