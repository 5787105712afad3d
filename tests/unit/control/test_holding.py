"""Files of one change may be written in either order: what needs another waits, and nothing that is in use goes."""

from __future__ import annotations

import itertools

import pytest

from lateen.control.holding import settle
from tests.unit.plan.building import resources, service

DOMAIN = "cluster.local"


def rule(*subsets):
    listed = ", ".join(f"{{name: {name}, labels: {{version: {name}}}}}" for name in subsets)
    return resources(f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: a}}
spec: {{host: a, subsets: [{listed}]}}
""")[0]


def route(*subsets, name="a"):
    parts = ", ".join(f"{{destination: {{host: a, subset: {subset}}}, weight: 1}}" for subset in subsets)
    return resources(f"""
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {name}}}
spec: {{hosts: [a], http: [{{route: [{parts}]}}]}}
""")[0]


SERVICE = resources(service("a"))[0]


def names(found):
    return {resource.key.kind: resource for resource in found}


def test_a_route_waits_for_its_subset_and_then_holds():
    before = (SERVICE, rule("v1"), route("v1"))
    held, findings = settle(before, (SERVICE, rule("v1"), route("v2")), DOMAIN)
    assert names(held)["VirtualService"] == route("v1")
    assert "no DestinationRule defines subset v2" in findings[0].message
    both = (SERVICE, rule("v2"), route("v2"))
    assert settle(held, both, DOMAIN) == (both, ())


def test_a_subset_in_use_stays_until_the_route_leaves_it():
    before = (SERVICE, rule("v1"), route("v1"))
    held, findings = settle(before, (SERVICE, rule("v2"), route("v1")), DOMAIN)
    assert names(held)["DestinationRule"] == rule("v1")
    assert "still sends" in findings[0].message
    both = (SERVICE, rule("v2"), route("v2"))
    assert settle(held, both, DOMAIN) == (both, ())


def test_a_removed_rule_stays_while_it_is_used():
    held, findings = settle((SERVICE, rule("v1"), route("v1")), (SERVICE, route("v1")), DOMAIN)
    assert names(held)["DestinationRule"] == rule("v1")
    assert len(findings) == 1


def test_a_new_route_without_its_subset_waits_outside():
    held, findings = settle((SERVICE,), (SERVICE, route("v1")), DOMAIN)
    assert held == (SERVICE,)
    assert "it is not used until one does" in findings[0].message


def test_with_nothing_before_all_holds_and_is_told():
    wanted = (SERVICE, route("v1"))
    held, findings = settle((), wanted, DOMAIN)
    assert held == wanted
    assert "requests to it fail" in findings[0].message


def test_a_route_that_was_as_wrong_before_is_not_held_back():
    before = settle((), (SERVICE, route("v9")), DOMAIN)[0]
    held, _ = settle(before, (SERVICE, route("v9", "v9")), DOMAIN)
    assert names(held)["VirtualService"] == route("v9", "v9")


@pytest.mark.parametrize("order", list(itertools.permutations(("rule", "route"))))
def test_a_swap_never_dangles_in_either_order(order):
    holding = {"rule": rule("v1"), "route": route("v1")}
    after = {"rule": rule("v2"), "route": route("v2")}
    effective = (SERVICE, *holding.values())
    for part in order:
        holding[part] = after[part]
        effective, _ = settle(effective, (SERVICE, *holding.values()), DOMAIN)
        assert settle((), effective, DOMAIN)[1] == ()
    assert names(effective) == names((SERVICE, *after.values()))
