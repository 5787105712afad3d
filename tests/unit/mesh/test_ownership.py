"""Whose host it is: what a VirtualService of another namespace may say of it, where the mesh holds hosts to owners."""

from __future__ import annotations

import pytest

from lateen.control.store import ResourceStore
from lateen.mesh.build import build_snapshot
from lateen.mesh.model import MeshSnapshot
from lateen.mesh.routing import mesh_hosts
from lateen.mesh.traffic_policy import destination_policy
from lateen.mesh.visibility import host_matches
from lateen.settings import Settings
from lateen.sources.files import FileEvent

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop}
spec: {selector: {app: reviews}, ports: [{name: http, port: 80}]}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: out, namespace: shop}
spec: {hosts: [api.example], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: both, namespace: evil}
spec: {hosts: [both.example], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
---
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: both, namespace: shop}
spec: {hosts: [both.example], ports: [{name: http, number: 80, protocol: HTTP}], resolution: DNS}
---
"""
ROUTE = "http: [{route: [{destination: {host: thief.evil.svc.cluster.local}}]}]"
REVIEWS = "reviews.shop.svc.cluster.local"


def held(text: str, *, on: bool = True) -> MeshSnapshot:
    store = ResourceStore("default")
    store.apply(FileEvent("mesh.yaml", (SERVICES + text).encode()))
    assert not [finding for finding in store.findings() if finding.is_error]
    return build_snapshot(Settings(host_ownership=on), store.resources(), [])


def route(hosts: str, namespace: str = "evil", more: str = "") -> str:
    head = f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: v, namespace: {namespace}}}\n"
    return f"{head}spec: {{hosts: [{hosts}], {more}{ROUTE}}}\n"


def speaks(snapshot: MeshSnapshot, host: str, client: str) -> bool:
    return any(host_matches(bound.host, host) for bound in mesh_hosts(snapshot, client))


def warned(snapshot: MeshSnapshot) -> list[str]:
    return [finding.origin.field for finding in snapshot.findings if finding.code == "host-of-another"]


@pytest.mark.parametrize("hosts", [REVIEWS, "'*.shop.svc.cluster.local'", "'*.local'", f"none.example, {REVIEWS}"])
def test_calls_of_others_are_not_led_away(hosts: str) -> None:
    snapshot = held(route(hosts))
    assert [speaks(snapshot, REVIEWS, client) for client in ("shop", "third", "evil")] == [False, False, True]
    assert warned(snapshot) == [f"spec.hosts[{1 if ',' in hosts else 0}]"]
    assert speaks(held(route(hosts), on=False), REVIEWS, "third")


@pytest.mark.parametrize(
    ("host", "namespace", "more"),
    [
        (REVIEWS, "shop", ""),
        (REVIEWS, "istio-system", ""),
        ("none.example", "evil", ""),
        ("both.example", "evil", ""),
    ],
)
def test_owners_the_root_namespace_and_hosts_of_nobody_hold_for_all(host: str, namespace: str, more: str) -> None:
    snapshot = held(route(host, namespace, more))
    assert speaks(snapshot, host, "third")
    assert warned(snapshot) == []


def test_what_is_for_its_own_clients_or_a_gateway_alone_is_left() -> None:
    for more in ("exportTo: ['.'], ", "exportTo: [evil], ", "gateways: [shop/edge], "):
        assert warned(held(route(REVIEWS, more=more))) == []
    assert warned(held(route("api.example"))) == ["spec.hosts[0]"]


def test_a_rule_of_a_third_namespace_has_no_effect_on_others_at_all() -> None:
    rule = (
        "apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {name: r, namespace: evil}\n"
        f"spec: {{host: {REVIEWS}, trafficPolicy: {{tls: {{mode: DISABLE}}}}}}\n"
    )
    snapshot = held(rule, on=False)
    service = snapshot.services[REVIEWS]
    assert destination_policy(snapshot, "third", (), service) is None
    assert destination_policy(snapshot, "evil", (), service) is not None
